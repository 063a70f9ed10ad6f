"""Who may run a job, of several workers that would."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.kafka.topics import Topics
from velostream.connectors.kafka.client import FencedError, client_settings
from velostream.connectors.kafka.membership import Membership, Worker
from velostream.errors import ConnectorError

Make = Callable[..., "Member"]


class Member:
    """A worker with its state in a folder of that name; `lost` is set when it hears that it is out."""

    def __init__(self, topics: Topics, group: str, folder: str, session_ms: int = 5000) -> None:
        settings = client_settings(topics.address, {"session.timeout.ms": session_ms}, "sinks.out", "sink")
        self.errors: list[ConnectorError] = []
        self.lost = threading.Event()
        self.membership = Membership(settings, group, Worker.of(folder), self._lose)

    def _lose(self, error: ConnectorError) -> None:
        self.errors.append(error)
        self.lost.set()


@pytest.fixture
def member(topics: Topics) -> Iterator[Make]:
    """Makes members of one group, which leave in the end."""
    group = topics.unused("velostream-job")
    with ExitStack() as stack:

        def make(folder: str, **keys: int) -> Member:
            made = Member(topics, group, folder, **keys)
            stack.callback(made.membership.close)
            return made

        yield make


def test_a_second_worker_is_told_who_runs_the_job_and_the_first_keeps_it(member: Make) -> None:
    first, second, third = member("a"), member("b"), member("c")
    first.membership.open()
    for other in (second, third):
        with pytest.raises(
            ConnectorError, match=r"the job is run by process .* with its state in '.*/a'"
        ) as e:
            other.membership.open()
        assert "stop that one first" in e.value.render()
    assert not first.lost.is_set()
    # It still holds the job.
    with pytest.raises(ConnectorError, match=r"with its state in '.*/a'"):
        member("b").membership.open()


def test_a_job_that_was_given_up_is_free_at_once(member: Make) -> None:
    # Nobody waits for the end of a session that would outlast the test.
    first, second = member("a", session_ms=300_000), member("b", session_ms=300_000)
    first.membership.open()
    first.membership.close()
    second.membership.open()
    with pytest.raises(ConnectorError, match=r"with its state in '.*/b'"):
        first.membership.open()


def test_a_worker_of_the_same_state_folder_takes_over_at_once(member: Make) -> None:
    first, again = member("a"), member("a", session_ms=300_000)
    first.membership.open()
    again.membership.open()
    assert first.lost.wait(30)
    assert isinstance(first.errors[0], FencedError)
    assert "the job was taken over by process" in first.errors[0].render()
    assert not again.lost.is_set()
    with pytest.raises(ConnectorError, match=r"with its state in '.*/a'"):
        member("b").membership.open()


def test_of_workers_that_start_together_one_gets_the_job(member: Make) -> None:
    members = [member(name) for name in "abcd"]
    refused: list[ConnectorError] = []

    def open(one: Member) -> None:
        try:
            one.membership.open()
        except ConnectorError as error:
            refused.append(error)

    threads = [threading.Thread(target=open, args=(one,)) for one in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert not any(one.lost.is_set() for one in members)
