"""Brokers that die in the middle of transactions, and connections that break: the output stays exact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.broker import Broker, free_port
from tests.kafka.chaos import Proxy, Trades, Worker, wait_for
from tests.kafka.conftest import start
from tests.kafka.topics import Topics

KILLS = 2


def test_a_job_waits_for_brokers_that_are_killed_and_its_output_is_exact(
    own_broker: Broker, tmp_path: Path
) -> None:
    job = Trades(Topics(own_broker.address))
    with Worker(job.config(tmp_path / "state")) as worker:
        for _ in range(KILLS):
            before = job.written()
            job.feed(10_000)
            # Some of it is committed, and more on its way.
            job.wait_for(before + 1)
            own_broker.kill()
            own_broker.start()
        job.wait_for_all()
        worker.stop()
    job.wait_for_all()


def test_a_job_that_does_not_wait_fails_and_its_next_start_is_exact(
    own_broker: Broker, tmp_path: Path
) -> None:
    job = Trades(Topics(own_broker.address))
    config = job.config(tmp_path / "state", delivery_timeout_ms=1500)
    # When nothing is on its way out, it is the source that waits.
    config["sources"]["trades"]["max_outage"] = "2s"
    with Worker(config) as worker:
        job.feed(5000)
        job.wait_for(1)
        job.feed(10_000)
        own_broker.kill()
        report = worker.report()
    own_broker.start()
    assert report["state"] == "failed", report
    assert own_broker.address in report["error"], report
    with Worker(config) as worker:
        job.wait_for_all()
        worker.stop()


@pytest.mark.parametrize("away", ["paused", "killed"])
def test_a_job_that_is_stopped_beside_a_dead_broker_ends_and_its_next_start_is_exact(
    own_broker: Broker, tmp_path: Path, away: str
) -> None:
    job = Trades(Topics(own_broker.address))
    config = job.config(tmp_path / "state")
    # Only the commit at its start comes before the last one.
    config["delivery"]["interval"] = "1h"
    log = tmp_path / "log"
    with Worker(config, log) as worker:
        job.feed(10_000)
        wait_for(lambda: bool(job.topics.consume(job.out, committed=False)), "rows")
        if away == "paused":
            own_broker.pause()
        else:
            own_broker.kill()
        worker.stop()
    assert "stops without its last commit: " in log.read_text()
    if away == "paused":
        own_broker.resume()
    else:
        own_broker.start()
    assert job.written() == 0
    with Worker({**config, "delivery": {"guarantee": "exactly_once", "interval": "50ms"}}) as worker:
        job.wait_for_all()
        worker.stop()


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[str, Proxy]]:
    """A broker's own address, and a proxy by whose address it has itself known there."""
    inside, controller, outside, behind = (free_port() for _ in range(4))
    broker = Broker(
        inside,
        properties={
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{inside},PROXIED://127.0.0.1:{behind},"
            f"CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{inside},PROXIED://127.0.0.1:{outside}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        },
    )
    try:
        start(broker)
        with Proxy(outside, behind) as proxy:
            yield broker.address, proxy
    finally:
        broker.close()


@pytest.mark.parametrize(
    ("delay", "cut_bytes"), [(0.05, 0), (0.0, 300_000), (0.01, 200_000)], ids=["slow", "cut", "slow and cut"]
)
def test_connections_that_are_slow_or_cut_leave_the_output_exact(
    proxied: tuple[str, Proxy], tmp_path: Path, delay: float, cut_bytes: int
) -> None:
    address, proxy = proxied
    with Topics(address) as topics:
        job = Trades(topics)
        before = proxy.cuts
        with Worker(job.config(tmp_path / "state", proxy.address)) as worker:
            # It runs.
            job.feed(1000)
            job.wait_for(1)
            proxy.delay, proxy.cut_bytes = delay, cut_bytes
            proxy.hang_up()
            for _ in range(4):
                written = job.written()
                job.feed(2000)
                job.wait_for(written + 1)
            job.wait_for_all()
            proxy.delay, proxy.cut_bytes = 0.0, 0
            assert (proxy.cuts > before) == bool(cut_bytes)
            worker.stop()
        job.wait_for_all()
