"""One worker at a time: a job's place in a consumer group, held while it writes transactions.

The transactional id alone would let a second worker fence the first one by its mere start. So who wants to
write joins the job's group first. A member that holds the job keeps it; another one that joins is told who
that is, leaves and stops. A worker that has died is out when its session ends, and one that starts again
from the same state folder takes its place at once (static membership, KIP-345).

The group has the classic protocol with a protocol type of its own: a member's metadata say what it is and
whether it holds the job, and every member's assignment is what the holder has said of itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.group import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
)

from velostream.connectors.kafka.client import FencedError, client_arguments, connector_error, start
from velostream.connectors.kafka.settings import ClientSettings
from velostream.errors import ConnectorError
from velostream.loop import submit

logger = logging.getLogger("velostream.kafka")

# Whoever is silent for so long is taken for dead; a setting of the same name of Kafka's clients overrides it.
SESSION_MS = 10_000
# How often a member says that it lives, and hears of others: at least ten times a session.
BEAT_SECONDS = 1.0
# How long a coordinator may be away when a job starts.
START_SECONDS = 60.0
RETRY_SECONDS = 0.1
CLOSE_SECONDS = 1.0
PROTOCOL = "velostream"

_MEMBER_ID_REQUIRED = 79
_FENCED_INSTANCE_ID = 82
# The coordinator has moved or is loading: it is looked for again.
_AWAY = (14, 15, 16)
_ILLEGAL_GENERATION, _UNKNOWN_MEMBER, _REBALANCING = 22, 25, 27


class _Lost(Exception):
    """The group has put this member out, or another one into its place."""


class _Again(Exception):
    """The group begins another generation, or its coordinator moves: join once more."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a member says of itself: a `name` that is equal for all processes of one state folder, and `what`
    for a person."""

    name: str
    what: str

    @classmethod
    def of(cls, folder: str) -> Worker:
        """This process, with its state in `folder`."""
        host, path = socket.gethostname(), os.path.abspath(folder)
        name = hashlib.sha256(f"{host}\0{path}".encode()).hexdigest()[:16]
        return cls(f"velostream-{name}", f"process {os.getpid()} on {host} with its state in '{path}'")


class Membership:
    """The right to run a job, in the group `group`, for one worker. `open` and `close` come from any thread
    but the loop's. `on_lost` is called on the loop, once, when another worker has taken over."""

    def __init__(
        self, settings: ClientSettings, group: str, worker: Worker, on_lost: Callable[[ConnectorError], None]
    ) -> None:
        self._settings = settings
        self._group = group
        self._worker = worker
        # Static for the first time; who has lost its place must not take it back from its successor.
        self._instance: str | None = worker.name
        self._on_lost = on_lost
        self._session = settings.get("session.timeout.ms", SESSION_MS)
        self._client: AIOKafkaAdminClient | None = None
        self._beating: asyncio.Task[None] | None = None
        self._member = ""
        self._generation = -1
        self._holds = False

    def open(self) -> None:
        """Hold the job. Waits for the session of a worker that died. Raises ConnectorError: another one has
        it, or the brokers do not answer."""
        submit(self._open()).result()

    def close(self) -> None:
        """Give the job up, so that another worker need not wait; may be called twice."""
        submit(self._close()).result()

    # --- on the loop ------------------------------------------------------------------------------

    async def _open(self) -> None:
        arguments = client_arguments(self._settings, "admin")
        # The answer to joining comes when all members have joined, or their sessions are over.
        arguments["request_timeout_ms"] = self._session + arguments.get("request_timeout_ms", 40_000)
        self._client = await start(AIOKafkaAdminClient(**arguments), self._settings)
        try:
            holder = await self._join_in_time()
        except BaseException:
            await self._close()
            raise
        if not self._holds:
            await self._close()
            raise ConnectorError(
                f"group '{self._group}' at {self._settings.brokers}: the job is run by {holder.what}",
                hint="one process runs a job: stop that one first, or give this job another name",
            )
        self._beating = asyncio.create_task(self._beat())

    async def _join_in_time(self) -> Worker:
        """Join while the coordinator may still be starting. Raises ConnectorError."""
        deadline = time.monotonic() + START_SECONDS + self._session / 1000
        while True:
            try:
                return await self._join()
            except _Lost:
                self._member = ""
            except _Again:
                pass
            except (kafka_errors.KafkaError, TimeoutError, OSError) as exc:
                if not getattr(exc, "retriable", True) or time.monotonic() > deadline:
                    raise connector_error(exc, self._settings, f"joining group '{self._group}'") from exc
            if time.monotonic() > deadline:
                error = kafka_errors.KafkaTimeoutError()
                raise connector_error(error, self._settings, f"joining group '{self._group}'")
            await asyncio.sleep(RETRY_SECONDS)

    async def _join(self) -> Worker:
        """Join the group's next generation; who holds the job in it. Raises _Lost, _Again, KafkaError."""
        about = {"name": self._worker.name, "what": self._worker.what, "holds": self._holds}
        metadata = json.dumps(about).encode()
        joined = await self._send(
            JoinGroupRequest(
                self._group,
                self._session,
                self._session,
                self._member,
                self._instance,
                PROTOCOL,
                [(PROTOCOL, metadata)],
            )
        )
        if joined.error_code == _MEMBER_ID_REQUIRED:
            self._member = joined.member_id
            raise _Again
        _check(joined.error_code)
        self._member, self._generation = joined.member_id, joined.generation_id
        assignments: list[tuple[str, bytes]] = []
        if joined.leader_id == joined.member_id:
            members = {member: json.loads(data) for member, _, data in joined.members}
            holder = _holder(members, self._member)
            assignments = [(member, json.dumps(holder).encode()) for member in members]
        synced = await self._send(
            SyncGroupRequest(
                self._group,
                self._generation,
                self._member,
                self._instance,
                assignments,
            )
        )
        _check(synced.error_code)
        if not synced.member_assignment:
            # The leader left before it could say.
            raise _Again
        named = json.loads(synced.member_assignment)
        self._holds = named["name"] == self._worker.name
        return Worker(named["name"], named["what"])

    async def _beat(self) -> None:
        """Stay a member. A broker that is away is waited for: meanwhile nobody else can join either."""
        joins = False
        while True:
            if not joins:
                await asyncio.sleep(min(BEAT_SECONDS, self._session / 10_000))
            try:
                if joins:
                    holder = await self._join()
                    if not self._holds:
                        self._lose(f"by {holder.what}")
                        return
                    joins = False
                else:
                    beat = await self._send(HeartbeatRequest(self._group, self._generation, self._member))
                    _check(beat.error_code)
            except _Again:
                joins = True
                await asyncio.sleep(RETRY_SECONDS)
            except _Lost:
                # Silent for too long. Whoever has taken over meanwhile keeps the job; if nobody has, it goes
                # on here, under another name: the old one may be a successor's of the same state folder.
                joins, self._holds, self._member, self._instance = True, False, "", None
                name = f"{self._worker.name}-{secrets.token_hex(4)}"
                self._worker = Worker(name, self._worker.what)
            except (kafka_errors.KafkaError, TimeoutError, OSError) as exc:
                logger.debug("group '%s': %r", self._group, exc)
                await asyncio.sleep(RETRY_SECONDS)

    def _lose(self, whom: str) -> None:
        self._on_lost(
            FencedError(
                f"group '{self._group}' at {self._settings.brokers}: the job was taken over {whom}, "
                f"since this process was silent for longer than {self._session / 1000:g} s",
                hint="what this one has not committed is dropped; the other one goes on",
            )
        )

    async def _send(self, request: Any) -> Any:
        """The group coordinator's answer. Raises KafkaError."""
        assert self._client is not None
        client = self._client._client
        node = await client.coordinator_lookup(CoordinationType.GROUP, self._group)
        if not await client.ready(node, group=ConnectionGroup.COORDINATION):
            raise kafka_errors.NodeNotReadyError(node)
        return await client.send(node, request, group=ConnectionGroup.COORDINATION)

    async def _close(self) -> None:
        client, task = self._client, self._beating
        if client is None:
            return
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._member:
            with suppress(kafka_errors.KafkaError, TimeoutError, OSError):
                leaving = self._send(LeaveGroupRequest(self._group, self._member))
                await asyncio.wait_for(leaving, CLOSE_SECONDS)
        self._client = self._beating = None
        self._member, self._holds = "", False
        await client.close()


def _check(code: int) -> None:
    if code in (_UNKNOWN_MEMBER, _FENCED_INSTANCE_ID):
        raise _Lost
    if code in (_ILLEGAL_GENERATION, _REBALANCING, *_AWAY):
        raise _Again
    if code:
        raise kafka_errors.for_code(code)()


def _holder(members: dict[str, dict[str, Any]], leader: str) -> dict[str, Any]:
    """Who holds the job of these members: who held it, else who leads them."""
    return next((about for about in members.values() if about["holds"]), members[leader])
