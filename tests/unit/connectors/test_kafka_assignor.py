"""Who gets which tasks: balanced, no task twice, and as few moved as can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from velostream.connectors.kafka.assignor import Holding, Share, assign

NAMES = "abcdefg"


def held(*tasks: int, stopping: tuple[int, ...] = (), complete: tuple[int, ...] = ()) -> Holding:
    return Holding(frozenset(tasks), frozenset(stopping), frozenset(complete))


def dealt(members: Mapping[str, Holding], tasks: int) -> dict[str, list[int]]:
    return {name: sorted(share.tasks) for name, share in assign(members, tasks).items()}


def test_tasks_of_nobody_go_to_who_has_fewest() -> None:
    assert dealt({"a": held(), "b": held()}, 5) == {"a": [0, 2, 4], "b": [1, 3]}
    assert dealt({"a": held(0), "b": held(1, 4)}, 5) == {"a": [0, 2], "b": [1, 3, 4]}


def test_who_has_too_many_is_asked_to_give_up_the_last_ones() -> None:
    assert dealt({"a": held(0, 1, 2, 3), "b": held()}, 4) == {"a": [0, 1], "b": []}
    assert dealt({"a": held(0, 1), "b": held()}, 4) == {"a": [0, 1], "b": [2, 3]}


def test_a_task_that_is_being_stopped_is_nobodys_not_even_the_holders() -> None:
    assert dealt({"a": held(0, 1, stopping=(1,))}, 2) == {"a": [0]}
    assert dealt({"a": held(0, 1, 2, stopping=(2,)), "b": held(3)}, 4) == {"a": [0, 1], "b": [3]}


def test_the_odd_task_stays_with_who_has_most() -> None:
    assert dealt({"a": held(0), "b": held(1, 2)}, 3) == {"a": [0], "b": [1, 2]}
    assert dealt({"a": held(0, 1, 2), "b": held(3, 4), "c": held()}, 5) == {"a": [0, 1], "b": [3, 4], "c": []}


def test_more_members_than_tasks_stand_by() -> None:
    shares = assign({"a": held(), "b": held(0), "c": held()}, 2)
    assert shares == {
        "a": Share(frozenset({1}), 1),
        "b": Share(frozenset({0}), 1),
        "c": Share(frozenset(), 0),
    }


def test_complete_tasks_stay_and_count_for_no_quota() -> None:
    done = held(0, 1, complete=(0, 1))
    assert dealt({"a": done, "b": held(2, 3)}, 4) == {"a": [0, 1], "b": [2]}
    assert dealt({"a": done, "b": held(2)}, 4) == {"a": [0, 1, 3], "b": [2]}


def test_what_a_member_says_of_tasks_that_it_has_not_is_not_heard() -> None:
    assert dealt({"a": held(0, complete=(0, 1)), "b": held(2)}, 3) == {"a": [0, 1], "b": [2]}


def test_of_two_that_claim_a_task_one_gets_it() -> None:
    assert dealt({"a": held(0, 1), "b": held(1, 2)}, 3) == {"a": [0, 1], "b": [2]}


# --- any history ------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """As `Membership` keeps it: what it is assigned, and what it holds, which is more while it stops some."""

    assigned: frozenset[int] = frozenset()
    holds: frozenset[int] = frozenset()
    complete: frozenset[int] = frozenset()


@dataclass
class Group:
    tasks: int
    workers: dict[str, Worker] = field(default_factory=dict)
    moved: int = 0

    def holdings(self) -> dict[str, Holding]:
        return {
            name: Holding(worker.holds, worker.holds - worker.assigned, worker.complete)
            for name, worker in self.workers.items()
        }

    def rebalance(self) -> None:
        """Deal the tasks, and hold what must be so of each assignment."""
        if not self.workers:
            return
        before = self.holdings()
        shares = assign(before, self.tasks)
        assert shares == assign(dict(reversed(before.items())), self.tasks)
        assert list(shares) == list(before)
        given = [task for share in shares.values() for task in share.tasks]
        assert len(given) == len(set(given))
        for name, share in shares.items():
            others = [other.holds for another, other in before.items() if another != name]
            assert share.tasks.isdisjoint(frozenset().union(*others))
        # All are dealt but those that are being given up.
        left = frozenset().union(*(before[name].holds - shares[name].tasks for name in before))
        assert left | frozenset(given) == set(range(self.tasks))
        complete = self.complete
        unfinished = self.tasks - len(complete)
        quotas = sorted(share.quota for share in shares.values())
        assert sum(quotas) == unfinished and quotas[-1] - quotas[0] <= 1
        assert all(len(share.tasks - complete) <= share.quota for share in shares.values())
        self.hold_moved(before, shares, complete)
        for name, share in shares.items():
            worker = self.workers[name]
            worker.assigned = share.tasks
            worker.holds |= share.tasks

    def hold_moved(
        self, before: Mapping[str, Holding], shares: Mapping[str, Share], complete: frozenset[int]
    ) -> None:
        """No fewer tasks could have been asked for: only those above the best quotas, and no complete one."""
        asked = {name: one.holds - one.stopping - shares[name].tasks for name, one in before.items()}
        assert all(tasks.isdisjoint(complete) for tasks in asked.values())
        counts = sorted((len(one.holds - one.stopping - complete) for one in before.values()), reverse=True)
        least, more = divmod(self.tasks - len(complete), len(before))
        needed = sum(max(0, count - least - (place < more)) for place, count in enumerate(counts))
        assert sum(map(len, asked.values())) == needed

    @property
    def complete(self) -> frozenset[int]:
        return frozenset[int]().union(*(worker.complete for worker in self.workers.values()))

    def settle(self) -> None:
        """All stop what they are to stop; the tasks are dealt again, and nothing more is to be done."""
        for _ in range(2):
            for worker in self.workers.values():
                worker.holds = worker.assigned
                worker.complete &= worker.holds
            self.rebalance()
        assert all(worker.holds == worker.assigned for worker in self.workers.values())
        counts = [len(worker.holds - worker.complete) for worker in self.workers.values()]
        assert max(counts) - min(counts) <= 1
        assert sum(len(worker.holds) for worker in self.workers.values()) == self.tasks


@given(st.data())
def test_tasks_are_dealt_evenly_whatever_happens(data: st.DataObject) -> None:
    group = Group(data.draw(st.integers(1, 9)))
    for _ in range(data.draw(st.integers(1, 25))):
        here, away = sorted(group.workers), sorted(set(NAMES) - set(group.workers))
        events = (["join"] if away else []) + (["leave", "stop", "finish", "fail"] if here else [])
        event = data.draw(st.sampled_from(events))
        if event == "join":
            group.workers[data.draw(st.sampled_from(away))] = Worker()
        else:
            name = data.draw(st.sampled_from(here))
            worker = group.workers[name]
            if event == "leave":
                del group.workers[name]
            elif event == "stop":
                worker.holds &= worker.assigned | data.draw(st.frozensets(st.integers(0, group.tasks - 1)))
            elif event == "finish":
                worker.complete |= data.draw(st.frozensets(st.integers(0, group.tasks - 1))) & worker.holds
            else:
                # It cannot go on with some of its tasks, and gives them up.
                worker.assigned &= data.draw(st.frozensets(st.integers(0, group.tasks - 1)))
            worker.complete &= worker.holds
        group.rebalance()
    if group.workers:
        group.settle()
        # What is settled stays.
        before = {name: worker.holds for name, worker in group.workers.items()}
        group.rebalance()
        assert before == {name: worker.holds for name, worker in group.workers.items()}


@given(st.integers(1, 12), st.integers(1, 6))
def test_who_joins_takes_its_share_and_moves_no_other_task(tasks: int, members: int) -> None:
    group = Group(tasks, {name: Worker() for name in NAMES[:members]})
    group.rebalance()
    before = {name: worker.holds for name, worker in group.workers.items()}
    group.workers[NAMES[members]] = Worker()
    group.rebalance()
    group.settle()
    guest = group.workers.pop(NAMES[members])
    assert len(guest.holds) == tasks // (members + 1)
    for name, worker in group.workers.items():
        assert worker.holds == before[name] - guest.holds
    group.rebalance()
    group.settle()
    for name, worker in group.workers.items():
        assert worker.holds >= before[name] - guest.holds
