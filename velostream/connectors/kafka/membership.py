"""The workers of a job as the members of one group, and the job's tasks dealt among them.

A transactional id alone would let whoever starts last fence all others by its mere start. So a worker joins
the job's group first, and begins only the tasks that it is assigned there. The group's leader deals them
(`assignor.py`): what a member holds stays with it unless others have fewer, and is given to another one only
when the member has said that it has given it up, or is out of the group. A worker that has died is out when
its session ends, and one that starts again in its place (its state folder and slot) has its tasks back at
once (static membership, KIP-345).

The group has the classic protocol (`group.py`) with a protocol type of its own, and a protocol named by the
number of tasks: the coordinator refuses members that would divide the job otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient

from velostream.connectors.base import Assignment
from velostream.connectors.kafka.assignor import Holding, assign, complete_tasks
from velostream.connectors.kafka.client import client_arguments, connector_error, start
from velostream.connectors.kafka.group import GroupMember, OutOfGroup, Rebalancing
from velostream.connectors.kafka.group_messages import Given, Said
from velostream.connectors.kafka.run_number import RunNumber
from velostream.connectors.kafka.settings import ClientSettings
from velostream.errors import ConnectorError, FencedError, Where
from velostream.loop import shared_loop, submit

logger = logging.getLogger("velostream.kafka")

# Whoever is silent for so long is taken for dead; a setting of the same name of Kafka's clients overrides it.
SESSION_MS = 10_000
# How often a member says that it lives, and hears of others: at least ten times a session.
BEAT_SECONDS = 1.0
# How long a coordinator may be away when a job starts.
START_SECONDS = 60.0
RETRY_SECONDS = 0.1
CLOSE_SECONDS = 1.0

_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class WorkerName:
    """A worker: `name` is equal for all processes that are one after the other in its place, `what` is this
    process, for a person."""

    name: str
    what: str

    @classmethod
    def of(cls, folder: str, slot: int = 0) -> WorkerName:
        """This process, with its state in `folder`; `slot` tells workers apart that share the folder."""
        host, path = socket.gethostname(), os.path.abspath(folder)
        name = hashlib.sha256(f"{host}\0{path}\0{slot}".encode()).hexdigest()[:16]
        return cls(f"velostream-{name}", f"process {os.getpid()} on {host} with its state in '{path}'")


def _without(assignment: Assignment | None, tasks: frozenset[int]) -> Assignment | None:
    return assignment and replace(assignment, tasks=assignment.tasks - tasks)


class Membership:
    """The place of one worker in the group `group` of a job of `tasks` tasks.

    `open` and `close` come from any thread but the loop's, `update` from any. Callbacks come on the loop, in
    order:

    - `on_assigned` when the assignment has become another one. The worker stops the tasks that are missing in
      it and says by `update` when it has stopped them, and begins those that are new. Comes from the first
      `update` on, so that it never overtakes what `open` returns, and no more once the job is complete.
    - `on_lost` when the worker was silent for longer than its session, or another process took its place. The
      tasks may be another's: what they have not committed must be dropped.
      With one task it is called, with a FencedError, only if another worker has taken over, and is the end;
      if nobody has, the worker goes on and hears nothing of it.
      With more it is called at once, unless the worker had none. After a FencedError it is to stop all its
      tasks and say so by `update`: only then it joins again, as a new member, and hears of its next
      assignment by `on_assigned`. Any other error is the end: workers with another number of tasks run the
      job.

    With `reset` the job is begun afresh: if nobody holds a task when this worker joins, the group's leader
    raises the number of the run before it tells anybody. If the job is running already, it is not reset, and
    a warning says so.
    """

    def __init__(
        self,
        settings: ClientSettings,
        group: str,
        worker: WorkerName,
        tasks: int,
        reset: bool,
        on_assigned: Callable[[Assignment], None],
        on_lost: Callable[[ConnectorError], None],
    ) -> None:
        self._settings = settings
        self._group = group
        self._worker = worker
        self._tasks = tasks
        self._reset = reset
        self._on_assigned = on_assigned
        self._on_lost = on_lost
        self._session = settings.get("session.timeout.ms", SESSION_MS)
        self._run = RunNumber(settings, group, tasks)
        self._client: AIOKafkaAdminClient | None = None
        self._member: GroupMember | None = None
        self._staying: asyncio.Task[None] | None = None
        # The generation whose assignment came last, and whether it was made for a predecessor.
        self._seen = -1
        self._inherited = False
        self._stands_by = False
        # What the group knows of this member.
        self._known_holds = self._known_complete = _NOTHING
        # Under the lock, since `update` comes from any thread: the assignment, None while out of the group,
        # and what the worker has heard of it; what it has said last that it has begun; what it has begun, is
        # to begin, or is still stopping.
        self._lock = threading.Lock()
        self._now: Assignment | None = None
        self._told: Assignment | None = None
        self._begun: frozenset[int] | None = None
        self._holds = self._complete = _NOTHING
        self._news = asyncio.Event()

    def open(self) -> Assignment:
        """Join; the first assignment, which may have no tasks while others are still to give them up. Waits
        for the sessions of workers that died.

        Raises ConnectorError: another worker has the only task, the others have another number of tasks, or
        the brokers do not answer.
        """
        return submit(self._open()).result()

    def update(self, holds: frozenset[int], complete: frozenset[int]) -> None:
        """Say which tasks this worker has begun and not stopped, and which of them are complete.

        The group hears at once of a task that was given up, and when all tasks that this worker is assigned
        are complete. A task that was begun and is missing now, though it is assigned, is given up too: the
        group assigns it anew, if need be to this worker again.
        """
        with self._lock:
            assigned = _NOTHING if self._now is None else self._now.tasks
            given_up = assigned & (self._begun or _NOTHING) - holds
            self._now = _without(self._now, given_up)
            self._told = _without(self._told, given_up)
            self._begun = holds
            self._holds = holds | (assigned - given_up)
            self._complete = complete & self._holds
        shared_loop().call_soon_threadsafe(self._hear)

    def confirm(self) -> bool:
        """Whether this worker is still a member, as the coordinator says now; one that does not answer has
        not put it out. If not, `on_lost` comes or has come."""
        return submit(self._confirm()).result()

    def close(self) -> None:
        """Leave, so that the others need not wait; may be called twice. The tasks must have been stopped."""
        submit(self._close()).result()

    # --- on the loop ------------------------------------------------------------------------------

    async def _open(self) -> Assignment:
        arguments = client_arguments(self._settings, "admin")
        # The answer to joining comes when all members have joined, or their sessions are over.
        arguments["request_timeout_ms"] = self._session + arguments.get("request_timeout_ms", 40_000)
        self._client = await start(AIOKafkaAdminClient(**arguments), self._settings)
        self._member = self._new_member(self._worker.name)
        try:
            given = await self._join_in_time()
            if self._tasks == 1 and not given.tasks:
                raise ConnectorError(
                    f"group '{self._group}' at {self._settings.brokers}: the job is run by {given.holder}",
                    hint="one process runs a job of one task: stop that one first, give this job another "
                    "name, or set processor.tasks to as many as workers may share the job",
                )
        except BaseException:
            await self._close()
            raise
        self._told = first = self._now
        assert first is not None
        self._staying = asyncio.create_task(self._stay())
        return first

    def _new_member(self, instance: str | None) -> GroupMember:
        assert self._client is not None
        return GroupMember(self._client, self._group, f"tasks-{self._tasks}", self._session, instance)

    async def _join_in_time(self) -> Given:
        """Join while the coordinator may still be starting. Raises ConnectorError."""
        over = time.monotonic() + self._session / 1000
        while True:
            error: BaseException = kafka_errors.KafkaTimeoutError()
            lasts = False
            try:
                return await self._join()
            except OutOfGroup:
                self._member = self._new_member(self._worker.name)
            except Rebalancing:
                pass
            except kafka_errors.InconsistentGroupProtocolError as exc:
                # They may be dead, and this one the first of their successors.
                if time.monotonic() > over:
                    raise self._divided_otherwise() from exc
            except (kafka_errors.KafkaError, TimeoutError, OSError) as exc:
                error = exc
                lasts = not getattr(exc, "retriable", True)
            if lasts or time.monotonic() > over + START_SECONDS:
                raise connector_error(error, self._settings, f"joining group '{self._group}'") from error
            await asyncio.sleep(RETRY_SECONDS)

    async def _join(self) -> Given:
        """Join the group's next generation and take what it gives.

        Raises OutOfGroup, Rebalancing, KafkaError, ConnectorError.
        """
        member = self._member
        assert member is not None
        with self._lock:
            said = self._say()
        data = await member.join(said.encode(), self._lead)
        self._seen = member.generation
        if not data:
            # The leader left before it could say.
            raise Rebalancing
        given = Given.decode(data)
        self._inherited = given.member != member.id
        if self._inherited and self._reset:
            # What the predecessor had is not to be gone on with, unless others run the job.
            raise Rebalancing
        self._take(said, given)
        return given

    def _say(self) -> Said:
        now = self._now
        if now is None:
            # A new member, whatever its worker still has of an earlier one.
            return Said(self._worker.what, self._seen, _NOTHING, _NOTHING, _NOTHING, False, self._reset)
        return Said(
            what=self._worker.what,
            seen=self._seen,
            holds=self._holds,
            stopping=self._holds - now.tasks,
            complete=self._complete,
            over=now.complete,
            reset=self._reset,
        )

    async def _lead(self, members: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """What each member is given."""
        assert self._client is not None
        said = {member: Said.decode(data) for member, data in members.items()}
        run = await self._run.read(self._client)
        afresh = any(one.reset for one in said.values()) and not any(one.holds for one in said.values())
        if afresh:
            run += 1
            await self._run.commit(self._client, run)
        holdings = {member: Holding(one.holds, one.stopping, one.complete) for member, one in said.items()}
        shares = assign(holdings, self._tasks)
        finished = len(complete_tasks(holdings)) == self._tasks or any(one.over for one in said.values())
        holder = next((said[member].what for member in shares if 0 in shares[member].tasks), "")
        return {
            member: Given(
                member=member,
                tasks=share.tasks,
                quota=share.quota,
                run=run,
                afresh=afresh,
                complete=finished and not afresh,
                workers=len(shares),
                holder=holder,
            ).encode()
            for member, share in shares.items()
        }

    def _take(self, said: Said, given: Given) -> None:
        with self._lock:
            self._now = Assignment(given.tasks, given.run, given.complete, given.workers)
            self._holds |= given.tasks
        self._known_holds, self._known_complete = said.holds | given.tasks, said.complete
        if self._reset and not given.afresh:
            logger.warning(
                "group '%s': the job runs already, and this worker does not begin it afresh: "
                "for that, stop all of its workers first",
                self._group,
            )
        self._reset = False
        if not (given.tasks or given.quota or given.complete or self._stands_by) and self._tasks > 1:
            self._stands_by = True
            logger.warning(
                "group '%s': its %d workers are more than there are tasks to be done (processor.tasks=%d): "
                "this one stands by, and takes over when another one ends",
                self._group,
                given.workers,
                self._tasks,
            )

    @property
    def _owes(self) -> bool:
        """Whether the group must know what it does not know yet."""
        with self._lock:
            now = self._now
            freed = self._known_holds - self._holds
            news = self._complete - self._known_complete
        if now is None or now.complete:
            return False
        return self._inherited or bool(freed or (news and now.tasks <= self._complete))

    async def _confirm(self) -> bool:
        if self._now is None:
            return False
        assert self._member is not None
        try:
            async with asyncio.timeout(self._session / 1000):
                await self._member.beat()
        except OutOfGroup:
            return False
        except (Rebalancing, kafka_errors.KafkaError, TimeoutError, OSError) as exc:
            logger.debug("group '%s': %r", self._group, exc)
        return True

    async def _stay(self) -> None:
        """Stay a member. A broker that is away is waited for: meanwhile nobody else can join either."""
        assert self._member is not None
        joins = False
        while True:
            try:
                if joins or self._owes:
                    joins = True
                    given = await self._join()
                    joins = False
                    if self._tasks == 1 and not self._goes_on:
                        await self._end(self._taken_over(given))
                        return
                    self._tell()
                    continue
                await self._pause()
                if not self._owes:
                    await self._member.beat()
            except Rebalancing:
                joins = True
                await asyncio.sleep(RETRY_SECONDS)
            except OutOfGroup:
                joins = True
                if not await self._drop_out():
                    return
            except kafka_errors.InconsistentGroupProtocolError:
                await self._end(self._divided_otherwise())
                return
            except (kafka_errors.KafkaError, ConnectorError, TimeoutError, OSError) as exc:
                logger.debug("group '%s': %r", self._group, exc)
                await asyncio.sleep(RETRY_SECONDS)

    async def _pause(self) -> None:
        """Until the next beat is due, or there is news."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(BEAT_SECONDS, self._session / 10_000)):
                await self._news.wait()
        self._news.clear()

    def _hear(self) -> None:
        self._tell()
        self._news.set()

    def _tell(self) -> None:
        with self._lock:
            now, told = self._now, self._told
            if self._begun is None or now is None or now == told or (told is not None and told.complete):
                return
            self._told = now
        self._on_assigned(now)

    async def _drop_out(self) -> bool:
        """Put out of the group, prepare to join again, under no name: the old one may be a successor's by
        now, from whom its place must not be taken back. False: there is nothing to join for.

        With one task the worker hears nothing: if nobody has taken over, it goes on.
        """
        with self._lock:
            now, self._now = self._now, None
            held = self._holds
            if self._tasks > 1 and held:
                self._told = None
        if now is not None and now.complete:
            return False
        self._member = self._new_member(None)
        self._inherited = False
        if self._tasks > 1 and held:
            self._on_lost(self._fenced("this worker may have lost its tasks to others"))
            while self._holds:
                await self._news.wait()
                self._news.clear()
        return True

    @property
    def _goes_on(self) -> bool:
        """Whether a worker that has the only task still has it."""
        now, told = self._now, self._told
        assert now is not None and told is not None
        return bool(now.tasks) and now.run == told.run

    async def _end(self, error: ConnectorError) -> None:
        """Be a member no more, for good."""
        with self._lock:
            self._now = None
        self._on_lost(error)
        await self._leave()

    async def _leave(self) -> None:
        assert self._member is not None
        with suppress(kafka_errors.KafkaError, TimeoutError, OSError):
            await asyncio.wait_for(self._member.leave(), CLOSE_SECONDS)
        self._member.id = ""

    def _taken_over(self, given: Given) -> FencedError:
        whom = "a worker that began it afresh" if given.tasks else given.holder
        return self._fenced(f"the job was taken over by {whom}")

    def _fenced(self, what: str) -> FencedError:
        return FencedError(
            f"group '{self._group}' at {self._settings.brokers}: {what}, "
            f"since this process was silent for longer than {self._session / 1000:g} s",
            hint="what this one has not committed is dropped; the other one goes on",
        )

    def _divided_otherwise(self) -> ConnectorError:
        return ConnectorError(
            f"group '{self._group}' at {self._settings.brokers} has members that do not divide the job into "
            f"{self._tasks} task{'s' * (self._tasks > 1)}",
            where=Where(key="processor.tasks"),
            hint="start all workers of a job with the same number, and stop them all before it is changed",
        )

    async def _close(self) -> None:
        client, staying = self._client, self._staying
        if client is None:
            return
        if staying is not None:
            staying.cancel()
            await asyncio.wait([staying])
        if self._member is not None:
            await self._leave()
        self._client = self._member = self._staying = None
        with self._lock:
            self._now = self._told = None
            self._holds = self._complete = _NOTHING
        await client.close()
