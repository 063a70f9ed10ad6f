"""Batches, decoded and put together for a test to look at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import pyarrow as pa

from velostream.connectors.base import Content
from velostream.formats.base import Decoded, Decoder
from velostream.formats.file_range import FileRange
from velostream.operators.batch import Batch


def concat(batches: Sequence[Batch]) -> Batch | None:
    """One batch of all rows in order; None when there are none. Schemas are the same."""
    batches = [batch for batch in batches if batch.rows]
    if not batches:
        return None
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches([batch.data for batch in batches]).combine_chunks()
    ops = None
    if any(batch.ops is not None for batch in batches):
        ops = np.concatenate([np.zeros(b.rows, dtype=np.uint8) if b.ops is None else b.ops for b in batches])
    times = None
    if all(batch.times is not None for batch in batches):
        times = np.concatenate([b.times for b in batches if b.times is not None])
    return Batch(table.to_batches()[0], ops, times)


def decode(decoder: Decoder, data: Content, max_rows: int) -> list[Decoded]:
    """The slices of a block's bytes, wherever they are."""
    slices: list[Decoded] = []
    at = 0
    if isinstance(data, FileRange):
        with closing(data):
            while at < len(data):
                slices.append(decoder.decode_file(data, at, max_rows))
                at = slices[-1].next
    else:
        assert isinstance(data, memoryview)
        while at < len(data):
            slices.append(decoder.decode(data, at, max_rows))
            at = slices[-1].next
    return slices
