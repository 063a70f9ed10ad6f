"""Topics that cannot be read: what is said of it, and that reading goes on when they can be again."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.kafka.broker import Broker, free_port
from tests.kafka.jobs import kafka, live, make, rows_of, run, running, values, wait_for_rows
from tests.kafka.topics import Record, Topics
from velostream.config.schema import FailureConfig
from velostream.connectors.base import Limits, Task
from velostream.connectors.kafka import consumer
from velostream.connectors.kafka.source import KafkaSource
from velostream.errors import ConnectorError
from velostream.runtime.job import Job
from velostream.runtime.prepare import prepare

SQL = "SELECT id FROM t"
SECONDS = 40


def failure_of(job: Job) -> str:
    """What a running job fails with."""
    assert job.wait(SECONDS), "the job does not fail"
    return job.failure().render()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_missing_topic_is_an_error_that_names_the_nearest(topics: Topics) -> None:
    topic = topics.create(name="trades")
    wrong = topic.replace("trades", "traeds")
    with pytest.raises(ConnectorError) as caught:
        prepare(make(SQL, {"t": kafka(topics.address, wrong)}).config)
    said = f"there is no topic '{wrong}' at {topics.address}; did you mean '{topic}'?"
    assert caught.value.render().startswith(said)


def test_a_pattern_that_matches_no_topic_is_an_error(topics: Topics) -> None:
    topic = topics.create()
    with pytest.raises(ConnectorError, match=f"no topic at {topics.address} matches '{topic}x'"):
        prepare(make(SQL, {"t": kafka(topics.address, topic_pattern=f"{topic}x")}).config)


def test_brokers_that_do_not_answer_are_an_error_at_the_start() -> None:
    address = f"127.0.0.1:{free_port()}"
    begun = time.monotonic()
    with pytest.raises(ConnectorError, match=f"no broker answers at {address}.*set sources.t.brokers"):
        prepare(make(SQL, {"t": kafka(address, "trades")}).config)
    assert time.monotonic() - begun < 10


def test_an_offset_that_does_not_exist_is_an_error_unless_it_is_said_where_to_go_on(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, values(range(10)))
    topics.admin.delete_records([TopicPartition(topic, 0, 4)])[TopicPartition(topic, 0)].result(SECONDS)
    source = kafka(topics.address, topic, start="offsets", start_offsets={"0": 2})
    job = make(SQL, {"t": source})
    report = job.run()
    assert report.state == "failed"
    assert f"'{topic}-0' has offsets 4 to 9, and is to be read from offset 2" in (report.error or "")
    source.options = {"auto.offset.reset": "earliest"}
    assert run(SQL, {"t": source})[1] == [(number,) for number in range(4, 10)]
    assert run(SQL, {"t": kafka(topics.address, topic)})[1] == [(number,) for number in range(4, 10)]


def test_a_topic_that_is_deleted_while_it_is_read_fails_the_job(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "MISSING_SECONDS", 0.5)
    topic = topics.create()
    topics.produce(topic, values([1]))
    job = make(SQL, {"t": live(topics.address, topic)})
    job.start()
    wait_for_rows(job, 1)
    topics.delete(topic)
    assert f"topic '{topic}' is not there any more at {topics.address}, since " in failure_of(job)


def test_partitions_that_are_added_are_not_left_out_silently(topics: Topics) -> None:
    topic = topics.create(partitions=1)
    topics.produce(topic, values([1]))
    source = live(topics.address, topic, options={"metadata.max.age.ms": 100})
    job = make(SQL, {"t": source})
    job.start()
    wait_for_rows(job, 1)
    topics.grow(topic, 3)
    assert f"topic '{topic}' has 3 partitions now, and 1 are read; start the job again" in failure_of(job)
    topics.produce(topic, [Record(value, partition=2) for value in values([2])])
    again = make(SQL, {"t": source})
    with running(again):
        assert wait_for_rows(again, 2) == [(1,), (2,)]


@pytest.mark.parametrize("number", [0, 1])
def test_who_asks_is_told_once_of_partitions_that_are_added_and_reading_goes_on(
    topics: Topics, number: int
) -> None:
    topic = topics.create(partitions=2)
    told: list[str] = []
    config = live(topics.address, topic, options={"metadata.max.age.ms": 100})
    source = KafkaSource("t", config)
    # One of two tasks: what it reads is not all there was.
    source.share(Task(number, 2, 1))
    source.on_growth = told.append
    reader = source.reader(0, Limits())
    try:
        topics.grow(topic, 5)
        wait_until(lambda: bool(told))
        topics.produce(topic, [Record(value, partition=number) for value in values([7])])
        while (block := reader.read()) is not None and not block.size:
            pass
        assert block is not None and block.next_offset == 1
        looking = source._consumer
        assert looking is not None
        looked = looking._looked
        wait_until(lambda: looking._looked > looked)
    finally:
        reader.close()
        source.close()
    assert told == [f"topic '{topic}' has 5 partitions now, and 2 are read"]


def test_a_job_goes_on_when_it_tells_of_what_is_added(topics: Topics) -> None:
    topic = topics.create(partitions=1)
    source = live(topics.address, topic, options={"metadata.max.age.ms": 100})
    told: list[str] = []
    config = make(SQL, {"t": source}).config
    with running(Job(config, on_growth=told.append)) as job:
        topics.grow(topic, 2)
        wait_until(lambda: bool(told))
        topics.produce(topic, [Record(value, partition=0) for value in values([1])])
        assert wait_for_rows(job, 1) == [(1,)]


def test_topics_that_come_to_match_are_not_left_out_silently(topics: Topics) -> None:
    first = topics.create(name="come")
    pattern = re.escape(first.rsplit("-", 1)[0]) + r"-\d+"
    topics.produce(first, values([1]))
    options = {"metadata.max.age.ms": 100}
    job = make(SQL, {"t": live(topics.address, topic_pattern=pattern, options=options)})
    job.start()
    wait_for_rows(job, 1)
    second = topics.create(name="come")
    assert f"topic '{second}' is there now and is to be read too" in failure_of(job)


def test_what_is_added_is_not_awaited_by_a_run_that_ends(topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, values([1]))
    source = kafka(
        topics.address,
        topic,
        until="offsets",
        until_offsets={"0": 2},
        options={"metadata.max.age.ms": 50},
    )
    job = make(SQL, {"t": source})
    job.start()
    wait_for_rows(job, 1)
    topics.grow(topic, 2)
    job.wait(1.5)
    topics.produce(topic, [Record(value, partition=0) for value in values([2])])
    assert job.wait(SECONDS)
    assert rows_of(job) == [(1,), (2,)]


def test_a_transaction_that_stays_open_is_told_of(
    topics: Topics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consumer, "HELD_SECONDS", 0.2)
    caplog.set_level(logging.WARNING, "velostream.kafka")
    topic = topics.create()
    settings = {"bootstrap.servers": topics.address, "transactional.id": topics.unused("transaction")}
    producer = Producer(settings)
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(topic, values([1])[0])
    producer.flush(SECONDS)
    topics.produce(topic, values([2]))
    job = make(SQL, {"t": live(topics.address, topic)})
    with running(job):
        told = f"holds up '{topic}-0' at offset 0, and 2 offsets from there"
        wait_until(lambda: any(told in record.getMessage() for record in caplog.records))
        assert rows_of(job) == []
        producer.commit_transaction(SECONDS)
        assert wait_for_rows(job, 2) == [(1,), (2,)]
    assert sum(told in record.getMessage() for record in caplog.records) == 1


def test_a_topic_that_is_not_to_be_read_fails_the_job() -> None:
    authorizer = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with Broker(properties=authorizer) as broker, Topics(broker.address) as topics:
        topic = topics.create()
        topics.produce(topic, values([1]))
        bindings = [
            AclBinding(
                ResourceType.TOPIC,
                topic,
                ResourcePatternType.LITERAL,
                "User:ANONYMOUS",
                "*",
                operation,
                permission,
            )
            for operation, permission in (
                (AclOperation.ALL, AclPermissionType.ALLOW),
                (AclOperation.READ, AclPermissionType.DENY),
            )
        ]
        for future in topics.admin.create_acls(bindings).values():
            future.result(SECONDS)
        # That it stays so, however long one waits, needs no try.
        failure = FailureConfig("retry_with_backoff", backoff="1h", max_backoff="1h")
        report = make(SQL, {"t": live(topics.address, topic)}, failure=failure).run()
        assert report.state == "failed"
        assert f"reading topic '{topic}'" in (report.error or "")
        assert "the broker does not allow it" in (report.error or "")


def test_reading_goes_on_where_it_was_when_a_broker_returns(
    own_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "velostream.kafka")
    with Topics(own_broker.address) as topics:
        topic = topics.create(partitions=2)
        topics.produce(topic, [Record(value, partition=n % 2) for n, value in enumerate(values(range(10)))])
        job = make(SQL, {"t": live(topics.address, topic)})
        with running(job):
            wait_for_rows(job, 10)
            own_broker.kill()
            told = f"no broker answers at {topics.address} since "
            wait_until(lambda: any(told in record.getMessage() for record in caplog.records))
            (trouble,) = job.progress().troubles
            assert trouble.what == "source 't'" and trouble.error.startswith("no broker answers at")
            assert time.time() - 60 < trouble.since < time.time()
            own_broker.start()
            topics.produce(
                topic, [Record(value, partition=n % 2) for n, value in enumerate(values([10, 11]))]
            )
            rows = wait_for_rows(job, 12)
            assert rows == [(number,) for number in range(12)]
            wait_until(lambda: any("answers again" in record.getMessage() for record in caplog.records))
            assert not job.progress().troubles
        assert sum(told in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("strategy", ["log_and_continue", "retry_with_backoff"])
def test_brokers_that_are_away_for_too_long_fail_the_job_as_declared(
    own_broker: Broker, strategy: str
) -> None:
    # They are not deleted: their broker is not there any more.
    topics = Topics(own_broker.address)
    topic = topics.create()
    topics.produce(topic, values([1]))
    job = make(
        SQL,
        {"t": live(topics.address, topic, max_outage="1500ms")},
        failure=FailureConfig(strategy=strategy, max_retries=3, backoff="10ms", max_backoff="20ms"),
    )
    job.start()
    wait_for_rows(job, 1)
    own_broker.kill()
    assert f"no broker answers at {topics.address} since " in failure_of(job)
