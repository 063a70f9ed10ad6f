"""From fetched bytes to blocks, without a broker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from velostream.connectors.base import Limits
from velostream.connectors.kafka.fetching import Fetched
from velostream.connectors.kafka.messages import KafkaMessages
from velostream.connectors.kafka.queue import Queue
from velostream.connectors.kafka.reader import KafkaReader, unpack
from velostream.errors import ConnectorError

# Attributes of a batch: bit 4 is set in transactions, bit 5 in control batches.
TRANSACTIONAL, CONTROL = 0x10, 0x20


def batch(
    base: int, values: Sequence[bytes], producer: int = -1, transactional: bool = False, control: bool = False
) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(transactional),
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 20,
    )
    for offset, value in enumerate(values):
        builder.append(offset, 1000 + base + offset, None, value, [])
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")
    if control:
        from cython_ext.crc32c import crc32c

        built[22] |= CONTROL
        built[17:21] = crc32c(bytes(built[21:])).to_bytes(4, "big")
    return bytes(built)


def fetched(
    offset: int, next_offset: int, *batches: bytes, aborted: Sequence[tuple[int, int]] = ()
) -> Fetched:
    return Fetched(memoryview(b"".join(batches)), offset, next_offset, aborted)


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def offsets(messages: KafkaMessages) -> list[int]:
    return messages.offsets.tolist()  # type: ignore[no-any-return]


def piece(first: int, end: int) -> Fetched:
    return fetched(first, end, batch(first, numbers(first, end)))


class Reading:
    """A reader of what is put into its queue."""

    def __init__(
        self,
        offset: int = 0,
        until: int | None = None,
        limits: Limits | None = None,
        limit_bytes: int = 1 << 20,
    ) -> None:
        self.rooms = 0
        self.closed = 0
        self.queue = Queue(limit_bytes, self._room)
        self.reader = KafkaReader(
            "trades-0", self.queue, offset, until, limits or Limits(), True, self._close
        )

    def _room(self) -> None:
        self.rooms += 1

    def _close(self) -> None:
        self.closed += 1

    def spans(self) -> list[tuple[int, int, list[int]]]:
        """First and next offset, and the offsets of the messages, of each block up to an empty one."""
        found = []
        while (block := self.reader.read()) is not None and block.size:
            messages = block.load()
            assert isinstance(messages, KafkaMessages)
            found.append((block.offset, block.next_offset, offsets(messages)))
        return found


# --- unpacking ----------------------------------------------------------------------------------------


def test_messages_before_the_offset_are_left_out() -> None:
    messages = unpack([fetched(12, 15, batch(10, numbers(10, 15)))], one_line=True)
    assert offsets(messages) == [12, 13, 14]
    assert bytes(messages.values) == b"12\n13\n14\n"
    assert messages.timestamps.tolist() == [1012, 1013, 1014]


def test_records_of_aborted_transactions_are_left_out_up_to_their_mark() -> None:
    pieces = fetched(
        0,
        14,
        batch(0, [b"a"], producer=7, transactional=True),
        batch(1, [b"b"], producer=8, transactional=True),
        batch(2, [b"c"], producer=7, transactional=True),
        batch(3, [b"d"]),
        batch(4, [b"mark"], producer=7, transactional=True, control=True),
        batch(5, [b"e"], producer=7, transactional=True),
        batch(6, [b"f"], producer=7),
        batch(7, [b"mark"], producer=7, transactional=True, control=True),
        batch(8, [b"g"], producer=8, transactional=True),
        batch(9, [b"mark"], producer=8, transactional=True, control=True),
        aborted=[(8, 8), (7, 2)],
    )
    assert offsets(unpack([pieces], one_line=True)) == [0, 1, 3, 5, 6]


def test_newlines_stay_where_they_mean_something() -> None:
    pieces = [fetched(0, 1, batch(0, [b"a\nb"]))]
    assert bytes(unpack(pieces, one_line=True).values) == b"a\rb\n"
    assert bytes(unpack(pieces, one_line=False).values) == b"a\nb\n"


def test_a_damaged_batch_is_named_by_its_offset() -> None:
    reading = Reading(offset=40)
    data = bytearray(batch(40, numbers(40, 42)))
    data[-1] ^= 1
    reading.queue.put(fetched(40, 42, bytes(data)))
    block = reading.reader.read()
    assert block is not None
    with pytest.raises(
        ConnectorError, match=r"'trades-0' has a record batch that cannot be read: .*offset 40"
    ):
        block.load()


# --- blocks -------------------------------------------------------------------------------------------


def test_what_lies_ready_is_one_block_up_to_its_size() -> None:
    size = piece(0, 3).size
    reading = Reading(limits=Limits(max_bytes=2 * size))
    for first in range(0, 9, 3):
        reading.queue.put(piece(first, first + 3))
    assert reading.spans() == [(0, 6, list(range(6))), (6, 9, [6, 7, 8])]


def test_a_fetch_larger_than_a_block_is_one_block() -> None:
    reading = Reading(limits=Limits(max_bytes=1))
    reading.queue.put(piece(0, 3))
    assert reading.spans() == [(0, 3, [0, 1, 2])]


def test_a_block_moves_the_position_also_without_a_record() -> None:
    reading = Reading()
    reading.queue.put(fetched(0, 5, batch(0, [b"mark"], producer=1, transactional=True, control=True)))
    assert reading.spans() == [(0, 5, [])]


def test_an_empty_block_says_that_there_is_nothing_yet() -> None:
    block = Reading(offset=7).reader.read()
    assert block is not None
    assert (block.size, block.offset, block.next_offset) == (0, 7, 7)


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        (0, []),
        (2, [(0, 2, [0, 1])]),
        (3, [(0, 3, [0, 1, 2])]),
        (4, [(0, 3, [0, 1, 2]), (3, 4, [3])]),
        # Offset 7 is a gap; the fetch behind it tells that it is passed.
        (8, [(0, 3, [0, 1, 2]), (3, 6, [3, 4, 5]), (6, 8, [])]),
    ],
)
def test_reading_ends_before_an_offset(until: int, expected: list[tuple[int, int, list[int]]]) -> None:
    reading = Reading(until=until, limits=Limits(max_bytes=1))
    for part in (piece(0, 3), piece(3, 6), fetched(6, 12, batch(9, numbers(9, 12)))):
        reading.queue.put(part)
    assert reading.spans() == expected
    assert reading.reader.read() is None


def test_blocks_of_so_many_records_are_cut_from_what_was_fetched() -> None:
    reading = Reading(limits=Limits(records=2))
    reading.queue.put(piece(0, 5))
    reading.queue.put(piece(5, 6))
    assert reading.spans() == [(0, 2, [0, 1]), (2, 4, [2, 3]), (4, 6, [4, 5])]


def test_a_fetch_without_a_record_moves_the_position_of_blocks_of_records_too() -> None:
    reading = Reading(limits=Limits(records=2))
    reading.queue.put(fetched(0, 5, batch(0, [b"mark"], producer=1, transactional=True, control=True)))
    assert reading.spans() == [(0, 5, [])]


def test_a_position_that_was_reset_is_told_and_parts_blocks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "velostream.kafka")
    reading = Reading()
    reading.queue.put(piece(0, 3))
    reading.queue.put(piece(8, 9))
    assert reading.spans() == [(0, 3, [0, 1, 2]), (8, 9, [8])]
    assert [record.getMessage() for record in caplog.records] == [
        "'trades-0': offset 3 is gone; by auto.offset.reset reading goes on at 8"
    ]


def test_a_reader_lets_go_once() -> None:
    reading = Reading()
    reading.reader.close()
    reading.reader.close()
    assert reading.closed == 1


# --- queues -------------------------------------------------------------------------------------------


def test_a_full_queue_tells_when_it_has_room_again() -> None:
    size = piece(0, 3).size
    reading = Reading(limits=Limits(max_bytes=1), limit_bytes=size + 1)
    reading.queue.put(piece(0, 3))
    assert reading.queue.has_room
    reading.queue.put(piece(3, 6))
    assert not reading.queue.has_room
    reading.reader.read()
    assert reading.queue.has_room and reading.rooms == 1
    reading.reader.read()
    assert reading.rooms == 1


def test_an_error_comes_behind_what_was_fetched_and_stays_until_there_is_more() -> None:
    reading = Reading()
    reading.queue.put(piece(0, 3))
    reading.queue.fail(ConnectorError("gone"))
    assert reading.reader.read().next_offset == 3  # type: ignore[union-attr]
    for _ in range(2):
        with pytest.raises(ConnectorError, match="gone"):
            reading.reader.read()
    reading.queue.put(piece(3, 4))
    assert reading.spans() == [(3, 4, [3])]
    reading.queue.fail(ConnectorError("gone"))
    reading.queue.fail(None)
    assert reading.spans() == []


def test_an_error_is_over_when_it_is_not_met_again() -> None:
    queue = Queue(100, lambda: None)
    queue.fail(ConnectorError("refused"), seconds=-1.0)
    assert queue.take(100, 0.0) == []


def test_a_reader_that_waits_is_woken() -> None:
    reading = Reading()
    waiting = threading.Event()
    found: list[list[Fetched]] = []

    def take() -> None:
        waiting.set()
        found.append(reading.queue.take(1 << 20, 10.0))

    thread = threading.Thread(target=take)
    thread.start()
    waiting.wait()
    begun = time.monotonic()
    reading.queue.put(piece(0, 3))
    thread.join(10)
    assert time.monotonic() - begun < 5
    assert [part.next_offset for part in found[0]] == [3]
