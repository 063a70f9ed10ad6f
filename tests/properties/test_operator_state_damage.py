"""Saved state whose bytes were changed is refused or restored, and never read beyond its buffers."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.test_aggregate_twin import rows_of
from tests.properties.test_state_restore import KEY_GROUPS, batch_of, saved_nodes
from velostream.errors import StateError
from velostream.operators.aggregate import Aggregate, Keyer
from velostream.operators.saving import Changes

damages = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 2**16), st.binary(min_size=1, max_size=8)), min_size=1
)


def damaged(batch, changes):
    """A copy of the batch with other bytes at some places of its buffers."""
    columns, buffers = [], []
    for column in batch.columns:
        copies = [None if b is None else np.frombuffer(b, np.uint8).copy() for b in column.buffers()]
        shared = [None if copy is None else pa.py_buffer(copy) for copy in copies]
        columns.append(pa.Array.from_buffers(column.type, len(column), shared))
        buffers += [copy for copy in copies if copy is not None and len(copy)]
    copy = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
    # Behind the back of Arrow, which checks some of them when an array is made.
    for buffer, place, new in changes:
        chosen = buffers[buffer % len(buffers)]
        at = place % len(chosen)
        chosen[at : at + len(new)] = np.frombuffer(new, np.uint8)[: len(chosen) - at]
    return copy


@settings(max_examples=60, deadline=None)
@given(
    saved_nodes(), st.lists(rows_of, min_size=1, max_size=15), damages, st.sampled_from([1, 2]), st.booleans()
)
def test_changed_bytes_are_refused_or_make_other_state(node, rows, changes, lanes, timed):
    keyer, operator = Keyer(node), Aggregate(node)
    batch = batch_of(rows)
    times = batch.column("ts").cast(pa.int64()).to_numpy() if timed else None
    (part,) = keyer.split(batch, 1, KEY_GROUPS, times)
    operator.process(part)
    saved = operator.take_changes()
    tables = {name: damaged(table, changes) for name, table in saved.tables.items()}
    restored = Aggregate(node)
    try:
        restored.restore([Changes(tables, saved.values, True)], lanes, 0, KEY_GROUPS)
    except StateError:
        return
    restored.process(part)
    restored.take_changes()
    for sent in restored.finish():
        sent.data.validate()
