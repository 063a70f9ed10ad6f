"""The tasks of a job are dealt among its workers, whoever joins, leaves, dies and returns."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from tests.kafka.broker import Broker
from tests.kafka.chaos import wait_for
from tests.kafka.members import Group, Member
from tests.kafka.members import member as member
from tests.kafka.topics import Topics
from velostream.connectors.base import Assignment
from velostream.connectors.kafka.client import client_settings
from velostream.connectors.kafka.worker_place import WorkerPlace
from velostream.errors import ConnectorError, FencedError

# Nobody waits for the end of a session that outlasts the test.
LONG = 300_000


def wait_for_tasks(tasks: dict[Member, set[int]]) -> None:
    def as_wanted() -> bool:
        return all(one.tasks == wanted for one, wanted in tasks.items())

    wait_for(as_wanted, "tasks get to whom they are for")


def wait_for_even_shares(tasks: int, *members: Member) -> None:
    def even() -> bool:
        counts = [len(one.tasks) for one in members]
        held = frozenset[int]().union(*(one.tasks for one in members))
        return len(held) == sum(counts) == tasks and max(counts) - min(counts) <= 1

    wait_for(even, "the workers have equal shares")


def test_a_worker_alone_has_all_tasks(member: Group) -> None:
    first = member("a", tasks=3)
    assert first.open() == Assignment(frozenset({0, 1, 2}), 1, False, 1)


def test_a_second_worker_gets_its_share_once_the_first_has_given_it_up(member: Group) -> None:
    first, second = member("a", tasks=4, prompt=False), member("b", tasks=4)
    first.open()
    assert second.open() == Assignment(frozenset(), 1, False, 2)
    wait_for(lambda: len(first.assigned) > 1, "the first worker is asked for tasks")
    assert first.assigned[1] == Assignment(frozenset({0, 1}), 1, False, 2)
    # One that is still being stopped is nobody else's.
    first.hold({0, 1, 2})
    wait_for_tasks({second: {3}})
    first.hold({0, 1})
    wait_for_tasks({first: {0, 1}, second: {2, 3}})
    assert first.assigned[-1].tasks == {0, 1}
    assert not member.held.shared


def test_tasks_of_a_worker_that_leaves_are_taken_over_at_once(member: Group) -> None:
    first, second = member("a", tasks=4, session_ms=LONG), member("b", tasks=4, session_ms=LONG)
    first.open()
    second.open()
    wait_for_tasks({first: {0, 1}, second: {2, 3}})
    first.leave()
    wait_for_tasks({second: {0, 1, 2, 3}})
    assert second.assigned[-1] == Assignment(frozenset({0, 1, 2, 3}), 1, False, 1)
    assert not member.held.shared


def test_tasks_of_a_worker_that_dies_are_taken_over_when_its_session_ends(member: Group) -> None:
    first, second = member("a", tasks=4, session_ms=1000), member("b", tasks=4)
    first.open()
    second.open()
    wait_for_tasks({first: {0, 1}, second: {2, 3}})
    first.die()
    wait_for_tasks({second: {0, 1, 2, 3}})


@pytest.mark.parametrize("who", [0, 1])
def test_a_worker_that_starts_again_has_its_tasks_back_at_once(member: Group, who: int) -> None:
    # Also when it is the group's leader, which is who came first.
    pair = [member(folder, tasks=4, session_ms=LONG) for folder in "ab"]
    pair[0].open()
    pair[1].open()
    wait_for_tasks({pair[0]: {0, 1}, pair[1]: {2, 3}})
    other = pair[1 - who]
    seen = len(other.assigned)
    pair[who].die()
    again = member("ab"[who], tasks=4, session_ms=LONG)
    assert again.open().tasks == ({0, 1}, {2, 3})[who]
    # The group is as it would be with any other member.
    third = member("c", tasks=4, session_ms=LONG)
    third.open()
    wait_for(lambda: len(third.tasks) == 1, "a third worker gets its share")
    assert sorted(len(one.tasks) for one in (again, other, third)) == [1, 1, 2]
    # What stays put was never stopped.
    kept = other.assigned[seen - 1].tasks & other.tasks
    assert kept and all(kept <= assignment.tasks for assignment in other.assigned[seen:])
    assert not member.held.shared


def test_what_a_worker_was_to_give_up_is_free_when_it_starts_again(member: Group) -> None:
    first = member("a", tasks=4, session_ms=LONG, prompt=False)
    second = member("b", tasks=4, session_ms=LONG)
    first.open()
    second.open()
    wait_for(lambda: len(first.assigned) > 1, "the first worker is asked for tasks")
    first.die()
    assert not second.tasks
    again = member("a", tasks=4, session_ms=LONG)
    assert again.open().tasks == {0, 1}
    wait_for_tasks({again: {0, 1}, second: {2, 3}})
    assert again.assigned[-1].workers == 2


def test_all_hear_when_the_last_task_is_complete(member: Group) -> None:
    first, second, third = (member(folder, tasks=3, session_ms=LONG) for folder in "abc")
    for one in (first, second, third):
        one.open()
    wait_for_even_shares(3, first, second, third)
    first.finish(*first.tasks)
    third.finish(*third.tasks)
    (known,), (forgotten,), (last,) = first.tasks, third.tasks, second.tasks
    # Its report goes with it: who gets the task finds it complete.
    third.leave()
    wait_for(lambda: forgotten in first.tasks | second.tasks, "the task is taken over")
    second.finish(last)
    wait_for(lambda: second.tasks >= {last}, "its task stays with it")
    finder = next(one for one in (first, second) if forgotten in one.tasks)
    assert not finder.assigned[-1].complete
    finder.finish(forgotten)
    for one in (first, second):
        wait_for(lambda one=one: one.assigned[-1].complete, "the job is complete")  # type: ignore[misc]
    assert known in first.tasks
    # That stays so when somebody leaves, and for who comes late.
    first.leave()
    late = member("d", tasks=3, session_ms=LONG)
    assert late.open().complete
    assert second.assigned[-1].complete


def test_open_tasks_go_to_a_worker_whose_tasks_are_complete(member: Group) -> None:
    first, second = (member(folder, tasks=4, session_ms=LONG) for folder in "ab")
    first.open()
    second.open()
    wait_for_tasks({first: {0, 1}, second: {2, 3}})
    first.finish(0)
    first.finish(1)
    wait_for_tasks({first: {0, 1, 3}, second: {2}})


def test_a_job_that_is_begun_afresh_has_another_run(topics: Topics, member: Group) -> None:
    first, second = member("a", tasks=2, session_ms=LONG, reset=True), member("b", tasks=2, session_ms=LONG)
    try:
        assert first.open().run == 2
        assert second.open().run == 2
        first.leave()
        second.leave()
        again = member("a", tasks=2, session_ms=LONG)
        assert again.open().run == 2
        # Without waiting for the session of one that was killed.
        again.die()
        afresh = member("a", tasks=2, session_ms=LONG, reset=True)
        assert afresh.open() == Assignment(frozenset({0, 1}), 3, False, 1)
    finally:
        topics.delete(f"{member.name}-state")


def test_a_job_that_runs_is_not_begun_afresh(member: Group, caplog: pytest.LogCaptureFixture) -> None:
    first, second = member("a", tasks=2), member("b", tasks=2, reset=True)
    first.open()
    with caplog.at_level(logging.WARNING, "velostream.kafka"):
        assert second.open().run == 1
    assert "the job runs already, and this worker does not begin it afresh" in caplog.text
    wait_for_tasks({first: {0}, second: {1}})


def test_workers_that_are_too_many_stand_by(member: Group, caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = (member(folder, tasks=2, session_ms=LONG) for folder in "abc")
    first.open()
    second.open()
    wait_for_tasks({first: {0}, second: {1}})
    assert not caplog.text
    third.open()
    (warning,) = caplog.messages
    assert "its 3 workers are more than there are tasks to be done (processor.tasks=2)" in warning
    first.leave()
    wait_for_tasks({second: {1}, third: {0}})
    fourth = member("d", tasks=2, session_ms=LONG)
    fourth.open()
    assert len(caplog.messages) == 2


def test_workers_must_divide_the_job_alike(member: Group) -> None:
    first, second = member("a", tasks=2, session_ms=LONG), member("b", tasks=3, session_ms=500)
    first.open()
    with pytest.raises(ConnectorError, match="do not divide the job into 3 tasks") as error:
        second.open()
    assert "processor.tasks" in error.value.render()


def test_a_worker_that_was_silent_drops_its_tasks_and_joins_again(member: Group) -> None:
    first, second = member("a", tasks=4, session_ms=1000), member("b", tasks=4)
    first.open()
    second.open()
    wait_for_tasks({first: {0, 1}, second: {2, 3}})
    heard = len(first.assigned)
    speak = first.fall_silent()
    wait_for(lambda: len(second.assigned[-1].tasks) == 4, "the other one takes its tasks over")
    speak()
    assert first.lost.wait(30)
    assert isinstance(first.errors[0], FencedError)
    assert "this worker may have lost its tasks" in first.errors[0].render()
    assert not first.membership.confirm() and second.membership.confirm()
    # It is no member before it has dropped what it had.
    third = member("c", tasks=4)
    third.open()
    wait_for_even_shares(4, second, third)
    assert third.assigned[-1].workers == 2
    assert len(first.assigned) == heard
    first.hold(())
    wait_for_even_shares(4, first, second, third)
    assert len(first.errors) == 1
    assert first.membership.confirm()


def test_a_worker_that_was_silent_alone_is_given_its_tasks_again(member: Group) -> None:
    alone = member("a", tasks=2, session_ms=1000)
    first = alone.open()
    speak = alone.fall_silent()
    assert alone.membership._member is not None
    other = member("b", tasks=2)
    other.open()
    other.leave()
    speak()
    assert alone.lost.wait(30)
    alone.hold(())
    wait_for_tasks({alone: {0, 1}})
    assert alone.assigned == [first, first]


def test_a_task_that_cannot_be_gone_on_with_is_assigned_anew(member: Group) -> None:
    first, second = (member(folder, tasks=4, session_ms=LONG) for folder in "ab")
    first.open()
    second.open()
    wait_for_tasks({first: {0, 1}, second: {2, 3}})
    heard, others = len(first.assigned), len(second.assigned)
    first.hold({0})
    wait_for_tasks({first: {0, 1}})
    assert [assignment.tasks for assignment in first.assigned[heard:]] == [{0, 1}]
    assert len(second.assigned) == others


def test_a_worker_that_has_not_said_what_it_holds_hears_nothing(member: Group) -> None:
    first, second = member("a", tasks=2), member("b", tasks=2)
    assert first.membership.open().tasks == {0, 1}
    second.open()
    # Another generation, of which the first one hears nothing either.
    third = member("c", tasks=2)
    third.open()
    assert not first.assigned
    first.hold({0, 1})
    wait_for(lambda: len(first.assigned) == 1, "it hears what it is assigned now")
    assert first.assigned[0] == Assignment(frozenset({0}), 1, False, 3)


def test_a_worker_that_comes_and_goes_moves_no_more_than_its_share(member: Group) -> None:
    first, second = (member(folder, tasks=5, session_ms=LONG) for folder in "ab")
    first.open()
    second.open()
    wait_for_even_shares(5, first, second)
    # With three there are quotas of 2, 2 and 1: who has 3 gives up one, who has 2 none, or both one.
    kept = {one: sorted(one.tasks)[: len(one.tasks) - 1] for one in (first, second)}
    seen = {one: len(one.assigned) for one in (first, second)}
    for turn in range(10):
        guest = member("c", tasks=5, session_ms=LONG)
        guest.open()
        if turn % 2:
            wait_for(lambda guest=guest: bool(guest.tasks), "it gets a task")  # type: ignore[misc]
        guest.leave()
    wait_for_even_shares(5, first, second)
    for one, tasks in kept.items():
        assert all(assignment.tasks.issuperset(tasks) for assignment in one.assigned[seen[one] :])
    assert not member.held.shared


def test_a_worker_can_leave_while_the_group_waits_for_another_one(member: Group) -> None:
    first, second, third = (member(folder, tasks=4, session_ms=LONG) for folder in "abc")
    first.open()
    second.open()
    wait_for_even_shares(4, first, second)
    speak, joins = second.fall_silent(), first.watch_joining()
    opening = threading.Thread(target=third.open)
    opening.start()
    assert joins.wait(30)
    assert first.membership._member is not None
    known = first.membership._member.id
    assert known in member.ids()
    first.leave()
    assert known not in member.ids()
    speak()
    opening.join()
    wait_for_even_shares(4, second, third)
    assert not member.held.shared


def test_a_broker_that_is_away_for_a_while_moves_no_task(own_broker: Broker) -> None:
    with Topics(own_broker.address) as topics, Group(topics) as member:
        first, second = (member(folder, tasks=4) for folder in "ab")
        first.open()
        second.open()
        wait_for_even_shares(4, first, second)
        heard = [len(one.assigned) for one in (first, second)]
        own_broker.kill()
        own_broker.start()
        third = member("c", tasks=4)
        third.open()
        wait_for_even_shares(4, first, second, third)
        assert not first.errors and not second.errors
        for one, already in zip((first, second), heard, strict=True):
            assert all(assignment.tasks >= one.tasks for assignment in one.assigned[already:])
        assert not member.held.shared


def test_workers_that_start_together_share_the_tasks(member: Group) -> None:
    members = [member(folder, tasks=7, session_ms=LONG) for folder in "abcd"]
    threads = [threading.Thread(target=one.open) for one in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for_even_shares(7, *members)
    assert not member.held.shared


def test_workers_of_one_folder_have_places_of_their_own_and_find_them_again(
    topics: Topics, tmp_path: Path
) -> None:
    name = topics.unused("velostream-job")
    settings = client_settings(topics.address, {"session.timeout.ms": LONG}, "sinks.out", "sink")

    def place() -> WorkerPlace:
        return WorkerPlace(settings, name, tmp_path, 2, False, lambda assignment: None, lambda error: None)

    first, second = place(), place()
    try:
        assert first.open().tasks == {0, 1}
        second.open()
        assert [one.folder for one in (first, second)] == [tmp_path / "worker-0", tmp_path / "worker-1"]
        # As when the process is killed: the place is free, and the group knows nothing of it.
        assert first._slot is not None
        first._slot.release()
        again = place()
        assert again.open().tasks == {0}
        assert again.folder == tmp_path / "worker-0"
        again.close()
    finally:
        first.close()
        second.close()
    assert not list(tmp_path.iterdir())
