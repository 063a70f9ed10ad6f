"""Who may run a job, of several workers that would."""

from __future__ import annotations

import threading

import pytest

from tests.kafka.chaos import wait_for
from tests.kafka.members import Group, Member
from tests.kafka.members import member as member
from velostream.errors import ConnectorError, FencedError


def test_a_second_worker_is_told_who_runs_the_job_and_the_first_keeps_it(member: Group) -> None:
    first, second, third = member("a"), member("b"), member("c")
    first.membership.open()
    for other in (second, third):
        with pytest.raises(
            ConnectorError, match=r"the job is run by process .* with its state in '.*/a'"
        ) as e:
            other.membership.open()
        assert "stop that one first" in e.value.render()
        assert "set processor.tasks to as many as workers may share the job" in e.value.render()
    assert not first.lost.is_set()
    # It still holds the job.
    with pytest.raises(ConnectorError, match=r"with its state in '.*/a'"):
        member("b").membership.open()


def test_a_job_that_was_given_up_is_free_at_once(member: Group) -> None:
    # Nobody waits for the end of a session that would outlast the test.
    first, second = member("a", session_ms=300_000), member("b", session_ms=300_000)
    first.membership.open()
    first.membership.close()
    second.membership.open()
    with pytest.raises(ConnectorError, match=r"with its state in '.*/b'"):
        first.membership.open()


def test_a_worker_of_the_same_state_folder_takes_over_at_once(member: Group) -> None:
    # Who has lost the job is no member any more that others would wait for.
    first, again = member("a", session_ms=300_000), member("a", session_ms=300_000)
    first.membership.open()
    again.membership.open()
    assert first.lost.wait(30)
    assert isinstance(first.errors[0], FencedError)
    assert "the job was taken over by process" in first.errors[0].render()
    assert not again.lost.is_set()
    with pytest.raises(ConnectorError, match=r"with its state in '.*/a'"):
        member("b").membership.open()


def test_of_workers_that_start_together_one_gets_the_job(member: Group) -> None:
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


def test_a_worker_that_was_silent_goes_on_when_nobody_has_taken_over(member: Group) -> None:
    alone = member("a", session_ms=1000)
    alone.membership.open()
    was = alone.membership._member
    speak = alone.fall_silent()
    # Whoever joins now comes to an empty group, once the session is over.
    other = member("b")
    other.membership.open()
    other.membership.close()
    speak()
    wait_for(lambda: alone.membership._member is not was and alone.membership._now is not None, "it is back")
    assert not alone.errors
    with pytest.raises(ConnectorError, match=r"with its state in '.*/a'"):
        member("b").membership.open()


def test_a_worker_that_was_silent_hears_of_the_one_that_has_taken_over(member: Group) -> None:
    first, second = member("a", session_ms=1000), member("b", session_ms=300_000)
    first.membership.open()
    speak = first.fall_silent()
    second.membership.open()
    # What it says of its task meanwhile is no claim.
    first.hold({0})
    speak()
    assert first.lost.wait(30)
    assert isinstance(first.errors[0], FencedError)
    assert "the job was taken over by process" in first.errors[0].render()
    assert "silent for longer than 1 s" in first.errors[0].render()
    assert not second.lost.is_set()
