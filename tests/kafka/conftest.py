"""The broker of the session, and topics of one test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from tests.kafka.broker import Broker, BrokerUnavailable
from tests.kafka.secured import Secured, secured_broker
from tests.kafka.topics import Topics

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.kafka)


def start(broker: Broker) -> None:
    """Start it, or skip the test; fail where tests must not be skipped (CI, VELOSTREAM_TEST_NO_SKIP)."""
    try:
        broker.start()
    except BrokerUnavailable as error:
        _unavailable(error)


def _unavailable(error: BrokerUnavailable) -> NoReturn:
    if os.environ.get("CI") or os.environ.get("VELOSTREAM_TEST_NO_SKIP"):
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """host:port of a broker that all tests share: VELOSTREAM_TEST_KAFKA, or one of this session."""
    given = os.environ.get("VELOSTREAM_TEST_KAFKA")
    if given:
        yield given
        return
    broker = Broker()
    try:
        start(broker)
        yield broker.address
    finally:
        broker.close()


@pytest.fixture
def topics(kafka_address: str) -> Iterator[Topics]:
    """Topics on the shared broker, deleted at the test's end."""
    with Topics(kafka_address) as topics:
        yield topics


@pytest.fixture(scope="session")
def mortal_broker() -> Iterator[Broker]:
    """The one of `own_broker`, which starts it when it does not run."""
    # One that was killed may return when its session is over.
    broker = Broker(properties={"broker.session.timeout.ms": 1500, "broker.heartbeat.interval.ms": 250})
    yield broker
    broker.close()


@pytest.fixture
def own_broker(mortal_broker: Broker) -> Iterator[Broker]:
    """A broker that only this test uses now, to pause, stop, kill and start again."""
    if not mortal_broker.runs:
        start(mortal_broker)
    yield mortal_broker
    if mortal_broker.runs:
        # A test that has failed may have paused it.
        mortal_broker.resume()


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker that demands TLS, SASL and rights."""
    if shutil.which("openssl") is None:
        pytest.fail("these tests make certificates: install openssl", pytrace=False)
    with ExitStack() as stack:
        try:
            yield stack.enter_context(secured_broker(tmp_path_factory.mktemp("certificates")))
        except BrokerUnavailable as error:
            _unavailable(error)
