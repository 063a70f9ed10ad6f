"""Reading record batches that aiokafka wrote, and refusing what is none."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest

from tests.record_batches import Message, one_line, patched, read, rows_of, written
from velostream.kernels import CorruptBatch, MessageReader, crc32c, crc32c_by_tables, read_headers

PLAIN = [
    Message(7, 1_700_000_000_000, b"key", b'{"a": 1}', (("name", b"text"), ("nothing", None), ("", b""))),
    Message(8, 1_699_999_999_999, None, b"x" * 300, ()),
    Message(9, 1_700_000_000_500, b"", None, (("\N{SNOWMAN}", b"\xff\xfe"),)),
    Message(10, -1, b"k" * 70, b"", ()),
    Message(11, 1 << 62, None, None, ()),
]


def test_messages_are_read_as_they_were_written() -> None:
    messages = read(written(PLAIN))
    assert rows_of(messages) == PLAIN
    assert messages.nulls.tolist() == [False, False, True, False, True]
    assert messages.keys.type == pa.binary()
    assert messages.headers is not None
    assert messages.headers.type == pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def test_batches_follow_each_other_in_one_block() -> None:
    second = [Message(message.offset + 100, message.timestamp, None, message.value) for message in PLAIN]
    third = [Message(1_000, 5, b"k", b"v", (("h", b"1"),))]
    data = written(PLAIN) + written(second) + written(third)
    assert rows_of(read(data)) == PLAIN + second + third
    assert [header.base_offset for header in read_headers(data)] == [7, 107, 1_000]
    assert [header.next_offset for header in read_headers(data)] == [12, 112, 1_001]
    assert [header.base_offset for header in read_headers(data, len(written(PLAIN)))] == [107, 1_000]


def test_messages_without_headers_have_none() -> None:
    assert read(written([Message(0, 1, None, b"v")])).headers is None


@pytest.mark.parametrize("first", range(6, 13))
def test_messages_before_the_wanted_offset_are_passed_over(first: int) -> None:
    assert rows_of(read(written(PLAIN), first)) == [message for message in PLAIN if message.offset >= first]


def test_a_compacted_batch_keeps_its_offsets() -> None:
    left = [PLAIN[0], PLAIN[3], PLAIN[4]]
    data = written(left, last_delta=9)
    assert rows_of(read(data)) == left
    assert read_headers(data)[0].next_offset == 17


def test_an_empty_batch_moves_the_offset_on() -> None:
    whole = written(PLAIN)
    data = patched(whole[:61], length=49, records=0)
    [header] = read_headers(data)
    assert (header.records, header.next_offset) == (0, 12)
    assert rows_of(read(data + written([Message(12, 3, None, b"next")]))) == [Message(12, 3, None, b"next")]


def test_log_append_time_is_the_time_of_every_message() -> None:
    data = written(PLAIN, attributes=0x08, max_timestamp=77)
    assert {message.timestamp for message in rows_of(read(data))} == {77}


def test_newlines_become_carriage_returns_where_a_value_must_be_one_line() -> None:
    values = [b"\n" * n + b"a\r\nb" + b"\n" * (40 - n) for n in range(40)] + [b"\n", b"", b"plain"]
    messages = [Message(at, 1, b"\n", value) for at, value in enumerate(values)]
    assert rows_of(read(written(messages), one_line=True)) == one_line(messages)
    assert rows_of(read(written(messages))) == messages


def test_headers_grow_beyond_any_first_room() -> None:
    messages = [
        Message(at, 1, None, None, tuple((f"name {k}", b"v" * k) for k in range(at % 7)))
        for at in range(3_000)
    ]
    data = b"".join(bytes(written(messages[at : at + 500])) for at in range(0, 3_000, 500))
    assert rows_of(read(data)) == messages


def test_a_header_tells_of_its_batch() -> None:
    data = bytearray(written(PLAIN, attributes=0x10 | 0x20, codec=0))
    struct.pack_into(">i", data, 12, 5)
    struct.pack_into(">qhi", data, 43, 123, 4, 56)
    struct.pack_into(">I", data, 17, crc32c(memoryview(data)[21:]))
    [header] = read_headers(data)
    assert (header.transactional, header.control, header.log_append_time) == (True, True, False)
    assert (header.leader_epoch, header.producer_id, header.producer_epoch) == (5, 123, 4)
    assert (header.base_sequence, header.records, header.codec) == (56, 5, 0)
    assert (header.base_timestamp, header.max_timestamp) == (PLAIN[0].timestamp, 1 << 62)
    assert header.payload == slice(61, len(data))
    with pytest.raises(ValueError, match="offset 7 is a control batch"):
        MessageReader().append(header, memoryview(data)[header.payload])


def test_a_batch_that_is_cut_off_behind_others_is_left_for_later() -> None:
    whole, next_one = written(PLAIN), written([Message(12, 3, None, b"next")])
    for cut in range(len(next_one)):
        assert len(read_headers(whole + next_one[:cut])) == 1
    for cut in range(1, len(whole)):
        with pytest.raises(CorruptBatch, match=f"is cut off after {cut} bytes"):
            read_headers(whole[:cut])
    assert read_headers(b"") == []


def test_any_flipped_bit_that_the_checksum_covers_is_found() -> None:
    whole = written(PLAIN)
    for at in range(17, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(CorruptBatch, match="offset 7 has the checksum 0x") as raised:
            read_headers(damaged)
        assert raised.value.offset == 7


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"magic": 1}, "offset 7 has format version 1; only version 2"),
        ({"length": 48}, "claims a size of 60 bytes"),
        ({"length": -1}, "claims a size of 11 bytes"),
        ({"length": -(1 << 31)}, "claims a size of -"),
        ({"records": -1}, "claims -1 records"),
        ({"records": 6}, "claims 6 records up to its offset 4"),
        ({"last_delta": -1}, "claims 5 records up to its offset -1"),
        ({"base_offset": -1}, "is at no offset"),
        ({"base_offset": 1 << 62}, "is at no offset"),
    ],
)
def test_a_header_that_cannot_be_is_refused(changes: dict[str, int], reason: str) -> None:
    with pytest.raises(CorruptBatch, match=reason):
        read_headers(patched(written(PLAIN), **changes))


def of_records(*records: bytes, count: int | None = None) -> bytearray:
    """A batch of these bytes, each behind its length."""
    body = b"".join(bytes([2 * len(record)]) + record for record in records)
    head = written([Message(0, 0, None, None)])[:61]
    count = len(records) if count is None else count
    return patched(head + body, length=49 + len(body), records=count, last_delta=100)


WELL = b"\0\0\0\1\1\0"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (of_records(WELL, WELL), "record 1 has an offset that does not rise"),
        (of_records(b"\0\0\1\1\1\0"), "record 0 has an offset that does not rise"),
        (of_records(b"\0\0\xca\x01\1\1\0"), "record 0 has an offset that does not rise"),
        (of_records(b"\0\0\0\1\1\0x"), "record 0 is longer than its fields"),
        (of_records(b"\0\0\0\1\1"), "claims 1 records in 6 bytes"),
        (of_records(b"\0\0\0\x03\1\0"), "record 0 has a length that does not fit"),
        (of_records(b"\0\0\0\x04a\1\0"), "record 0 has a number that is cut off or"),
        (of_records(b"\0\0\0\1\x04a\0"), "record 0 has a number that is cut off or"),
        (of_records(b"\0\0\0\1\1\1"), "record 0 has a length that does not fit"),
        (of_records(b"\0\0\0\1\1\x04\0\1"), "record 0 has a length that does not fit"),
        (of_records(b"\0\0\0\1\1\x02\1\1"), "record 0 has a length that does not fit"),
        (of_records(b"\0\0\0\1\1\x02\0\x03"), "record 0 has a length that does not fit"),
        (of_records(b"\0\0\0\1\1\x02\2\xff\1"), "record 0 has a header whose key is not UTF-8"),
        (of_records(b"\0\0\0\1\1\x80"), "record 0 has a number that is cut off or"),
        (of_records(b"\0" + b"\x80" * 10), "record 0 has a number that is cut off or"),
        (of_records(b"\0" + b"\xff" * 9 + b"\2\0\1\1\0"), "record 0 has a number that is cut off or"),
        (of_records(b"\0\0\x80\x80\x80\x80\x10\1\1\0"), "record 0 has a number that is cut off or"),
        (of_records(WELL, count=0), "has 7 bytes and no records"),
        (of_records(WELL, b"\0\0\2\1\1\0", count=1), "has 7 bytes behind its last record"),
        (of_records(b"\0\0\0\1\1\x02\0\x0212345678"), "record 0 is longer than its fields"),
        (patched(of_records(WELL)[:61] + b"\1" + WELL, length=56), "record 0 has a length that does not fit"),
        (patched(of_records(WELL)[:61] + b"\x0e" + WELL, length=56), "record 0 goes on behind the end"),
        (patched(of_records(WELL)[:61] + b"\x80" * 7, length=56), "record 0 has a number that is cut off or"),
    ],
)
def test_records_that_cannot_be_are_refused_and_leave_the_others(data: bytearray, reason: str) -> None:
    reader = MessageReader()
    [good] = read_headers(written(PLAIN[:3]))
    reader.append(good, written(PLAIN[:3])[good.payload])
    bad_at = patched(data, base_offset=50)
    [bad] = read_headers(bad_at)
    with pytest.raises(CorruptBatch, match=f"the record batch at offset 50 .*{reason}"):
        reader.append(bad, memoryview(bad_at)[bad.payload])
    [more] = read_headers(written([Message(70, 1, b"k", b"v", (("h", None),))]))
    reader.append(more, written([Message(70, 1, b"k", b"v", (("h", None),))])[more.payload])
    rows = rows_of(reader.finish())
    assert [row.value for row in rows] == [message.value for message in PLAIN[:3]] + [b"v"]
    assert [row.headers for row in rows] == [message.headers for message in PLAIN[:3]] + [(("h", None),)]


def test_batches_must_come_in_order() -> None:
    data = written(PLAIN) + written(PLAIN)
    with pytest.raises(CorruptBatch, match="offset 7 comes behind one that ends at offset 11"):
        read(data)


def test_a_finished_reader_takes_no_more() -> None:
    reader = MessageReader()
    assert rows_of(reader.finish()) == []
    [header] = read_headers(written(PLAIN))
    with pytest.raises(ValueError, match="has finished"):
        reader.append(header, written(PLAIN)[header.payload])


def test_the_checksum_is_that_of_rfc_3720_by_any_way() -> None:
    # RFC 3720, appendix B.4.
    for data, sum in (
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ):
        assert crc32c(data) == crc32c_by_tables(data) == sum


def test_the_instruction_sums_as_the_tables_do() -> None:
    data = bytes(at * at % 251 for at in range(4 * 1536 + 9))
    for size in [*range(80), 511, 512, 513, 1535, 1536, 1537, 3071, 3072, 3080, len(data)]:
        for lead in (0, 1, 7):
            assert crc32c(data[lead:size]) == crc32c_by_tables(data[lead:size])
