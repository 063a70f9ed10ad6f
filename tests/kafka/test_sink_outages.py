"""Brokers that are paused, killed and started again while the sink writes."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.kafka.broker import Broker
from tests.kafka.chaos import wait_for
from tests.kafka.jobs import make
from tests.kafka.test_sink_producer import producer_of, record_batch, transactional
from tests.kafka.topics import Topics
from velostream.config.schema import ProcessorConfig
from velostream.connectors.generator.source import GeneratorSourceConfig
from velostream.connectors.kafka import producer as producer_module
from velostream.connectors.kafka.sink import KafkaSinkConfig
from velostream.errors import ConnectorError, NoAnswerError
from velostream.runtime.job import Job


def test_a_paused_broker_makes_writers_wait_and_loses_nothing(own_broker: Broker) -> None:
    with Topics(own_broker.address) as topics:
        topic = topics.create()
        producer = producer_of(own_broker.address, buffer_memory=100_000, request_timeout_ms=1000)
        producer.send(topic, 0, record_batch(b"first"), 1)
        producer.flush()
        sent: list[int] = []

        def write() -> None:
            for i in range(50):
                producer.send(topic, 0, record_batch(b"%03d" % i + b"x" * 10_000), 1)
                sent.append(i)

        own_broker.pause()
        writer = threading.Thread(target=write)
        writer.start()
        # Longer than a request may take, so that it is sent again.
        writer.join(1.5)
        waiting = len(sent)
        own_broker.resume()
        writer.join(30)
        producer.flush()

        # As many as fit into buffer.memory.
        assert waiting == 9
        assert [record.value[:5] for record in topics.consume(topic, 51) if record.value] == [
            b"first",
            *(b"%03dxx" % i for i in range(50)),
        ]
        producer.close()


def test_a_broker_that_is_away_when_a_topic_is_first_written_to_is_waited_for(own_broker: Broker) -> None:
    with Topics(own_broker.address) as topics:
        topic = topics.create()
        producer = producer_of(own_broker.address, request_timeout_ms=500)
        sends, send = [], producer.client.send_prebuilt

        async def count(*arguments: Any) -> Any:
            sends.append(arguments)
            return await send(*arguments)

        producer.client.send_prebuilt = count  # type: ignore[method-assign]
        own_broker.pause()
        producer.send(topic, 0, record_batch(b"a"), 1)
        wait_for(lambda: len(sends) > 1, "another try")
        own_broker.resume()
        producer.close()

        assert [record.value for record in topics.consume(topic, 1)] == [b"a"]


def test_closing_beside_a_paused_broker_does_not_take_long(own_broker: Broker) -> None:
    with Topics(own_broker.address) as topics:
        topic = topics.create()
        producer = producer_of(own_broker.address)
        own_broker.pause()
        producer.send(topic, 0, record_batch(b"a"), 1)

        begun = time.monotonic()
        producer.close(complete=False)
        seconds = time.monotonic() - begun
        own_broker.resume()

        assert seconds < 5


def test_a_broker_that_is_away_gets_what_it_missed_or_is_an_error_in_time(own_broker: Broker) -> None:
    with Topics(own_broker.address) as topics:
        topic, committed = topics.create(), topics.create()
        patient, hasty = (
            producer_of(own_broker.address),
            producer_of(own_broker.address, delivery_timeout_ms=1000),
        )
        careful = transactional(own_broker.address, topics.unused("txn"), timeout_ms=100_000)
        careful.begin()
        careful.send(committed, 0, record_batch(b"before"), 1, epoch=1)
        careful.flush()
        for producer in (patient, hasty):
            producer.send(topic, 0, record_batch(b"before"), 1)
            producer.flush()

        own_broker.kill()
        for i in range(20):
            patient.send(topic, 0, record_batch(b"%d" % i), 1)
        careful.send(committed, 0, record_batch(b"meanwhile"), 1, epoch=1)
        hasty.send(topic, 0, record_batch(b"never"), 1)
        with pytest.raises(ConnectorError, match="nothing was acknowledged for 1 s"):
            hasty.flush()
        hasty.close(complete=False)
        own_broker.start()
        patient.close()
        careful.commit()
        careful.close()

        assert [record.value for record in topics.consume(committed, 2)] == [b"before", b"meanwhile"]
        assert [record.value for record in topics.consume(topic, 22)] == [
            b"before",
            b"before",
            *(b"%d" % i for i in range(20)),
        ]


def job_to(address: str, topic: str) -> Job:
    """A job of 300,000 rows, of which few fit into the memory of its sink."""
    return make(
        "SELECT id, pad FROM rows",
        {
            "rows": GeneratorSourceConfig(
                schema={"id": "BIGINT", "pad": "VARCHAR"},
                columns={
                    "id": {"distribution": "sequence", "start": 0, "step": 1},
                    "pad": {"distribution": "choice", "pattern": "x{:0100d}", "count": 2},
                },
                count=300_000,
            )
        },
        processor=ProcessorConfig(version="v1", block_records=5000, block_size="1MiB", queue_size="2MiB"),
        sink=KafkaSinkConfig(
            brokers=address,
            topic=topic,
            options={"buffer.memory": 4_000_000, "request.timeout.ms": 2000},
        ),
    )


def pause_while_running(broker: Broker, job: Job) -> int:
    """Pause the broker when the job has written something, and wait until nothing moves any more; the rows
    until then."""
    deadline = time.monotonic() + 30
    while job.progress().rows_out < 20_000 and time.monotonic() < deadline:
        job.wait(0.01)
    broker.pause()
    before, now = -1, 0
    while before != now:
        before = now
        job.wait(0.5)
        now = job.progress().rows_out
    return now


def test_a_job_waits_for_a_paused_broker_in_bounded_memory_and_goes_on(own_broker: Broker) -> None:
    with Topics(own_broker.address) as topics:
        topic = topics.create(2)
        job = job_to(own_broker.address, topic)
        job.start()
        try:
            now = pause_while_running(own_broker, job)
        finally:
            own_broker.resume()
        assert 20_000 <= now < 250_000
        assert job.wait(60)

        records = topics.consume(topic, 300_000)
        assert sorted(json.loads(record.value or b"")["id"] for record in records) == list(range(300_000))


def test_a_job_that_is_stopped_beside_a_paused_broker_ends_though_its_lanes_wait(
    own_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with Topics(own_broker.address) as topics:
        job = job_to(own_broker.address, topics.create(2))
        job.start()
        try:
            pause_while_running(own_broker, job)
            job.stop()
            assert job.wait(60)
        finally:
            own_broker.resume()

        report = job.report()
        assert (report.state, report.error) == ("interrupted", None)
        told = [text for text in caplog.messages if "stops without its last commit" in text]
        assert len(told) == 1 and told[0].endswith(
            "nothing was acknowledged for 3 s; not all of its rows are written"
        )
        assert not threads_in_producers()


def test_who_waits_for_a_paused_broker_is_let_go_when_it_is_to_hurry(own_broker: Broker) -> None:
    with Topics(own_broker.address) as topics:
        topic = topics.create()
        plain = producer_of(own_broker.address, buffer_memory=10_000)
        careful = transactional(own_broker.address, topics.unused("txn"), timeout_ms=100_000)
        careful.begin()
        careful.send(topic, 0, record_batch(b"never"), 1, epoch=1)
        careful.flush()
        errors: list[ConnectorError] = []

        def note(call: Callable[[], None]) -> None:
            with pytest.raises(NoAnswerError) as caught:
                call()
            errors.append(caught.value)

        own_broker.pause()
        try:
            plain.send(topic, 0, record_batch(b"x" * 9_000), 1)
            calls = [
                plain.flush,
                lambda: plain.send(topic, 0, record_batch(b"x" * 9_000), 1),
                careful.commit,
            ]
            threads = [threading.Thread(target=note, args=(call,)) for call in calls]
            for thread in threads:
                thread.start()
            while len(threads_in_producers()) < len(threads):
                time.sleep(0.01)
            for producer in (plain, careful):
                producer.hurry(0.5)
            for thread in threads:
                thread.join(30)
            for producer in (plain, careful):
                with pytest.raises(NoAnswerError):
                    producer.check()
                producer.close(complete=False)
        finally:
            own_broker.resume()

        assert [type(error) for error in errors] == [NoAnswerError] * 3
        assert not threads_in_producers()


def threads_in_producers() -> list[int]:
    """The threads that are in a call of a producer."""
    found = []
    for thread, frame in sys._current_frames().items():
        at: FrameType | None = frame
        while at is not None:
            if at.f_code.co_filename == producer_module.__file__:
                found.append(thread)
                break
            at = at.f_back
    return found
