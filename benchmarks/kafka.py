"""A real broker for the scenarios on Kafka, topics filled and read by librdkafka, the broker's perf tools.

The broker runs beside the contenders, on the same CPUs; VELOSTREAM_BENCH_KAFKA=host:port uses another one.
The perf tools are those of the fetched jars in any case.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data import FOLDER

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from velostream.runtime.report import Report

ADDRESS = "VELOSTREAM_BENCH_KAFKA"
# As brokers have by default.
HEAP = "1g"
PATIENCE_SECONDS = 60.0
# Rounds of runs of half a second before those that count: a broker that has just started interprets what it
# will have compiled after a minute or two of work, the code of transactions last.
WARM_UPS = 10
# Records that go to one partition in a row when a topic is filled.
STRETCH = 1000


@contextmanager
def broker() -> Iterator[str]:
    """The address of a broker that serves all contenders of a scenario. Raises SystemExit."""
    from tests.kafka.broker import Broker, BrokerUnavailable

    if given := os.environ.get(ADDRESS):
        yield given
        return
    running = Broker(heap=HEAP, lasting=True)
    try:
        running.start()
        # The contenders' processes inherit it.
        os.environ[ADDRESS] = running.address
        yield running.address
    except BrokerUnavailable as error:
        raise SystemExit(str(error)) from error
    finally:
        os.environ.pop(ADDRESS, None)
        running.close()


def address() -> str:
    """Of the broker that the scenario has started, or of another one. Raises SystemExit."""
    given = os.environ.get(ADDRESS)
    if given is None:
        raise SystemExit(f"no broker: set {ADDRESS}=host:port (`make kafka` runs one)")
    return given


# --- topics -------------------------------------------------------------------------------------------


def make_topic(topic: str, partitions: int) -> str:
    """An empty topic of that name: one of an earlier run is deleted first."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient(client())
    if topic in admin.list_topics(timeout=PATIENCE_SECONDS).topics:
        admin.delete_topics([topic])[topic].result(PATIENCE_SECONDS)
        _wait_for(admin, topic, 0)
    # Rows have the time of their events, which is long past: they would be deleted before they are compared.
    keep = {"retention.ms": "-1"}
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=keep)
    admin.create_topics([new])[topic].result(PATIENCE_SECONDS)
    _wait_for(admin, topic, partitions)
    return topic


def _wait_for(admin: AdminClient, topic: str, partitions: int) -> None:
    """Until the broker tells clients of so many partitions, each with its leader; 0: of no such topic."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        known = admin.list_topics(timeout=PATIENCE_SECONDS).topics.get(topic)
        leaders = [] if known is None else [place.leader for place in known.partitions.values()]
        if len(leaders) == partitions and -1 not in leaders:
            return
        time.sleep(0.02)
    raise SystemExit(f"topic '{topic}' has no {partitions} partitions after {PATIENCE_SECONDS:.0f} s")


def fill(topic: str, path: Path, records: int, partitions: int, first: int = 0) -> None:
    """Lines `first` to `records` of a file as messages without keys, dealt to the partitions in stretches."""
    from confluent_kafka import Producer

    settings = {"linger.ms": 50, "queue.buffering.max.messages": 1_000_000}
    # Else a batch that is sent again comes behind the next one, and its records are late.
    producer = Producer(client({**settings, "enable.idempotence": True}))
    with open(path, "rb") as file:
        for number, line in enumerate(islice(file, first, records)):
            partition = number // STRETCH % partitions
            while True:
                try:
                    producer.produce(topic, line[:-1], partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
            if number % STRETCH == 0:
                producer.poll(0)
    if producer.flush(PATIENCE_SECONDS):
        raise SystemExit(f"topic '{topic}' could not be filled within {PATIENCE_SECONDS:.0f} s")


def read_committed(topic: str, result: Path) -> None:
    """Write the values of all committed messages of a topic to a file, a line each."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

    settings = {"group.id": "benchmarks", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer(client({**settings, "isolation.level": "read_committed"}))
    try:
        known = consumer.list_topics(topic, PATIENCE_SECONDS).topics[topic]
        left = set(known.partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in left])
        with open(result, "wb") as file:
            while left:
                for message in consumer.consume(10_000, timeout=0.1):
                    error = message.error()
                    if error is None:
                        file.write((message.value() or b"") + b"\n")
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard(message.partition())
                    else:
                        raise KafkaException(error)
    finally:
        consumer.close()


def client(settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings of a client of librdkafka at the broker."""
    return {"bootstrap.servers": address(), "log_level": 2, **(settings or {})}


# --- velostream ---------------------------------------------------------------------------------------


def run_job(
    name: str,
    sql: str,
    source: Mapping[str, Any],
    sink: Mapping[str, Any],
    processor: str,
    guarantee: str,
    interval: str = "200ms",
) -> Report:
    """A job from the topic `trades` to a topic, both as they are now, in this process.

    Raises SystemExit when it does not complete.
    """
    import velostream

    at = {"kind": "kafka", "brokers": address()}
    report = velostream.run(
        {
            "name": name,
            "sql": sql,
            "sources": {"trades": {**at, "start": "earliest", "until": "latest", **source}},
            "sinks": {"result": {**at, **sink}},
            "processor": processor,
            "delivery": {"guarantee": guarantee, "interval": interval},
            "state": {"path": str(FOLDER / "state" / name), "start": "reset"},
        }
    )
    if report.state != "completed":
        raise SystemExit(report.error)
    promised = report.sinks[0]["delivery"]
    if promised != guarantee:
        raise SystemExit(f"{name} ran {promised}, not {guarantee}")
    return report


# --- the broker's own tools -----------------------------------------------------------------------------


def consume(topic: str, records: int, settings: Mapping[str, Any]) -> dict[str, float]:
    """What `ConsumerPerformance` says of reading so many records: `rate` is its `fetch.nMsg.sec`.

    The time that it takes to join its group does not count. `settings` are those of a consumer.
    """
    output = _tool("ConsumerPerformance", "--topic", topic, "--num-records", str(records), *_given(settings))
    return consumed(output, records)


def consumed(output: str, records: int) -> dict[str, float]:
    """The figures that `ConsumerPerformance` prints: a line of names, and one of values.

    >>> consumed("fetch.time.ms, data.consumed.in.nMsg\\n2000, 3000", 3000)
    {'seconds': 2.0, 'records': 3000.0}
    """
    lines = output.splitlines()
    for names, values in pairwise(lines):
        if "fetch.time.ms" in names:
            found = dict(zip(names.split(", "), values.split(", "), strict=True))
            count = float(found["data.consumed.in.nMsg"])
            if count < records:
                break
            return {"seconds": float(found["fetch.time.ms"]) / 1000, "records": count}
    raise SystemExit(f"ConsumerPerformance did not read {records} records:\n{output}")


def produce(topic: str, records: int, payload: Path, settings: Mapping[str, Any]) -> dict[str, float]:
    """What `ProducerPerformance` says of writing so many records, each a random line of `payload`."""
    output = _tool(
        "ProducerPerformance",
        "--topic",
        topic,
        "--num-records",
        str(records),
        "--throughput",
        "-1",
        "--payload-file",
        str(payload),
        *_given(settings),
    )
    return produced(output, records)


def produced(output: str, records: int) -> dict[str, float]:
    """The figures of the last line that `ProducerPerformance` prints, which is about all of its records.

    >>> produced("3000 records sent, 1500.0 records/sec (0.10 MB/sec), 7.5 ms avg latency", 3000)
    {'seconds': 2.0, 'records': 3000}
    """
    found = re.findall(r"(?m)^(\d+) records sent, ([\d.]+) records/sec", output)
    if not found or int(found[-1][0]) != records:
        raise SystemExit(f"ProducerPerformance did not write {records} records:\n{output}")
    return {"seconds": records / float(found[-1][1]), "records": records}


def _given(settings: Mapping[str, Any]) -> Sequence[str]:
    """Client settings as arguments of either tool."""
    return [part for name, value in settings.items() for part in ("--command-property", f"{name}={value}")]


def _tool(name: str, *arguments: str) -> str:
    """What one of the tools prints. Raises SystemExit."""
    from tests.kafka.broker import HERE, jars, java

    log = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
    command = [java(), f"-Xmx{HEAP}", log, "-cp", f"{jars()}/*", f"org.apache.kafka.tools.{name}"]
    command += ["--bootstrap-server", address(), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


def text_of(settings: Mapping[str, Any]) -> str:
    """Settings for a title.

    >>> text_of({"acks": "all", "linger.ms": 5})
    'acks=all linger.ms=5'
    """
    return " ".join(f"{name}={value}" for name, value in settings.items())
