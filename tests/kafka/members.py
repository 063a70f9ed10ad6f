"""Workers of one group as tests have them: they begin and stop tasks without doing anything with them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from aiokafka.protocol.group import JoinGroupRequest

from tests.kafka.topics import Topics
from velostream.connectors.base import Assignment
from velostream.connectors.kafka.client import admin, client_settings
from velostream.connectors.kafka.membership import Membership, WorkerName
from velostream.errors import ConnectorError
from velostream.loop import submit

Make = Callable[..., "Member"]


class Tasks:
    """Who has which tasks of a job, and `shared`: those that two have had at the same time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders: dict[int, Member] = {}
        self.shared: list[int] = []


class Member:
    """A worker. When it is assigned tasks it gives up and begins what it must at once, unless it is not
    `prompt`: then it waits for the test to call `hold`."""

    def __init__(
        self,
        topics: Topics,
        group: str,
        held: Tasks,
        folder: str,
        tasks: int = 1,
        session_ms: int = 5000,
        reset: bool = False,
        prompt: bool = True,
    ) -> None:
        settings = client_settings(topics.address, {"session.timeout.ms": session_ms}, "sinks.out", "sink")
        # Whatever it was assigned, in order.
        self.assigned: list[Assignment] = []
        self.errors: list[ConnectorError] = []
        self.lost = threading.Event()
        self.prompt = prompt
        self.tasks: frozenset[int] = frozenset()
        self.complete: frozenset[int] = frozenset()
        self._held = held
        self.membership = Membership(
            settings, group, WorkerName.of(folder), tasks, reset, self._assign, self._lose
        )

    def open(self) -> Assignment:
        first = self.membership.open()
        self.assigned.append(first)
        self.obey()
        return first

    def obey(self) -> None:
        """Hold what was assigned last."""
        self.hold(self.assigned[-1].tasks)

    def hold(self, tasks: Iterable[int]) -> None:
        """Hold these tasks and no others."""
        tasks = frozenset(tasks)
        with self._held.lock:
            for task in self.tasks - tasks:
                if self._held.holders.get(task) is self:
                    del self._held.holders[task]
            for task in tasks - self.tasks:
                if self._held.holders.setdefault(task, self) is not self:
                    self._held.shared.append(task)
            self.tasks = tasks
        self.membership.update(tasks, self.complete & tasks)

    def finish(self, *tasks: int) -> None:
        """These tasks are complete."""
        self.complete |= frozenset(tasks)
        self.membership.update(self.tasks, self.complete)

    def leave(self) -> None:
        """Stop all tasks and end."""
        self.hold(())
        self.membership.close()

    def die(self) -> None:
        """End without a word."""
        submit(self._die()).result()
        with self._held.lock:
            for task in self.tasks:
                del self._held.holders[task]
            self.tasks = frozenset()

    def watch_joining(self) -> threading.Event:
        """Set when it has asked to join another generation."""
        joins = threading.Event()
        assert self.membership._client is not None
        client = self.membership._client._client
        send = client.send

        async def tell(node: int, request: Any, **keys: Any) -> Any:
            sent = asyncio.ensure_future(send(node, request, **keys))
            # It runs until it waits for the answer.
            await asyncio.sleep(0)
            if isinstance(request, JoinGroupRequest):
                joins.set()
            return await sent

        client.send = tell
        return joins

    def fall_silent(self) -> Callable[[], None]:
        """Say nothing to the group any more, as a process that is stopped; what lets it go on."""
        speaks = asyncio.Event()
        member = self.membership._member
        assert member is not None
        beat = member.beat

        async def wait() -> None:
            await speaks.wait()
            await beat()

        setattr(member, "beat", wait)  # noqa: B010  (mypy takes no assignment to a method)
        return lambda: submit(_set(speaks)).result()

    async def _die(self) -> None:
        assert self.membership._staying is not None and self.membership._member is not None
        self.membership._staying.cancel()
        self.membership._member.id = ""
        await self.membership._close()

    def _assign(self, assignment: Assignment) -> None:
        self.assigned.append(assignment)
        if self.prompt:
            self.obey()

    def _lose(self, error: ConnectorError) -> None:
        self.errors.append(error)
        self.lost.set()


async def _set(event: asyncio.Event) -> None:
    event.set()


class Group:
    """Workers of one job, which leave in the end."""

    def __init__(self, topics: Topics) -> None:
        self.name = topics.unused("velostream-job")
        self.held = Tasks()
        self._topics = topics
        self._stack = ExitStack()

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def ids(self) -> set[str]:
        """Those of its members, as the broker has them."""
        settings = client_settings(self._topics.address, {}, "sinks.out", "sink")

        async def describe() -> Any:
            async with admin(settings) as client:
                return await client.describe_consumer_groups([self.name])

        (entry,) = [entry for response in submit(describe()).result(30) for entry in response.groups]
        return {one[0] for one in entry[5]}

    def __call__(self, folder: str, **keys: int) -> Member:
        made = Member(self._topics, self.name, self.held, folder, **keys)  # type: ignore[arg-type]
        self._stack.callback(made.membership.close)
        return made


@pytest.fixture
def member(topics: Topics) -> Iterator[Group]:
    """Makes members of one group."""
    with Group(topics) as group:
        yield group
