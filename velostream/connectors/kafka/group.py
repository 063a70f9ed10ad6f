"""A group at its coordinator: the classic protocol as one of the members speaks it, and committed offsets.

The coordinator is looked up for each request, since it may move. Coroutines for the loop of jobs; they raise
KafkaError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.group import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
)

# By member id: from what each says to what the leader gives it.
Lead = Callable[[Mapping[str, bytes]], Awaitable[Mapping[str, bytes]]]

PROTOCOL_TYPE = "velostream"

_MEMBER_ID_REQUIRED = 79
_FENCED_INSTANCE_ID = 82
# The coordinator has moved or is loading: it is looked for again.
_AWAY = (14, 15, 16)
_ILLEGAL_GENERATION, _UNKNOWN_MEMBER, _REBALANCING = 22, 25, 27
# Longer than any job is down for. The broker's own offsets.retention.minutes is 7 days, counted from the
# commit where the group has no members.
_KEPT_MS = 100 * 365 * 24 * 3600 * 1000


class OutOfGroup(Exception):
    """The group has put this member out, or another one into its place."""


class Rebalancing(Exception):
    """The group begins another generation, or its coordinator moves: join once more."""


class GroupMember:
    """One member of the group `name`. With an `instance` it is a static one (KIP-345): who joins as that
    instance later takes its place, without a rebalance. All members must have the same `protocol`."""

    def __init__(
        self, client: AIOKafkaAdminClient, name: str, protocol: str, session_ms: int, instance: str | None
    ) -> None:
        self._client = client
        self._name = name
        self._protocol = protocol
        self._session_ms = session_ms
        self._instance = instance
        self.id = ""
        self.generation = -1

    async def join(self, said: bytes, lead: Lead) -> bytes:
        """Join the next generation, saying `said`; what its leader gives this member. Waits for all members
        to join, or for the sessions of those that do not to end. `lead` is called when this one is it.

        A static member that takes its predecessor's place is given what that one had last. Saying anything
        else than the last time begins another generation. Raises OutOfGroup, Rebalancing.
        """
        joined = await send(
            self._client,
            self._name,
            JoinGroupRequest(
                self._name,
                self._session_ms,
                self._session_ms,
                self.id,
                self._instance,
                PROTOCOL_TYPE,
                [(self._protocol, said)],
            ),
        )
        if joined.error_code == _MEMBER_ID_REQUIRED:
            self.id = joined.member_id
            raise Rebalancing
        _check(joined.error_code)
        self.id, self.generation = joined.member_id, joined.generation_id
        given: Mapping[str, bytes] = {}
        if joined.leader_id == self.id:
            given = await lead({member: data for member, _, data in joined.members})
        synced = await send(
            self._client,
            self._name,
            SyncGroupRequest(self._name, self.generation, self.id, self._instance, list(given.items())),
        )
        _check(synced.error_code)
        return bytes(synced.member_assignment)

    async def beat(self) -> None:
        """Say that it lives. Raises OutOfGroup, Rebalancing."""
        beat = await send(self._client, self._name, HeartbeatRequest(self._name, self.generation, self.id))
        _check(beat.error_code)

    async def leave(self) -> None:
        """Leave. Does not wait while `join` does: a broker answers what comes by one connection in order, so
        this goes by another one."""
        if self.id:
            request = LeaveGroupRequest(self._name, self.id)
            await send(self._client, self._name, request, ConnectionGroup.DEFAULT)


def _check(code: int) -> None:
    if code in (_UNKNOWN_MEMBER, _FENCED_INSTANCE_ID):
        raise OutOfGroup
    if code in (_ILLEGAL_GENERATION, _REBALANCING, *_AWAY):
        raise Rebalancing
    if code:
        raise kafka_errors.for_code(code)()


async def send(
    client: AIOKafkaAdminClient, group: str, request: Any, connection: int = ConnectionGroup.COORDINATION
) -> Any:
    """The answer of the group's coordinator, whatever its error code."""
    inner = client._client
    node = await inner.coordinator_lookup(CoordinationType.GROUP, group)
    if not await inner.ready(node, group=connection):
        raise kafka_errors.NodeNotReadyError(node)
    return await inner.send(node, request, group=connection)


async def committed_offset(
    client: AIOKafkaAdminClient, group: str, topic: str, partition: int
) -> tuple[int, str] | None:
    """The offset that the group has committed for a partition, and its metadata; None when there is none. A
    coordinator that is still loading raises: the admin client's own call takes it for a group without
    offsets."""
    answer = await send(client, group, OffsetFetchRequest(group, [(topic, [partition])]))
    (found,) = [entry for _, entries in answer.topics for entry in entries] or [(partition, -1, "", 0)]
    _, offset, metadata, code = found
    for error in (getattr(answer, "error_code", 0), code):
        if error:
            raise kafka_errors.for_code(error)()
    return None if offset < 0 else (int(offset), metadata or "")


async def commit_offset(
    client: AIOKafkaAdminClient, group: str, topic: str, partition: int, offset: int
) -> None:
    """Commit for a group that has no members; the topic must be there. Kept until the topic is deleted."""
    request = OffsetCommitRequest(
        group,
        OffsetCommitRequest.DEFAULT_GENERATION_ID,
        "",
        _KEPT_MS,
        [(topic, [(partition, offset, "")])],
    )
    answer = await send(client, group, request)
    for _, entries in answer.topics:
        for _, code in entries:
            if code:
                raise kafka_errors.for_code(code)()
