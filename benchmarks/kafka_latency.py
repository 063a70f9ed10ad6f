"""A topic at 10,000 records/s: from a record produced to its result visible to a read-committed consumer.

Four processes: one produces records in groups of 10, a millisecond apart, each stamped just before; the
broker; the job, one lane; and this one, which consumes. Producer and consumer are librdkafka's and wait for
nothing (`linger.ms=0`, `fetch.min.bytes=1`). A record's latency ends when the first result of its symbol that
covers its stamp is consumed. Every record must be covered, or the run does not count.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.data import FOLDER
from benchmarks.harness import Contender, Figure, Target, compare, entry
from benchmarks.kafka import PATIENCE_SECONDS, address, broker, client, make_topic
from benchmarks.latency import SYMBOLS, covered, percentiles
from benchmarks.process import JOBS, RUN_FOLDER

if TYPE_CHECKING:
    from confluent_kafka import Consumer

TITLE = (
    "topic, 10,000 records/s, record produced to its result consumed, read committed; "
    "commits every 100 ms, one partition; where rows are exchanged, two tasks in one process, each with one"
)
CONTENDERS = (
    Contender("stateless, v1, exactly once", "stateless/exactly_once", needs="confluent_kafka"),
    Contender("EMIT CHANGES, v1, exactly once", "changes/exactly_once"),
    Contender("stateless, v1, at least once", "stateless/at_least_once"),
    Contender("EMIT CHANGES, v1, at least once", "changes/at_least_once"),
    Contender("EMIT CHANGES, v1, exactly once, exchanged by a topic", "changes/exactly_once/exchanged"),
)
FIGURES = (Figure("p50_ms", "ms p50", 2), Figure("p99_ms", "ms p99", 2))
MOST_MS = {"exactly_once": 250, "at_least_once": 30, "exactly_once/exchanged": 450}
TARGETS = tuple(
    Target(f"{each.name}: p99 ≤ {most} ms", each.argument, figure="p99_ms", at_most=most)
    for each in CONTENDERS
    for most in (MOST_MS[each.argument.partition("/")[2]],)
)
INPUT, OUTPUT = "kafka_latency-input", "kafka_latency-output"
GROUP = 10
GROUP_SECONDS = 0.001
# Rounds that do not count: see `benchmarks.kafka.WARM_UPS`; each is a minute or more of work for the broker.
WARM_UPS = 2
# No symbol of the records that count.
FIRST = "FIRST"


def main(records: int) -> None:
    with broker():
        compare(
            "kafka_latency", TITLE, records, CONTENDERS, targets=TARGETS, figures=FIGURES, warm_ups=WARM_UPS
        )


def run(argument: str, records: int) -> dict[str, float]:
    if argument == "write":
        write(records)
        return {}
    query, guarantee, *exchanged = argument.split("/")
    tasks = 2 if exchanged else 1
    make_topic(INPUT, tasks)
    make_topic(OUTPUT, 1)
    consumer = _consumer()
    command = [*_job(query, guarantee), f"name=kafka_ticks_{query}_{tasks}", f"processor.tasks={tasks}"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        _wait_for_job(consumer, job)
        command = [sys.executable, "-m", "benchmarks.kafka_latency", "write", str(records)]
        writer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        results = observe(consumer, writer)
    finally:
        job.send_signal(signal.SIGINT)
        job.communicate()
        consumer.close()
    if writer.returncode:
        raise SystemExit("the writer failed")
    return percentiles(_written(), covered(results))


def _job(query: str, guarantee: str) -> list[str]:
    return [
        sys.executable,
        "run.py",
        f"job={JOBS / f'kafka_ticks_{query}.yaml'}",
        f"source.brokers={address()}",
        f"source.topic={INPUT}",
        f"sink.brokers={address()}",
        f"sink.topic={OUTPUT}",
        "processor=v1",
        f"delivery={guarantee}",
        "delivery.interval=100ms",
        f"state.path={FOLDER / 'state' / 'kafka_latency'}",
        "state=reset",
        f"output_dir={RUN_FOLDER}",
    ]


def _written() -> Path:
    """Where the writer notes what it has produced."""
    return FOLDER / "kafka_latency-ticks.ndjson"


def write(records: int) -> None:
    """Produce the records in time; a group that is late is produced at once, the pace is kept."""
    from confluent_kafka import Producer

    producer = Producer(client({"linger.ms": 0, "acks": "all"}))
    partitions = len(producer.list_topics(INPUT, PATIENCE_SECONDS).topics[INPUT].partitions)
    lines: list[str] = []
    begun = time.monotonic()
    for group in range(records // GROUP):
        pause = begun + group * GROUP_SECONDS - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        first = group * GROUP
        # Nanoseconds of the system's clock; within a group one apart, so that no two records are alike.
        now = time.monotonic_ns()
        for i in range(GROUP):
            symbol = f"SYM{(first + i) * 7 % SYMBOLS:03d}"
            lines.append(f'{{"symbol":"{symbol}","quantity":{i + 1},"written":{now + i}}}')
            # All of a symbol are in one partition, so that its last result covers what was produced before.
            producer.produce(INPUT, lines[-1].encode(), partition=int(symbol[3:]) % partitions)
        producer.poll(0)
    if producer.flush(PATIENCE_SECONDS):
        raise SystemExit("the broker has not taken all records")
    _written().write_text("\n".join(lines) + "\n", encoding="ascii")


def observe(consumer: Consumer, writer: subprocess.Popen[bytes]) -> list[tuple[int, bytes]]:
    """Each result with the time when it was consumed (ns).

    Ends when nothing has come for two seconds after the writer has ended.
    """
    results: list[tuple[int, bytes]] = []
    heard = time.monotonic_ns()
    while True:
        message = consumer.poll(0.1)
        now = time.monotonic_ns()
        if message is not None:
            results.append((now, _value(message) + b"\n"))
            heard = now
        elif writer.poll() is not None and now - heard > 2_000_000_000:
            return results


def _value(message: object) -> bytes:
    from confluent_kafka import KafkaException, Message

    assert isinstance(message, Message)
    error = message.error()
    if error is not None:
        raise KafkaException(error)
    return message.value() or b""


def _consumer() -> Consumer:
    """Of the results, from the first on."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    settings = {"group.id": "benchmarks", "enable.auto.commit": False, "fetch.min.bytes": 1}
    consumer = Consumer(client({**settings, "isolation.level": "read_committed"}))
    consumer.assign([TopicPartition(OUTPUT, 0, OFFSET_BEGINNING)])
    return consumer


def _wait_for_job(consumer: Consumer, job: subprocess.Popen[bytes]) -> None:
    """Until a first record has come through: start-up is no part of the latency."""
    from confluent_kafka import Producer

    producer = Producer(client())
    producer.produce(INPUT, f'{{"symbol":"{FIRST}","quantity":1,"written":0}}'.encode())
    producer.flush(PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while consumer.poll(0.1) is None:
        if job.poll() is not None or time.monotonic() > deadline:
            output = job.communicate()[0] if job.poll() is not None else b"no result has come"
            raise SystemExit(output.decode(errors="replace"))


if __name__ == "__main__":
    entry(run, main, 100_000)
