"""The topic of an exchange: what is deleted when, and which settings its clients get. No broker."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from velostream.connectors.kafka.exchange_topic import Trimmer, connection_settings
from velostream.connectors.kafka.settings import client_settings
from velostream.errors import ConnectorError
from velostream.loop import submit

SECONDS = 30


class Deleting:
    """What a trimmer has had deleted; a deletion under way ends when it may."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.failures: list[ConnectorError] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self._changed = threading.Condition()

    async def __call__(self, offset: int) -> None:
        with self._changed:
            self.offsets.append(offset)
            self._changed.notify_all()
        if not self.may_end.is_set():
            await asyncio.to_thread(self.may_end.wait, SECONDS)
        if self.failures:
            raise self.failures.pop(0)

    def wait_for(self, count: int) -> list[int]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.offsets) >= count, SECONDS)
            return list(self.offsets)


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def settle() -> None:
    """Until the loop has done what it can do at once."""
    submit(_turns()).result(SECONDS)


@pytest.fixture
def deleting() -> Deleting:
    return Deleting()


@pytest.fixture
def trimmer(deleting: Deleting) -> Iterator[Trimmer]:
    trimmer = Trimmer("exchange-0", deleting, seconds=0)
    yield trimmer
    trimmer.close()


def test_of_the_offsets_that_come_meanwhile_the_last_one_counts(trimmer: Trimmer, deleting: Deleting) -> None:
    deleting.may_end.clear()
    trimmer.trim(5)
    assert deleting.wait_for(1) == [5]
    for offset in (6, 7, 8):
        trimmer.trim(offset)
    settle()
    deleting.may_end.set()
    assert deleting.wait_for(2) == [5, 8]


def test_nothing_is_deleted_twice_and_nothing_for_offset_zero(trimmer: Trimmer, deleting: Deleting) -> None:
    for offset in (0, 3, 3, 3, 4):
        trimmer.trim(offset)
        settle()
    assert deleting.offsets == [3, 4]


def test_between_two_times_it_waits(deleting: Deleting) -> None:
    trimmer = Trimmer("exchange-0", deleting, seconds=3_600)
    trimmer.trim(1)
    settle()
    trimmer.trim(2)
    settle()
    assert deleting.offsets == [1]
    trimmer.close()
    trimmer.close()


def test_a_failure_is_told_once_until_it_works_again(
    trimmer: Trimmer, deleting: Deleting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "velostream.kafka")
    denied = ConnectorError("the broker does not allow it", hint="give the right")
    deleting.failures = [denied, denied]
    trimmer.trim(1)
    assert deleting.wait_for(3) == [1, 1, 1]
    settle()
    assert caplog.messages == [
        "'exchange-0': what was read and committed cannot be deleted, and takes room: "
        "the broker does not allow it; give the right"
    ]
    deleting.failures = [denied]
    trimmer.trim(2)
    assert deleting.wait_for(5) == [1, 1, 1, 2, 2]
    settle()
    assert len(caplog.messages) == 2


def test_clients_of_an_exchange_get_only_what_all_clients_have() -> None:
    common = {"security.protocol": "SASL_PLAINTEXT", "sasl.username": "u", "sasl.password": "p"}
    for role, others in (
        ("source", {"isolation.level": "read_uncommitted", "group.id": "g", "fetch.min.bytes": 1_000_000}),
        ("sink", {"acks": "1", "enable.idempotence": False, "batch.size": 10}),
    ):
        given = client_settings("here:9092", {**common, **others}, "place", role)  # type: ignore[arg-type]
        assert connection_settings(given) == client_settings("here:9092", common, "place", "sink")
