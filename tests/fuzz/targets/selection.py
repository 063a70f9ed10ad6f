"""Taking rows of sliced columns of text and of every width, against Arrow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.fuzz.draw import Draw, exact_buffer, text_array
from velostream.kernels import take_rows, true_rows

TYPES = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float64())


def check(data: bytes) -> None:
    draw = Draw(data)
    lead = draw.number(10)
    step = 1 + draw.number(7)
    texts = draw.texts()
    chosen = [None if text is None else len(text) % 2 == 1 for text in texts]
    condition = pa.array([True] * lead + chosen, pa.bool_()).slice(lead)
    rows = true_rows(condition)
    expected = [row for row, flag in enumerate(chosen) if flag]
    assert (list(range(len(chosen))) if rows is None else rows.tolist()) == expected
    taken = np.arange(len(texts), dtype=np.int64)[::-step].copy()
    columns = [text_array(texts, lead), condition]
    for type in TYPES:
        width = type.bit_width // 8
        values = draw.rest()[: (lead + len(texts)) * width].ljust((lead + len(texts)) * width, b"\1")
        buffers = [None, exact_buffer(values)]
        columns.append(pa.Array.from_buffers(type, len(texts), buffers, offset=lead))
    for column in columns:
        for positions in (taken, np.array(expected, dtype=np.int64)):
            found = take_rows(column, positions)
            found.validate(full=True)
            assert found.type == column.type
            # By their text, since a NaN equals none.
            assert repr(found.to_pylist()) == repr(column.take(pa.array(positions)).to_pylist())
