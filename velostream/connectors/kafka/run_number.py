"""How often a job was begun afresh, as its brokers know it."""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient

from velostream.connectors.kafka.group import commit_offset, committed_offset
from velostream.connectors.kafka.settings import ClientSettings
from velostream.connectors.kafka.state_topic import StateTopic

FIRST = 1


class RunNumber:
    """The number of the run of a job whose workers are the group `group`: FIRST, until it is begun afresh.

    It is the offset that the group `GROUP-run`, which has no members, has committed for partition 0 of the
    topic of the job's state, `GROUP-state`. (A group that has members takes no commit while it rebalances.)
    Coroutines for the loop of jobs; they raise KafkaError.
    """

    def __init__(self, settings: ClientSettings, group: str, tasks: int) -> None:
        self._settings = settings
        self._group = f"{group}-run"
        self._topic = f"{group}-state"
        self._tasks = tasks

    async def read(self, client: AIOKafkaAdminClient) -> int:
        committed = await committed_offset(client, self._group, self._topic, 0)
        return FIRST if committed is None else committed[0]

    async def commit(self, client: AIOKafkaAdminClient, run: int) -> None:
        """Also raises ConnectorError, when the topic of the state is of another number of tasks."""
        # Offsets are kept for topics that are there.
        await asyncio.to_thread(StateTopic(self._topic, self._settings, 0, self._tasks).open)
        await commit_offset(client, self._group, self._topic, 0, run)
