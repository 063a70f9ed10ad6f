"""Rows become records of Kafka: what goes where, what is gathered, and what is refused. No broker."""

from __future__ import annotations

import threading
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from velostream.cli.request import all_kinds
from velostream.config.compose import Composer
from velostream.config.schema import JobConfig
from velostream.connectors.channel import Channel, ChannelSourceConfig
from velostream.connectors.kafka import codecs, settings
from velostream.connectors.kafka.outgoing import Rows
from velostream.connectors.kafka.sink import LARGE_BYTES, KafkaSink, KafkaSinkConfig, KafkaSinkWriter
from velostream.connectors.kafka.topics import flat_config
from velostream.errors import ConfigError, ConnectorError, Problems, VelostreamError
from velostream.operators.batch import DELETE, INSERT, UPDATE, Batch
from velostream.runtime.prepare import prepare

SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("venue", pa.string()),
        ("n", pa.int64()),
        ("at", pa.timestamp("us")),
        ("day", pa.date32()),
        ("price", pa.decimal128(12, 2)),
    ]
)
AT = datetime(2024, 1, 2, 3, 4, 5, 678_901)
ROW = {"symbol": "A", "venue": "X", "n": 1, "at": AT, "day": AT.date(), "price": None}


class Producer:
    """Takes what a writer sends."""

    epoch = 0

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, list[Any]]] = []
        self.error: Exception | None = None
        # As told by the broker; 0: not yet.
        self.partitions = 0
        self.changed = threading.Condition()

    def send(self, topic: str, partition: int, data: bytearray, records: int, epoch: int) -> None:
        batch = DefaultRecordBatch(bytes(data))
        assert topic == "topic"
        assert batch.validate_crc()
        with self.changed:
            self.batches.append((epoch, partition, list(batch)))
            self.changed.notify_all()

    offer = send

    def known_partitions(self, topic: str) -> int:
        return self.partitions

    def fail(self, error: Exception) -> None:
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    flush = check

    def close(self, complete: bool) -> None:
        self.check()


def sink_of(**config: Any) -> KafkaSink:
    return KafkaSink("out", KafkaSinkConfig(brokers="h:1", topic="topic", **config))


def writer_of(partitions: int = 1, schema: pa.Schema = SCHEMA, **config: Any) -> KafkaSinkWriter:
    sink = sink_of(**config)
    sink.bind(schema, ())
    return KafkaSinkWriter(sink, schema, Producer(), partitions)  # type: ignore[arg-type]


def batch_of(*rows: dict[str, Any], **more: Any) -> Batch:
    return Batch(pa.RecordBatch.from_pylist([{**ROW, **row} for row in rows], SCHEMA), **more)


def records(writer: KafkaSinkWriter, *batches: Batch) -> list[tuple[int, Any]]:
    """What is sent for the batches: partition and record, in order."""
    for batch in batches:
        writer.write(writer.encode(batch), batch.rows)
    writer.close(True)
    sent = writer._producer.batches  # type: ignore[attr-defined]
    return [(partition, record) for _, partition, batch in sent for record in batch]


def keys(writer: KafkaSinkWriter, *rows: dict[str, Any]) -> list[bytes | None]:
    return [record.key for _, record in records(writer, batch_of(*rows))]


def ms(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp() * 1000)


# Keys, partitions, times, headers.


def test_a_key_of_one_column_is_its_text() -> None:
    assert keys(writer_of(key=["symbol"]), {"symbol": "Ä b"}, {"symbol": ""}, {"symbol": None}) == [
        "Ä b".encode(),
        b"",
        None,
    ]
    assert keys(writer_of(key=["n"]), {"n": -5}) == [b"-5"]
    assert keys(writer_of(key=["at"]), {}) == [b"2024-01-02 03:04:05.678901"]
    assert keys(writer_of(key=["day"]), {}) == [b"2024-01-02"]


def test_a_key_of_several_columns_is_an_object() -> None:
    assert keys(writer_of(key=["venue", "n"]), {"venue": 'x"\n'}, {"venue": None, "n": None}) == [
        b'{"venue":"x\\"\\n","n":1}',
        b'{"venue":null,"n":null}',
    ]


def test_a_key_of_one_column_can_be_an_object_too() -> None:
    assert keys(writer_of(key=["symbol"], key_format="json"), {}) == [b'{"symbol":"A"}']


def test_the_key_is_that_of_the_stream_unless_another_is_given() -> None:
    for config, expected in (({}, b"1"), ({"key": ["venue"]}, b"X"), ({"key": []}, None)):
        sink = sink_of(**config)
        sink.bind(SCHEMA, ("n",))
        writer = KafkaSinkWriter(sink, SCHEMA, Producer(), 1)  # type: ignore[arg-type]
        assert keys(writer, {}) == [expected]


def test_records_without_a_key_go_to_one_partition_for_each_batch() -> None:
    sent = records(writer_of(3), *(batch_of({}, {}) for _ in range(4)))

    assert sorted(partition for partition, _ in sent) == [0, 0, 0, 0, 1, 1, 2, 2]


def test_round_robin_goes_on_from_batch_to_batch() -> None:
    sent = records(writer_of(3, partitioner="round_robin"), batch_of(*[{}] * 4), batch_of(*[{}] * 2))

    assert sorted(partition for partition, _ in sent) == [0, 0, 1, 1, 2, 2]


def test_a_column_can_have_the_number_of_the_partition() -> None:
    sent = records(writer_of(3, partitioner="n"), batch_of({"n": 2}, {"n": 0}))

    assert sorted((partition, record.value[-60:-40]) for partition, record in sent)[0][0] == 0
    assert [partition for partition, _ in sorted(sent, key=lambda pair: b'"n":2' in pair[1].value)] == [0, 2]


def test_partitions_that_a_topic_gets_are_used() -> None:
    writer = writer_of(2, partitioner="round_robin")
    put(writer, *[{}] * 2)
    producer_of(writer).partitions = 4

    assert sorted(partition for partition, _ in records(writer, batch_of(*[{}] * 4))) == [0, 0, 1, 1, 2, 3]


@pytest.mark.parametrize(("number", "shown"), [(3, "3"), (-1, "-1"), (None, "NULL")])
def test_a_partition_that_the_topic_does_not_have_is_an_error(number: int | None, shown: str) -> None:
    with pytest.raises(ConnectorError) as caught:
        writer_of(3, partitioner="n").encode(batch_of({"n": 0}, {"n": number}))

    assert caught.value.message == f"sink 'out': 'n' is {shown}, and the topic has the partitions 0 to 2"


def test_the_timestamp_is_the_event_time_in_milliseconds() -> None:
    times = np.array([1_700_000_000_123_999, -1, 0], dtype=np.int64)
    sent = records(writer_of(), batch_of({}, {}, {}, times=times))

    assert [record.timestamp for _, record in sent] == [1_700_000_000_123, -1, 0]


def test_the_timestamp_can_be_a_column_and_is_the_clock_where_that_is_null() -> None:
    before = ms(datetime.now(UTC).replace(tzinfo=None)) - 1
    sent = records(writer_of(timestamp="at"), batch_of({}, {"at": None}, times=np.zeros(2, np.int64)))

    assert sent[0][1].timestamp == ms(AT.replace(microsecond=678_000))
    assert before <= sent[1][1].timestamp <= before + 60_000


@pytest.mark.parametrize("config", [{}, {"timestamp": "clock"}])
def test_the_timestamp_is_the_clock_where_there_is_no_event_time(config: dict[str, Any]) -> None:
    times = np.zeros(1, np.int64) if config else None
    before = ms(datetime.now(UTC).replace(tzinfo=None)) - 1
    ((_, record),) = records(writer_of(**config), batch_of({}, times=times))

    assert before <= record.timestamp <= before + 60_000


def test_headers_are_columns_as_text() -> None:
    writer = writer_of(headers={"trace": "venue", "count": "n"})
    sent = records(writer, batch_of({}, {"venue": None, "n": 22}))

    assert [record.headers for _, record in sent] == [
        [("trace", b"X"), ("count", b"1")],
        [("trace", None), ("count", b"22")],
    ]


# Values, tombstones.


def test_values_are_the_formats_records_without_their_newline() -> None:
    row = {"venue": 'a\n"b', "price": None}
    expected = (
        b'{"symbol":"A","venue":"a\\n\\"b","n":1,"at":"2024-01-02T03:04:05.678901Z","day":"2024-01-02",'
        b'"price":null}'
    )
    for format in ("ndjson", "json"):
        assert [record.value for _, record in records(writer_of(format=format), batch_of(row, row))] == [
            expected,
            expected,
        ]
    sent = records(writer_of(format="csv", format_options={"header": True}), batch_of(row, {}))
    assert [record.value for _, record in sent] == [
        b'A,"a\n""b",1,2024-01-02T03:04:05.678901Z,2024-01-02,',
        b"A,X,1,2024-01-02T03:04:05.678901Z,2024-01-02,",
    ]


def test_deleted_rows_are_tombstones() -> None:
    ops = np.array([INSERT, DELETE, UPDATE], dtype=np.uint8)
    sent = records(writer_of(key=["symbol"]), batch_of({}, {"symbol": "B"}, {"n": 2}, ops=ops), batch_of({}))

    assert [(record.key, record.value is None) for _, record in sent] == [
        (b"A", False),
        (b"B", True),
        (b"A", False),
        (b"A", False),
    ]


def test_a_changelog_has_all_changes_as_values() -> None:
    ops = np.array([DELETE, UPDATE], dtype=np.uint8)
    sent = records(writer_of(key=["symbol"], changelog=True), batch_of({}, {}, ops=ops), batch_of({}))

    assert [record.value[:14] for _, record in sent] == [
        b'{"_op":"delete',
        b'{"_op":"update',
        b'{"_op":"insert',
    ]


def test_deleted_rows_without_a_key_are_refused() -> None:
    with pytest.raises(
        ConnectorError, match="the stream deletes rows, which sink 'out' cannot write as rows"
    ):
        writer_of().encode(batch_of({}, ops=np.array([DELETE], dtype=np.uint8)))


def test_the_changelogs_column_must_not_be_one_of_the_streams() -> None:
    schema = pa.schema([("_op", pa.string())])
    with pytest.raises(ConnectorError, match="cannot add the column '_op'"):
        writer_of(schema=schema, changelog=True)


def test_an_empty_batch_sends_nothing() -> None:
    assert records(writer_of(key=["symbol"], headers={"v": "venue"}), batch_of()) == []


# Gathering.


def sent(writer: KafkaSinkWriter) -> list[tuple[int, int, int]]:
    return [(epoch, partition, len(batch)) for epoch, partition, batch in producer_of(writer).batches]


def producer_of(writer: KafkaSinkWriter) -> Producer:
    assert isinstance(writer._producer, Producer)
    return writer._producer


def put(writer: KafkaSinkWriter, *rows: dict[str, Any]) -> None:
    writer.write(writer.encode(batch_of(*rows)), len(rows))


def test_small_output_is_gathered_until_linger_ends() -> None:
    writer = writer_of(options={"linger.ms": 50}, key=["symbol"], headers={"v": "venue"})

    for n in range(5):
        put(writer, {"n": n})
    assert sent(writer) == []
    producer = producer_of(writer)
    with producer.changed:
        assert producer.changed.wait_for(lambda: producer.batches, 10)

    assert sent(writer) == [(1, 0, 5)]
    put(writer, {"n": 5})
    writer.close(True)
    assert sent(writer) == [(1, 0, 5), (1, 0, 1)]
    assert [b'"n":%d' % n in record.value for n, (_, record) in enumerate(records(writer))] == [True] * 6


def test_without_linger_nothing_is_gathered() -> None:
    writer = writer_of(options={"linger": {"ms": 0}})

    put(writer, {})

    assert sent(writer) == [(1, 0, 1)]
    writer.close(True)


def test_gathered_output_goes_when_it_is_large() -> None:
    writer = writer_of(options={"linger.ms": 100_000})
    rows = [{"venue": "x" * 100}] * 100

    writes = 0
    while not sent(writer):
        put(writer, *rows)
        writes += 1

    assert sent(writer) == [(1, 0, writes * 100)]
    assert (writes - 1) * 100 * 180 < LARGE_BYTES <= writes * 100 * 200
    writer.close(True)


def test_large_output_is_built_where_it_is_encoded_and_goes_behind_what_was_gathered() -> None:
    writer = writer_of(options={"linger.ms": 100_000})
    put(writer, {"n": 1})
    payload = writer.encode(batch_of(*[{"n": 2, "venue": "x" * 1000}] * 200))

    assert not isinstance(payload, Rows)
    writer.write(payload, 200)
    writer.close(True)

    assert sent(writer) == [(1, 0, 1), (1, 0, 200)]


def test_record_batches_have_at_most_batch_size_bytes_unless_a_record_is_larger() -> None:
    writer = writer_of(options={"linger.ms": 0, "batch.size": 1000})

    put(writer, *[{"venue": "x" * 300}] * 4, {"venue": "y" * 3000})
    writer.close(True)

    assert sent(writer) == [(1, 0, 2), (1, 0, 2), (1, 0, 1)]
    assert writer.bytes_written > 4200


def test_a_cut_ends_the_epoch_behind_what_was_gathered() -> None:
    writer = writer_of(options={"linger.ms": 100_000})
    put(writer, {})
    writer.cut()
    put(writer, {}, {})
    writer.cut()
    writer.cut()
    put(writer, {})
    writer.close(True)

    assert sent(writer) == [(1, 0, 1), (2, 0, 2), (4, 0, 1)]


def test_an_error_while_lingering_is_not_lost() -> None:
    writer = writer_of(options={"linger.ms": 1})
    put(writer, {})
    producer = producer_of(writer)
    producer.offer = lambda *arguments: 1 / 0  # type: ignore[method-assign, assignment]
    with producer.changed:
        assert producer.changed.wait_for(lambda: producer.error is not None, 10)

    with pytest.raises(ZeroDivisionError):
        put(writer, {})
    with pytest.raises(ZeroDivisionError):
        writer.prepare(None)


@pytest.mark.parametrize("codec", settings.CODECS)
def test_gathered_rows_of_every_kind_are_the_same_as_single_ones(codec: str) -> None:
    config = {"key": ["symbol"], "headers": {"v": "venue"}, "timestamp": "at", "compression": codec}
    ops = np.array([DELETE, INSERT], dtype=np.uint8)
    batches = [batch_of({"n": 0}), batch_of({"n": 1, "symbol": None}, {"n": 2}, ops=ops), batch_of({"n": 3})]

    gathered = records(writer_of(3, options={"linger.ms": 100_000}, **config), *batches)
    single = records(writer_of(3, options={"linger.ms": 0}, **config), *batches)

    def facts(pair: tuple[int, Any]) -> tuple[Any, ...]:
        partition, record = pair
        return partition, record.key, record.value, record.timestamp, record.headers

    by_partition = sorted(range(4), key=lambda i: single[i][0])
    assert [facts(pair) for pair in sorted(gathered, key=lambda pair: pair[0])] == [
        facts(single[i]) for i in by_partition
    ]


# Configuration.


def test_codecs_have_the_same_names_everywhere() -> None:
    assert settings.CODECS == codecs.CODECS


def problems(schema: pa.Schema = SCHEMA, **config: Any) -> list[str]:
    with pytest.raises(VelostreamError) as caught:
        sink_of(**config).bind(schema, ())
    found = caught.value.errors if isinstance(caught.value, Problems) else [caught.value]
    return [f"{error.where}: {error.message}; {error.hint}" for error in found]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"key": ["symbl"]}, "sinks.out.key: unknown column 'symbl'; did you mean 'symbol'?"),
        (
            {"headers": {"trace": "venu"}},
            "sinks.out.headers.trace: unknown column 'venu'; did you mean 'venue'?",
        ),
        (
            {"partitioner": "murmur"},
            "sinks.out.partitioner: unknown column 'murmur'; did you mean 'murmur2'?",
        ),
        ({"partitioner": "symbol"}, "sinks.out.partitioner: column 'symbol' is no integer; name one that is"),
        ({"timestamp": "n"}, "sinks.out.timestamp: column 'n' is no TIMESTAMP; name one that is"),
        (
            {"key_format": "jsn"},
            "sinks.out.key_format: unknown format of keys 'jsn'; did you mean 'json'?",
        ),
        (
            {"key": ["symbol", "n"], "key_format": "text"},
            "sinks.out.key_format: a key of several columns (symbol, n) is no text; set key_format: json",
        ),
        ({"compression": "zst"}, "sinks.out.compression: unknown compression 'zst'; did you mean 'zstd'?"),
        (
            {"compression": "lz4", "options": {"compression.type": "zstd"}},
            "sinks.out.compression: compression is lz4, and compression.type of the options is zstd; "
            "leave one of them",
        ),
        ({"format": "avr"}, "sinks.out.format: unknown format 'avr'; expected one of 'csv', 'ndjson'"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(config: dict[str, Any], expected: str) -> None:
    assert problems(**config) == [expected]


def test_all_problems_of_the_configuration_are_told_at_once() -> None:
    with pytest.raises(Problems) as caught:
        KafkaSink("out", KafkaSinkConfig(format="x", options={"acks": 7}))

    assert [error.message for error in caught.value.errors] == [
        "no topic is given",
        "'acks' is '7', expected one of 'all', '1', '0'",
        "no brokers are given",
        "unknown format 'x'",
    ]


def test_the_compression_can_be_set_by_kafkas_name() -> None:
    assert sink_of(options={"compression.type": "lz4"}).codec == "lz4"
    assert sink_of(compression="none").codec == "none"


@pytest.mark.parametrize(
    ("options", "delivery"),
    [
        ({}, "exactly_once"),
        ({"acks": "all"}, "exactly_once"),
        ({"enable.idempotence": False}, "at_least_once"),
        ({"enable.idempotence": False, "acks": 1}, "best_effort"),
        ({"enable.idempotence": False, "acks": 0}, "best_effort"),
    ],
)
def test_what_can_be_promised_depends_on_acknowledgements(options: dict[str, Any], delivery: str) -> None:
    assert sink_of(options=options).delivery == delivery


def test_options_are_not_shown() -> None:
    sink = sink_of(options={"client.id": "secret"})

    assert "secret" not in repr(sink.config)
    assert asdict(sink.config)["options"] == {"client.id": "secret"}


def test_explain_tells_the_key() -> None:
    sink = sink_of()
    sink.bind(SCHEMA, ("symbol", "venue"))

    assert sink.describe() == {
        "kind": "kafka",
        "brokers": "h:1",
        "topic": "topic",
        "key": "symbol, venue",
        "format": "ndjson",
    }


def test_a_column_that_a_query_lacks_is_found_when_the_job_is_checked() -> None:
    source = ChannelSourceConfig(channel=Channel("trades", SCHEMA))
    config = KafkaSinkConfig(brokers="h:1", topic="topic", timestamp="ats")
    with pytest.raises(ConfigError) as caught:
        prepare(JobConfig(sql="SELECT at FROM trades", sources={"trades": source}, sinks={"out": config}))

    assert (caught.value.message, caught.value.hint) == ("unknown column 'ats'", "did you mean 'at'?")


def test_the_key_of_a_query_is_that_of_its_groups() -> None:
    source = ChannelSourceConfig(channel=Channel("trades", SCHEMA))
    config = KafkaSinkConfig(brokers="h:1", topic="topic")
    sql = "SELECT symbol AS s, COUNT(*) AS n FROM trades GROUP BY symbol"
    prepared = prepare(JobConfig(sql=sql, sources={"trades": source}, sinks={"out": config}))

    assert prepared.sinks["out"].describe()["key"] == "s"


def test_keys_of_kafka_and_of_a_group_that_is_null_can_be_overridden() -> None:
    overrides = [
        "job=trades",
        "sink=kafka",
        "sink.topic=t",
        "sink.key=[symbol]",
        "sink.create.partitions=4",
        "sink.create.config.cleanup.policy=compact",
        "sink.options.linger.ms=20",
    ]
    job = Composer(all_kinds()).compose(overrides, run_dir=lambda name: Path("/runs") / name).job
    (config,) = job.sinks.values()
    sink = KafkaSink("out", config)

    assert config.key == ["symbol"]
    assert config.create.partitions == 4
    assert flat_config(config.create.config) == {"cleanup.policy": "compact"}
    assert sink.settings.get("linger.ms") == 20
    assert sink.settings.brokers
