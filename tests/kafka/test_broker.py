"""The broker of these tests, and the client that checks velostream's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from tests.kafka.broker import Broker, free_port, in_use
from tests.kafka.topics import Record, Topics


def test_a_consumer_reads_what_a_producer_wrote(topics: Topics) -> None:
    topic = topics.create(partitions=2)
    written = [
        Record(b"one", b"key", 1, 1_700_000_000_000, (("name", b"text"), ("nothing", None)), 0),
        Record(None, b"key", 1, 1_700_000_000_001, (), 1),
        Record(b"", None, 1, 1_700_000_000_002, (), 2),
    ]
    topics.produce(topic, written)
    assert topics.consume(topic, 3) == written


def test_a_committed_reader_does_not_see_an_aborted_transaction(topics: Topics) -> None:
    topic = topics.create()
    topics.produce_in_transaction(topic, [b"kept"])
    topics.produce_in_transaction(topic, [b"taken back"], commit=False)
    assert [record.value for record in topics.consume(topic)] == [b"kept"]
    assert [record.value for record in topics.consume(topic, committed=False)] == [b"kept", b"taken back"]


def test_a_killed_broker_returns_with_its_data(own_broker: Broker) -> None:
    with Topics(own_broker.address) as topics:
        topic = topics.create()
        topics.produce(topic, [b"kept"])
        own_broker.kill()
        assert not in_use(own_broker.port)
        own_broker.start()
        assert [record.value for record in topics.consume(topic, 1)] == [b"kept"]


def test_a_broker_ends_with_a_starter_that_is_killed(kafka_address: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.kafka.broker", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert f"127.0.0.1:{port}" in starter.stdout.readline()
        assert in_use(port)
        os.kill(starter.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while in_use(port):
        assert time.monotonic() < deadline, "the broker goes on without its starter"
