"""Topics as sources, against what librdkafka wrote."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.kafka.chaos import wait_for
from tests.kafka.jobs import kafka, live, make, rows_of, run, running, table_of, values, wait_for_rows
from tests.kafka.topics import Record, Topics
from velostream.config.schema import FailureConfig, ProcessorConfig
from velostream.connectors.file.source import FileSourceConfig
from velostream.connectors.kafka.queue import Queue
from velostream.connectors.kafka.source import KafkaKeyConfig, KafkaSource
from velostream.runtime.failures.dead_letters import read_dead_letters
from velostream.runtime.job import Job
from velostream.runtime.replay import replay
from velostream.testing.oracle import answer

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
NOON = 1_700_000_000_000


def ids(numbers: Any) -> list[tuple[int]]:
    return [(number,) for number in numbers]


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_every_compression_is_read(topics: Topics, codec: str) -> None:
    topic = topics.create()
    topics.produce(topic, values(range(2000)), compression=codec)
    report, rows = run("SELECT id FROM t", {"t": kafka(topics.address, topic)})
    assert rows == ids(range(2000))
    assert report.records["in"] == 2000


def test_batches_of_different_compressions_stand_side_by_side(topics: Topics) -> None:
    topic = topics.create()
    for number, codec in enumerate(CODECS):
        topics.produce(topic, values(range(100 * number, 100 * number + 100)), compression=codec)
    assert run("SELECT id FROM t", {"t": kafka(topics.address, topic)})[1] == ids(range(500))


def test_csv_values_have_no_header_and_do_not_run_into_each_other(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create()
    topics.produce(topic, [b"1,one", b'2,"two', b"3,three", b'4,"fo,ur"', b'"', b"5,five,more", b"6,six"])
    letters = tmp_path / "letters.ndjson"
    report, rows = run(
        "SELECT id, name FROM t",
        {"t": kafka(topics.address, topic, format="csv", schema={"id": "BIGINT", "name": "VARCHAR"})},
        failure=FailureConfig(strategy="send_to_dlq", dlq_path=str(letters)),
    )
    assert rows == [(1, "one"), (3, "three"), (4, "fo,ur"), (6, "six")]
    assert report.records["failed"] == 3
    found = [(letter.offset, letter.code, letter.data.strip()) for letter in read_dead_letters(letters)]
    assert found == [
        (1, "csv.quote", b'2,"two'),
        (4, "csv.quote", b'"'),
        (5, "csv.fields", b"5,five,more"),
    ]


def test_a_schema_is_inferred_from_the_first_messages(topics: Topics) -> None:
    topic = topics.create(partitions=3)
    topics.produce(topic, [Record(b'{"id": 7, "price": 1.5, "_key": "of the value"}', partition=1)])
    _, rows = run("SELECT *, _key FROM t", {"t": kafka(topics.address, topic, schema={})})
    assert rows == [(7, 1.5, None)]


def test_a_value_over_several_lines_is_one_record(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, [json.dumps({"id": number}, indent=2).encode() for number in range(10)])
    assert run("SELECT id FROM t", {"t": kafka(topics.address, topic)})[1] == ids(range(10))


# --- what tells of a message -------------------------------------------------------------------------


def test_a_message_tells_of_itself(topics: Topics) -> None:
    topic = topics.create(partitions=2)
    headers = (("trace", b"a"), ("note", b'say "hi"\n'), ("trace", b"b"), ("none", None))
    topics.produce(
        topic,
        [
            Record(b'{"id": 1}', b"key", 0, NOON, headers),
            Record(b'{"id": 2}', None, 0, NOON + 1),
            Record(b'{"id": 3}', b"", 1, NOON + 2),
        ],
    )
    sql = "SELECT id, _topic, _partition, _offset, _timestamp, _key, _headers FROM t"
    source = kafka(topics.address, topic)
    job = make(sql, {"t": source})
    job.run()
    noon = datetime.fromtimestamp(NOON / 1000, UTC).replace(tzinfo=None)
    rows = rows_of(job)
    assert [row[:4] for row in rows] == [(1, topic, 0, 0), (2, topic, 0, 1), (3, topic, 1, 0)]
    assert [row[4].replace(microsecond=0) for row in rows] == [noon] * 3
    assert [row[4].microsecond for row in rows] == [0, 1000, 2000]
    assert [row[5] for row in rows] == ["key", None, ""]
    assert [json.loads(row[6]) if row[6] else None for row in rows] == [
        [{"key": name, "value": None if value is None else value.decode()} for name, value in headers],
        None,
        None,
    ]
    assert table_of(job).schema.types == [
        pa.int64(),
        pa.string(),
        pa.int64(),
        pa.int64(),
        pa.timestamp("us"),
        pa.string(),
        pa.string(),
    ]


def test_a_star_has_the_columns_of_the_value_the_key_and_headers(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, [Record(b'{"id": 1}', b"12.50", headers=(("trace", b"no"), ("trace", b"17")))])
    source = kafka(
        topics.address,
        topic,
        key=KafkaKeyConfig(columns={"price": "DECIMAL(6, 2)"}),
        header_columns={"trace": "BIGINT", "other": "VARCHAR"},
    )
    assert run("SELECT * FROM t", {"t": source})[1] == [(1, Decimal("12.50"), 17, None)]


def test_the_columns_of_a_compound_key_are_read(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(
        topic,
        [
            Record(b'{"id": 1}', b'{"symbol": "A", "day": 3}'),
            Record(b'{"id": 2}', None),
            Record(b'{"id": 3}', b"no object"),
            Record(b'{"id": 4}', b'{\n"symbol": "B"\n}'),
            Record(b'{"id": 5}', b""),
        ],
    )
    key = KafkaKeyConfig(format="json", columns={"symbol": "VARCHAR", "day": "BIGINT"})
    report, rows = run("SELECT day, id, symbol, _offset FROM t", {"t": kafka(topics.address, topic, key=key)})
    assert rows == [(3, 1, "A", 0), (None, 2, None, 1), (None, 4, "B", 3)]
    assert report.records["failed"] == 2
    # Who asks for no column of the key does not look at it.
    assert run("SELECT id FROM t", {"t": kafka(topics.address, topic, key=key)})[0].records["failed"] == 0


def test_raw_keys_are_shown_in_hexadecimal(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, [Record(b'{"id": 1}', b"\x00\xffA"), Record(b'{"id": 2}', None)])
    source = kafka(topics.address, topic, key=KafkaKeyConfig(format="raw"))
    assert run("SELECT id, _key FROM t", {"t": source})[1] == [(1, "00ff41"), (2, None)]


def test_a_window_can_go_by_the_time_of_the_message(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, [Record(v, timestamp=NOON + 20_000 * n) for n, v in enumerate(values(range(9)))])
    source = kafka(topics.address, topic, event_time="_timestamp")
    _, rows = run(
        "SELECT COUNT(*) AS n FROM t WINDOW TUMBLING(_timestamp, INTERVAL '1' MINUTE)", {"t": source}
    )
    # Noon is 20 s past the minute.
    assert rows == [(1,), (2,), (3,), (3,)]


# --- records that fail --------------------------------------------------------------------------------


def test_a_record_that_fails_is_named_by_partition_and_offset(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create(partitions=2)
    topics.produce(
        topic,
        [
            Record(b'{"id": 1}', partition=1),
            Record(b'{"id": "x"}', partition=1),
            Record(None, b"gone", partition=1),
            Record(b" ", partition=1),
            Record(b'{"id": 2} {"id": 3}', partition=1),
            Record(b'{"id": 4}', partition=1),
        ],
    )
    letters = tmp_path / "letters.ndjson"
    report, rows = run(
        "SELECT id FROM t WHERE id > 1",
        {"t": kafka(topics.address, topic)},
        failure=FailureConfig(strategy="send_to_dlq", dlq_path=str(letters)),
    )
    assert rows == [(4,)]
    assert report.records == {**report.records, "in": 6, "used": 1, "filtered": 1, "failed": 4}
    found = [(letter.partition, letter.offset, letter.code) for letter in read_dead_letters(letters)]
    assert found == [
        (f"{topic}-1", 1, "type.bigint"),
        (f"{topic}-1", 2, "kafka.null_value"),
        (f"{topic}-1", 3, "kafka.empty_value"),
        (f"{topic}-1", 4, "json.syntax"),
    ]


def test_dead_letters_of_a_topic_are_replayed(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create()
    topics.produce(topic, [b'{"id": 1}', b'{"id": "x"}', Record(None, b"key")])
    letters = tmp_path / "letters.ndjson"
    keep = FailureConfig(strategy="send_to_dlq", dlq_path=str(letters))
    job = make("SELECT * FROM t", {"t": kafka(topics.address, topic)}, failure=keep)
    assert job.run().records["failed"] == 2
    job.config.sources["t"].schema = {"id": "VARCHAR"}
    again = Job(replay(job.config, letters))
    assert again.run().records["in"] == 1
    assert rows_of(again) == [("x",)]


def test_tombstones_can_be_skipped_and_count_nowhere(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, [Record(None, b"k"), *values([1]), Record(None, b"k"), Record(b""), *values([2])])
    report, rows = run("SELECT id, _offset FROM t", {"t": kafka(topics.address, topic, tombstones="skip")})
    assert rows == [(1, 1), (2, 4)]
    assert (report.records["in"], report.records["failed"]) == (3, 1)


@pytest.mark.parametrize(
    ("column", "code"), [("_key", "kafka.key"), ("price", "kafka.key"), ("_headers", "kafka.header")]
)
def test_what_cannot_be_read_beside_the_value_fails_the_record(
    topics: Topics, tmp_path: Path, column: str, code: str
) -> None:
    topic = topics.create()
    good = [Record(value, b"1", headers=(("h", b"x"),)) for value in values(range(20))]
    bad = Record(b'{"id": 20}', b"\xff", headers=(("h", b"\xff"),))
    topics.produce(topic, [*good[:7], bad, *good[7:]])
    letters = tmp_path / "letters.ndjson"
    report, rows = run(
        f"SELECT id, {column} FROM t",
        {"t": kafka(topics.address, topic, key=KafkaKeyConfig(columns={"price": "BIGINT"}))},
        failure=FailureConfig(strategy="send_to_dlq", dlq_path=str(letters)),
    )
    assert [row[0] for row in rows] == list(range(20))
    (letter,) = read_dead_letters(letters)
    assert (letter.offset, letter.code, letter.column) == (7, code, column)
    assert report.records["failed"] == 1


# --- offsets that nobody can see ------------------------------------------------------------------------


def test_aborted_transactions_are_not_seen(topics: Topics) -> None:
    topic = topics.create()
    topics.produce_in_transaction(topic, values([1, 2]))
    topics.produce_in_transaction(topic, values([3, 4]), commit=False)
    topics.produce(topic, values([5]))
    topics.produce_in_transaction(topic, values([6]))
    topics.produce_in_transaction(topic, values([7]), commit=False)
    source = kafka(topics.address, topic)
    assert run("SELECT id FROM t", {"t": source})[1] == ids([1, 2, 5, 6])
    source.options = {"isolation.level": "read_uncommitted"}
    assert run("SELECT id FROM t", {"t": source})[1] == ids(range(1, 8))


def test_a_bounded_run_ends_behind_a_topic_of_aborted_records_alone(topics: Topics) -> None:
    topic = topics.create()
    topics.produce_in_transaction(topic, values([3, 4]), commit=False)
    report, rows = run("SELECT id FROM t", {"t": kafka(topics.address, topic)})
    assert (rows, report.records["in"]) == ([], 0)


def test_gaps_that_compaction_leaves_are_no_records(topics: Topics) -> None:
    topic = topics.create(
        cleanup_policy="compact", segment_ms=100, min_cleanable_dirty_ratio=0.01, max_compaction_lag_ms=100
    )
    for number in range(6):
        # Each in a batch of its own.
        topics.produce(topic, [Record(value, b"same") for value in values([2 * number, 2 * number + 1])])
    topics.produce(topic, [Record(values([100])[0], b"other")])
    written = 13
    deadline = time.monotonic() + 30
    while len(before := topics.consume(topic)) == written:
        assert time.monotonic() < deadline, "the broker has compacted nothing"
        # The cleaner looks at segments that are closed: a message later.
        topics.produce(topic, [Record(values([101])[0], b"other")])
        written += 1
    for until in (0, 3, 6, 9, written):
        source = kafka(topics.address, topic, until="offsets", until_offsets={"0": until})
        _, rows = run("SELECT _offset FROM t", {"t": source})
        after = topics.consume(topic)
        # The broker may compact on meanwhile.
        read = {offset for (offset,) in rows}
        assert {record.offset for record in after} & set(range(until)) <= read
        assert read <= {record.offset for record in before} & set(range(until))


# --- where it begins and ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, range(10)),
        ({"start": "earliest"}, range(10)),
        ({"start": "latest"}, ()),
        ({"start": "offsets", "start_offsets": {"0": 4}}, range(4, 10)),
        ({"start": "timestamp", "start_timestamp": str(NOON + 6)}, range(6, 10)),
        ({"start": "timestamp", "start_timestamp": "2023-11-14T22:13:20.007Z"}, range(7, 10)),
        ({"start": "timestamp", "start_timestamp": "2033-01-01"}, ()),
        ({"until": "offsets", "until_offsets": {"0": 4}}, range(4)),
        ({"until": "offsets", "until_offsets": {"0": 0}}, ()),
        ({"until": "timestamp", "until_timestamp": str(NOON + 6)}, range(6)),
        ({"until": "earliest"}, ()),
        ({"start": "offsets", "start_offsets": {"0": 8}, "until": "offsets", "until_offsets": {"0": 3}}, ()),
    ],
)
def test_reading_begins_and_ends_where_it_is_told(
    topics: Topics, keys: dict[str, Any], expected: Any
) -> None:
    topic = topics.create()
    topics.produce(topic, [Record(value, timestamp=NOON + n) for n, value in enumerate(values(range(10)))])
    assert run("SELECT id FROM t", {"t": kafka(topics.address, topic, **keys)})[1] == ids(expected)


def test_a_run_up_to_an_offset_waits_for_it(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, values(range(3)))
    source = kafka(topics.address, topic, until="offsets", until_offsets={"0": 5})
    job = make("SELECT id FROM t", {"t": source})
    with running(job):
        wait_for_rows(job, 3)
        assert not job.state.ended
        topics.produce(topic, values(range(3, 9)))
        assert job.wait(30)
    assert rows_of(job) == ids(range(5))


def test_a_live_topic_is_read_as_it_grows_and_positions_are_committed(topics: Topics) -> None:
    topic = topics.create(partitions=2)
    group = topics.unused("group")
    source = live(topics.address, topic, start="committed", group=group)
    job = make("SELECT id FROM t", {"t": source})
    with running(job):
        for number in range(5):
            topics.produce(topic, [Record(values([number])[0], partition=number % 2)])
            assert wait_for_rows(job, number + 1) == ids(range(number + 1))
        prepared = job._prepared
        assert prepared is not None
        prepared.sources["t"].committed({f"{topic}-0": 2, f"{topic}-1": 1})
    assert topics.committed(group, topic) == [2, 1]
    again = make("SELECT id FROM t", {"t": source})
    with running(again):
        assert wait_for_rows(again, 2) == ids([3, 4])
    until = kafka(topics.address, topic, until="committed", group=group)
    assert run("SELECT id FROM t", {"t": until})[1] == ids([0, 1, 2])


# --- partitions, lanes, other sources -----------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 8])
@pytest.mark.parametrize(
    "processor",
    [
        ProcessorConfig(version="v1"),
        ProcessorConfig(version="v2", partitions=4),
        ProcessorConfig(version="v2", partitions=2, block_records=7),
        ProcessorConfig(version="v1", block_size="1B", queue_size="1KiB"),
    ],
    ids=["v1", "v2:4", "v2:2 by 7 records", "v1 by small blocks"],
)
def test_an_aggregate_is_what_duckdb_computes(
    topics: Topics, partitions: int, processor: ProcessorConfig
) -> None:
    topic = topics.create(partitions=partitions)
    count = 3000
    table = pa.table(
        {
            "symbol": [f"S{number * 7919 % 13}" for number in range(count)],
            "price": [number * 31 % 997 for number in range(count)],
        }
    )
    topics.produce(
        topic,
        [Record(json.dumps(row).encode(), row["symbol"].encode()) for row in table.to_pylist()],
        compression="lz4",
        batch_size=4096,
    )
    sql = "SELECT symbol, COUNT(*) AS n, SUM(price) AS total, MAX(price) AS top FROM t GROUP BY symbol"
    source = kafka(topics.address, topic, schema={"symbol": "VARCHAR", "price": "BIGINT"})
    report, rows = run(sql, {"t": source}, processor=processor)
    assert rows == sorted(tuple(row.values()) for row in answer(sql, {"t": table}).to_pylist())
    assert report.records["in"] == count


def test_several_topics_are_one_source(topics: Topics) -> None:
    one, two = topics.create(name="several-a"), topics.create(partitions=2, name="several-b")
    topics.create(name="other")
    topics.produce(one, values([1]))
    topics.produce(two, [Record(values([2])[0], partition=1)])
    sql = "SELECT id, _topic, _partition FROM t"
    expected = [(1, one, 0), (2, two, 1)]
    by_list = kafka(topics.address, topics=[one, two])
    assert run(sql, {"t": by_list})[1] == expected
    run_of = one.removeprefix("several-a-").rsplit("-", 1)[0]
    by_pattern = kafka(topics.address, topic_pattern=rf"several-[ab]-{run_of}-\d+")
    assert run(sql, {"t": by_pattern})[1] == expected


def test_a_job_reads_a_file_and_a_topic(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create(partitions=2)
    topics.produce(topic, values(range(10)))
    (tmp_path / "old.ndjson").write_bytes(b"\n".join(values(range(100, 110))) + b"\n")
    sql = """
        CREATE STREAM old_ids AS SELECT id FROM old;
        CREATE STREAM out AS SELECT id FROM t WHERE id > 6;
        """
    sources = {
        "old": FileSourceConfig(path=str(tmp_path / "old.ndjson"), schema={"id": "BIGINT"}),
        "t": kafka(topics.address, topic),
    }
    report, rows = run(sql, sources)
    assert rows == ids([7, 8, 9])
    assert report.records["in"] == 20


def test_a_job_that_does_not_read_on_lets_little_lie_ready(topics: Topics) -> None:
    topic = topics.create(partitions=2)
    count = 60_000
    topics.produce(topic, [b'{"id": %d, "text": "%s"}' % (number, b"x" * 200) for number in range(count)])
    source = live(topics.address, topic)
    job = make(
        "SELECT COUNT(*) AS n FROM t EMIT CHANGES",
        {"t": source},
        processor=ProcessorConfig(version="v1", block_size="256KiB", queue_size="1MiB"),
    )
    assert job.pause()
    with running(job):
        prepared = job._prepared
        assert prepared is not None
        kafka_source = prepared.sources["t"]
        assert isinstance(kafka_source, KafkaSource)
        queues = queues_of(kafka_source, 2)
        wait_for(lambda: all(not queue.has_room for queue in queues), "full queues")
        held = -1
        # Until no more comes.
        while held != (held := sum(queue.held_bytes for queue in queues)):
            job.wait(0.3)
        # Each what fills it, and what came with that.
        assert held <= 2 * (256 << 10) * 2
        assert job.progress().records == 0
        assert job.resume()
        job.drain(count)
    assert rows_of(job)[-1] == (count,)


def queues_of(source: KafkaSource, count: int) -> list[Queue]:
    """What lies ready of each partition, as soon as they are read."""
    deadline = time.monotonic() + 30
    while source._consumer is None or len(source._consumer._queues) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return list(source._consumer._queues.values())
