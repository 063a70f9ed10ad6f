"""Two processes that would run one job: which of them writes, and that the output stays exact."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.broker import Broker
from tests.kafka.chaos import Trades, Worker, wait_for
from tests.kafka.conftest import start
from tests.kafka.topics import Topics
from velostream.connectors.kafka.client import admin, client_settings
from velostream.loop import submit


@pytest.fixture(scope="module")
def patient() -> Iterator[Broker]:
    """A broker that allows sessions of a second."""
    broker = Broker()
    try:
        start(broker)
        yield broker
    finally:
        broker.close()


@pytest.fixture
def job(patient: Broker) -> Iterator[Trades]:
    with Topics(patient.address) as topics:
        yield Trades(topics)


@pytest.mark.parametrize("state", ["copied", "on another machine"])
def test_a_paused_process_writes_nothing_once_another_has_taken_over(
    job: Trades, tmp_path: Path, state: str
) -> None:
    short = {"session_timeout_ms": 1000, "transaction_timeout_ms": 1500}
    with Worker(job.config(tmp_path / "a", **short)) as first:
        job.feed(5000)
        job.wait_for(1000)
        first.send(signal.SIGSTOP)
        job.feed(5000)
        if state == "copied":
            shutil.copytree(tmp_path / "a", tmp_path / "b")
        with Worker(job.config(tmp_path / "b", **short)) as second:
            job.wait_for_all()
            first.send(signal.SIGCONT)
            report = first.report()
            assert report["state"] == "failed", report
            assert "connector.fenced" in report["error"] or "taken over" in report["error"]
            job.feed(5000)
            job.wait_for_all()
            second.stop()
        job.wait_for_all()


def test_a_process_that_was_paused_without_a_successor_goes_on(job: Trades, tmp_path: Path) -> None:
    # Out of the group, while its transaction is not aborted.
    with Worker(job.config(tmp_path / "a", session_timeout_ms=1000)) as worker:
        job.feed(5000)
        job.wait_for(1000)
        worker.send(signal.SIGSTOP)
        group = f"velostream-{job.name}"
        wait_for(lambda: not is_held(job.topics, group), "the member's session ends")
        job.feed(5000)
        worker.send(signal.SIGCONT)
        job.wait_for_all()
        wait_for(lambda: is_held(job.topics, group), "it is a member again")
        worker.stop()


@pytest.mark.parametrize("folder", ["a", "b"])
def test_a_second_process_is_refused_and_the_first_goes_on(job: Trades, tmp_path: Path, folder: str) -> None:
    with Worker(job.config(tmp_path / "a")) as first:
        job.feed(2000)
        job.wait_for(100)
        with Worker(job.config(tmp_path / folder)) as second:
            report = second.report()
        assert report["state"] == "refused"
        assert f"process {first.pid} on" in report["error"], report
        assert ("give this job another name" if folder == "b" else "state.path") in report["error"]
        job.feed(2000)
        job.wait_for_all()
        assert not first.ended
        first.stop()


def test_a_killed_worker_starts_again_without_waiting_for_its_session(job: Trades, tmp_path: Path) -> None:
    config = job.config(tmp_path / "a", session_timeout_ms=300_000)
    with Worker(config) as first:
        job.feed(2000)
        job.wait_for(100)
        first.send(signal.SIGKILL)
    with Worker(config) as again:
        job.feed(2000)
        job.wait_for_all()
        again.stop()


def is_held(topics: Topics, group: str) -> bool:
    """Whether the group has members. librdkafka shows those of consumers only."""
    settings = client_settings(topics.address, {}, "sinks.out", "sink")

    async def describe() -> Any:
        async with admin(settings) as client:
            return await client.describe_consumer_groups([group])

    found = [entry for response in submit(describe()).result(30) for entry in response.groups]
    return any(entry[2] != "Empty" for entry in found)
