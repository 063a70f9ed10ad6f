"""What was fetched of an exchange becomes rows and watermarks. No broker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from velostream.connectors.kafka.exchange_blocks import ExchangeBlock
from velostream.connectors.kafka.exchange_messages import TIMES, row_messages, watermark_message
from velostream.connectors.kafka.fetching import Fetched
from velostream.errors import ConnectorError
from velostream.kernels import BatchWriter

TASKS = 3
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
TIMED = SCHEMA.append(TIMES)


def fetched(offset: int, *values: bytes, base: int | None = None) -> Fetched:
    """Of messages from `base` on, to be read from `offset`."""
    first = offset if base is None else base
    ends = np.cumsum([len(value) + 1 for value in values], dtype=np.int64) - 1
    zeros = np.zeros(len(values), dtype=np.int32)
    [(_, data, _, _)] = BatchWriter(1 << 20).build(b"".join(v + b"\n" for v in values), ends, None, zeros)
    data[:8] = first.to_bytes(8, "big")
    return Fetched(memoryview(data), offset, first + len(values), ())


def rows_of(ids: Sequence[int], times: bool = False) -> pa.RecordBatch:
    columns = [pa.array(ids, pa.int64()), pa.array(["text"] * len(ids), pa.string())]
    if not times:
        return pa.record_batch(columns, schema=SCHEMA)
    return pa.record_batch([*columns, pa.array([id * 10 for id in ids], pa.int64())], schema=TIMED)


def message(*ids: int, times: bool = False) -> bytes:
    [value] = row_messages(1, rows_of(ids, times), 1 << 20)
    return bytes(value)


def block_of(*pieces: Fetched) -> ExchangeBlock:
    return ExchangeBlock("exchange-2", TASKS, SCHEMA, pieces)


def test_a_block_has_the_rows_and_watermarks_of_all_its_messages_in_order() -> None:
    block = block_of(
        fetched(10, message(1, 2, times=True), watermark_message(0, 5)),
        fetched(12, watermark_message(2, -1), message(3, times=True), watermark_message(0, 6)),
    )
    assert (block.offset, block.next_offset, block.input_bytes, block.heard) == (10, 15, 0, [])
    assert block.size > 0
    rows = block.load()
    assert isinstance(rows, pa.RecordBatch)
    assert rows.schema == TIMED
    assert rows.column("id").to_pylist() == [1, 2, 3]
    assert rows.column("_times").to_pylist() == [10, 20, 30]
    assert block.heard == [(0, 5), (2, -1), (0, 6)]


def test_messages_before_the_offset_are_left_out() -> None:
    block = block_of(fetched(12, message(1), watermark_message(0, 5), message(2), base=10))
    assert block.load().column("id").to_pylist() == [2]
    assert (block.heard, block.next_offset) == ([], 13)


def test_a_block_without_rows_has_the_columns() -> None:
    block = block_of(fetched(0, watermark_message(1, 5)))
    assert block.load().equals(rows_of([]))
    assert block.heard == [(1, 5)]


def test_rows_that_kernels_cannot_take_are_named_by_their_offset() -> None:
    good, other = message(1), message(2, times=True)
    damaged = bytearray(good)
    damaged[0] = 7
    for values, place in (
        ([good, bytes(damaged)], "offset 41 that cannot be read: it is of version 7"),
        # A stream has event times or it has none.
        ([good, watermark_message(0, 1), other], "offset 42 that cannot be read: its columns are id int64"),
        ([watermark_message(3, 1)], "offset 40 that cannot be read: it is of task 3, and there are 3"),
        ([b""], "offset 40 that cannot be read: it has 0 bytes"),
    ):
        with pytest.raises(ConnectorError) as caught:
            block_of(fetched(40, *values)).load()
        assert caught.value.message.startswith(f"'exchange-2' has a message at {place}")
        assert caught.value.hint is not None and "state=reset" in caught.value.hint


def test_a_damaged_record_batch_is_named_by_its_offset() -> None:
    piece = fetched(40, message(1))
    data = bytearray(piece.data)
    data[-1] ^= 1
    with pytest.raises(ConnectorError, match=r"'exchange-2' has a record batch that cannot be read: .* 40"):
        block_of(Fetched(memoryview(data), 40, 41, ())).load()
