"""What the sink writes, as librdkafka reads it, and where librdkafka would have put it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka.admin import ConfigResource

from tests.kafka.jobs import make
from tests.kafka.topics import Record, Topics
from velostream.config.schema import ProcessorConfig
from velostream.connectors.file.source import FileSourceConfig
from velostream.connectors.kafka.producer import TransactionalProducer
from velostream.connectors.kafka.settings import CODECS
from velostream.connectors.kafka.sink import KafkaSink, KafkaSinkConfig
from velostream.connectors.kafka.topics import CreateTopic
from velostream.errors import ConnectorError
from velostream.operators.batch import DELETE, INSERT, Batch

ROOT = Path(__file__).parent.parent.parent


def write(topics: Topics, topic: str, *batches: Batch, **config: Any) -> None:
    """Write batches as a job does, of the first one's schema."""
    sink = KafkaSink("out", KafkaSinkConfig(brokers=topics.address, topic=topic, **config))
    schema = batches[0].data.schema
    sink.bind(schema, ())
    writer = sink.open(schema, bounded=True)
    for batch in batches:
        writer.write(writer.encode(batch), batch.rows)
    writer.prepare(writer.cut())
    writer.close(complete=True)


def batch_of(columns: dict[str, list[Any]], **more: Any) -> Batch:
    return Batch(pa.record_batch(columns), **more)


def some_keys(count: int) -> list[str]:
    seeded = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789äß€𝄞 _-"
    return ["".join(seeded.choices(letters, k=seeded.randrange(40))) for _ in range(count)]


# Where records go, and what they have.


@pytest.mark.parametrize("partitions", [1, 3, 8])
def test_keys_go_to_the_partitions_that_other_clients_choose(topics: Topics, partitions: int) -> None:
    ours, theirs = topics.create(partitions), topics.create(partitions)
    keys = some_keys(500)

    topics.produce(theirs, [Record(b"v", key.encode()) for key in keys])
    write(topics, ours, batch_of({"k": keys, "v": [""] * 500}), key=["k"])

    expected = Counter((record.key, record.partition) for record in topics.consume(theirs, 500))
    assert Counter((record.key, record.partition) for record in topics.consume(ours, 500)) == expected
    assert len({partition for _, partition in expected}) == partitions


def test_compound_keys_are_objects_that_other_clients_can_compute(topics: Topics) -> None:
    ours, theirs = topics.create(8), topics.create(8)
    symbols, numbers = some_keys(100), list(range(100))
    objects = [
        json.dumps({"s": s, "n": n}, ensure_ascii=False, separators=(",", ":")).encode()
        for s, n in zip(symbols, numbers, strict=True)
    ]

    topics.produce(theirs, [Record(b"v", key) for key in objects])
    write(topics, ours, batch_of({"s": symbols, "n": numbers}), key=["s", "n"])

    assert {(record.key, record.partition) for record in topics.consume(ours, 100)} == {
        (record.key, record.partition) for record in topics.consume(theirs, 100)
    }


def test_values_timestamps_and_headers_arrive(topics: Topics) -> None:
    topic = topics.create()
    batch = batch_of(
        {"k": ["a", None], "text": ["1\n2", None], "at": [datetime(2024, 1, 1), None]},
        times=np.array([1_700_000_000_000_999, 5_000], dtype=np.int64),
    )

    write(topics, topic, batch, key=["k"], headers={"trace": "text"})

    assert topics.consume(topic) == [
        Record(
            b'{"k":"a","text":"1\\n2","at":"2024-01-01T00:00:00Z"}',
            b"a",
            0,
            1_700_000_000_000,
            (("trace", b"1\n2"),),
            0,
        ),
        Record(b'{"k":null,"text":null,"at":null}', None, 0, 5, (("trace", None),), 1),
    ]


def test_csv_values_with_line_breaks_are_one_record_each(topics: Topics) -> None:
    topic = topics.create()

    write(topics, topic, batch_of({"a": ['x"\n,', "y"], "b": [1, 2]}), format="csv")

    assert [record.value for record in topics.consume(topic)] == [b'"x""\n,",1', b"y,2"]


def test_a_deleted_row_is_a_tombstone_that_compaction_takes(topics: Topics) -> None:
    topic = topics.create(cleanup_policy="compact")
    ops = np.array([INSERT, DELETE], dtype=np.uint8)

    write(topics, topic, batch_of({"k": ["a", "b"], "n": [1, 2]}, ops=ops), key=["k"])

    assert [(record.key, record.value) for record in topics.consume(topic)] == [
        (b"a", b'{"k":"a","n":1}'),
        (b"b", None),
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_every_compression_is_read_by_others(topics: Topics, codec: str) -> None:
    topic = topics.create(compression_type="producer")
    small = batch_of({"k": ["a"], "v": ["small"]})
    large = batch_of({"k": [f"k{i}" for i in range(20_000)], "v": ["large" * 20] * 20_000})

    write(topics, topic, small, large, small, key=["k"], compression=codec)

    records = topics.consume(topic, 20_002)
    assert [record.key for record in records] == [b"a", *(b"k%d" % i for i in range(20_000)), b"a"]
    assert records[777].value == b'{"k":"k776","v":"%s"}' % (b"large" * 20)


def test_rows_of_a_partition_keep_their_order_whatever_their_size(topics: Topics) -> None:
    topic = topics.create(3)
    seeded = random.Random(3)
    batches, at = [], 0
    for _ in range(60):
        rows = seeded.choice([1, 3, 2000])
        batches.append(
            batch_of({"k": [f"{i % 7}" for i in range(at, at + rows)], "i": [*range(at, at + rows)]})
        )
        at += rows

    write(topics, topic, *batches, key=["k"])

    seen: dict[bytes | None, list[int]] = {}
    for record in topics.consume(topic, at):
        assert record.value is not None
        seen.setdefault(record.key, []).append(json.loads(record.value)["i"])
    assert seen == {b"%d" % k: list(range(k, at, 7)) for k in range(7)}


def test_a_writer_on_transactions_shows_each_epoch_when_it_is_committed(topics: Topics) -> None:
    topic = topics.create()
    sink = KafkaSink("out", KafkaSinkConfig(brokers=topics.address, topic=topic))
    producer = TransactionalProducer(sink.settings, topics.unused("txn"))
    producer.open()
    batches = [batch_of({"n": [n]}) for n in range(3)]
    writer = sink.writer(batches[0].data.schema, producer)

    seen = []
    for batch in batches:
        producer.begin()
        writer.write(writer.encode(batch), 1)
        token = writer.cut()
        # Belongs to the next epoch, or to none.
        writer.write(writer.encode(batch), 1)
        writer.prepare(token)
        producer.commit()
        seen.append([json.loads(record.value or b"")["n"] for record in topics.consume(topic)])
    writer.close(complete=True)

    assert seen == [[0], [0, 0, 1], [0, 0, 1, 1, 2]]


def test_partitions_that_a_topic_gets_are_used_as_others_use_them(topics: Topics) -> None:
    ours, theirs = topics.create(1), topics.create(4)
    topics.produce(theirs, [Record(b"v", b"%d" % n) for n in range(50)])
    batch = batch_of({"k": [str(n) for n in range(50)]})
    options = {"metadata.max.age.ms": 100, "linger.ms": 0}
    config = KafkaSinkConfig(brokers=topics.address, topic=ours, key=["k"], options=options)
    writer = KafkaSink("out", config).open(batch.data.schema, bounded=False)
    writer.write(writer.encode(batch), 50)
    topics.grow(ours, 4)

    deadline = time.monotonic() + 30
    rounds = 1
    while len({record.partition for record in topics.consume(ours)}) == 1:
        assert time.monotonic() < deadline
        writer.write(writer.encode(batch), 50)
        rounds += 1
        writer.prepare(writer.cut())
    writer.close(complete=True)

    # What was written when all partitions were known.
    last = {record.key: record.partition for record in topics.consume(ours, rounds * 50) if record.partition}
    expected = {record.key: record.partition for record in topics.consume(theirs, 50) if record.partition}
    assert last == expected


# Topics.


def test_a_topic_is_made_as_asked(topics: Topics) -> None:
    topic = topics.unused()
    create = CreateTopic(partitions=3, config={"cleanup.policy": "compact", "retention": {"ms": 60_000}})
    try:
        write(topics, topic, batch_of({"k": ["a"]}), key=["k"], create=create)
        write(topics, topic, batch_of({"k": ["b"]}), key=["k"], create=CreateTopic(partitions=9))

        assert topics.partitions(topic) == 3
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = topics.admin.describe_configs([resource])[resource].result(30)
        assert (found["cleanup.policy"].value, found["retention.ms"].value) == ("compact", "60000")
        assert sorted(record.key for record in topics.consume(topic) if record.key) == [b"a", b"b"]
    finally:
        topics.delete(topic)


def error_of(topics: Topics, topic: str, **config: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        write(topics, topic, batch_of({"k": ["a"]}), **config)
    return caught.value


def test_a_missing_topic_is_an_error_with_the_nearest_name(topics: Topics) -> None:
    topic = topics.create(name="trades-by-symbol")

    error = error_of(topics, topic.replace("symbol", "symbl"))

    assert error.message == f"there is no topic '{topic.replace('symbol', 'symbl')}' at {topics.address}"
    assert error.hint == f"did you mean '{topic}'? Or set sinks.out.create to have it made"


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (CreateTopic(partitions=0), "the number of partitions is not allowed"),
        (CreateTopic(replication=7), "the broker cannot keep so many replicas"),
        (CreateTopic(config={"cleanup.polcy": "x"}), "a setting of the topic is wrong"),
    ],
)
def test_a_topic_that_cannot_be_made_is_an_error(topics: Topics, create: CreateTopic, message: str) -> None:
    topic = topics.unused()

    error = error_of(topics, topic, create=create)

    assert error.message.startswith(f"cannot make topic '{topic}' at {topics.address}: {message} (")


def test_a_name_that_no_topic_may_have_is_an_error(topics: Topics) -> None:
    error = error_of(topics, "a topic", create=CreateTopic())

    assert "the broker does not allow this name of a topic" in error.message


def test_a_compacted_topic_wants_keys(topics: Topics) -> None:
    topic = topics.create(cleanup_policy="compact")

    error = error_of(topics, topic)

    assert error.message.startswith(f"topic '{topic}' at {topics.address}: the broker does not take a record")
    assert error.hint == "a compacted topic needs keys: set `key` of the sink"


def test_a_topic_deleted_meanwhile_is_an_error(topics: Topics) -> None:
    topic = topics.create()
    config = KafkaSinkConfig(
        brokers=topics.address,
        topic=topic,
        options={"delivery.timeout.ms": 2000, "request.timeout.ms": 1000, "linger.ms": 0},
    )
    batch = batch_of({"k": ["a"]})
    writer = KafkaSink("out", config).open(batch.data.schema, bounded=False)
    writer.write(writer.encode(batch), 1)
    writer.prepare(writer.cut())
    topics.delete(topic)

    with pytest.raises(ConnectorError, match=f"topic '{topic}' at {topics.address}: "):
        writer.write(writer.encode(batch), 1)
        writer.prepare(writer.cut())
    writer.close(complete=False)


# Whole jobs.


def trades(file: Path, count: int) -> list[dict[str, Any]]:
    rows = [{"id": i, "symbol": f"S{i * 7 % 100}", "price": i % 1000} for i in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def test_200_000_rows_arrive_exactly_once_with_their_keys(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create(8)
    rows = trades(tmp_path / "trades.ndjson", 200_000)
    job = make(
        "SELECT id, symbol FROM trades WHERE price >= 0",
        {"trades": FileSourceConfig(path=str(tmp_path / "trades.ndjson"))},
        processor=ProcessorConfig(version="v2", partitions=2, block_size="256KiB"),
        sink=KafkaSinkConfig(brokers=topics.address, topic=topic, key=["symbol"], compression="lz4"),
    )

    report = job.run()

    assert (report.error, report.sinks[0]["rows"]) == (None, 200_000)
    records = topics.consume(topic, 200_000)
    read = sorted((json.loads(record.value or b"")["id"], (record.key or b"").decode()) for record in records)
    assert read == [(row["id"], row["symbol"]) for row in rows]
    assert len({(record.key, record.partition) for record in records}) == 100


def test_a_query_that_updates_keeps_a_compacted_topic_current(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create(3, cleanup_policy="compact")
    rows = trades(tmp_path / "trades.ndjson", 400)
    job = make(
        # A row goes away with its symbol's fourth trade; one symbol has three.
        "SELECT symbol, COUNT(*) AS n FROM trades WHERE price <> 100 GROUP BY symbol "
        "HAVING COUNT(*) < 4 EMIT CHANGES",
        {"trades": FileSourceConfig(path=str(tmp_path / "trades.ndjson"))},
        processor=ProcessorConfig(version="v2", partitions=2, block_records=30),
        sink=KafkaSinkConfig(brokers=topics.address, topic=topic),
    )

    assert job.run().error is None

    counts = Counter(row["symbol"] for row in rows if row["price"] != 100)
    records = topics.consume(topic)
    last = {record.key: record.value for record in records}
    assert last == {
        symbol.encode(): b'{"symbol":"%s","n":%d}' % (symbol.encode(), n) if n < 4 else None
        for symbol, n in counts.items()
    }
    assert Counter(value is None for value in last.values()) == {True: 99, False: 1}
    assert len(records) > len(last)


def test_a_job_file_writes_its_groups_by_their_key(topics: Topics, tmp_path: Path) -> None:
    topic = topics.unused("counts")
    rows = trades(tmp_path / "trades.ndjson", 1000)
    (tmp_path / "job.yaml").write_text(
        f"""# @package _global_
defaults:
  - /source@sources.trades: file
  - /sink@sinks.counts: kafka
  - override /processor: v1
  - _self_
sql: SELECT symbol, COUNT(*) AS n FROM trades GROUP BY symbol EMIT FINAL
sources:
  trades: {{path: trades.ndjson}}
sinks:
  counts:
    brokers: {topics.address}
    topic: {topic}
    create: {{partitions: 4, config: {{cleanup.policy: compact}}}}
    options: {{linger.ms: 20}}
"""
    )
    try:
        ran = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "job=job.yaml", "sink.options.client.id=me"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

        assert ran.returncode == 0, ran.stderr
        assert f"topic '{topic}' at {topics.address}" in ran.stdout
        counts = Counter(row["symbol"] for row in rows)
        assert topics.partitions(topic) == 4
        assert {record.key: record.value for record in topics.consume(topic, 100)} == {
            symbol.encode(): b'{"symbol":"%s","n":%d}' % (symbol.encode(), n) for symbol, n in counts.items()
        }
    finally:
        topics.delete(topic)
