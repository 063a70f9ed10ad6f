"""The topic of an exchange: made when it is missing, and trimmed behind what has been committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaError

from velostream.connectors.kafka.client import admin, topic_partitions
from velostream.connectors.kafka.settings import SETTINGS, ClientSettings
from velostream.connectors.kafka.topics import CreateTopic, find_topic
from velostream.errors import ConnectorError
from velostream.loop import shared_loop, submit

logger = logging.getLogger("velostream.kafka")

# How often records are deleted at most: each time takes a connection, and what is left is a few MiB.
TRIM_SECONDS = 10.0
# Rows stay until their task has committed them, however long that takes.
_CONFIG = {"cleanup.policy": "delete", "retention.ms": -1, "retention.bytes": -1}


def connection_settings(settings: ClientSettings) -> ClientSettings:
    """Only what every client has: where brokers are and who connects."""
    common = {name: value for name, value in settings.values.items() if SETTINGS[name].role is None}
    return ClientSettings(settings.key, common)


def open_topic(topic: str, tasks: int, settings: ClientSettings) -> None:
    """See that the topic is there, with a partition for each task. Raises ConnectorError."""
    made = CreateTopic(partitions=tasks, config=_CONFIG)
    found = submit(find_topic(topic, made, settings)).result()
    if found != tasks:
        raise ConnectorError(
            f"topic '{topic}' at {settings.brokers} has {found} partitions, and the job has {tasks} tasks",
            hint=f"set processor.tasks={found}, or begin afresh with state=reset",
        )


def delete_earlier(topic: str, settings: ClientSettings) -> None:
    """Delete the topics of the same exchange that earlier runs had: the run is the last part of the name.

    What they hold only takes room, so a broker that does not let them be deleted is no error.
    """
    submit(_delete_earlier(topic, settings)).result()


async def _delete_earlier(topic: str, settings: ClientSettings) -> None:
    exchange, _, run = topic.rpartition("-")
    async with admin(settings) as client:
        earlier = [
            name
            for name in await topic_partitions(client)
            if (parts := name.rpartition("-"))[0] == exchange
            and parts[2].isdecimal()
            and int(parts[2]) < int(run)
        ]
        if earlier:
            with suppress(KafkaError):
                await client.delete_topics(earlier)


async def delete_before(place: TopicPartition, offset: int, settings: ClientSettings) -> None:
    """Have the broker delete the partition's records before that offset. Raises ConnectorError."""
    async with admin(settings) as client:
        await client.delete_records({place: RecordsToDelete(offset)})


class Trimmer:
    """Has the records before an offset deleted, every `seconds` at most: of several offsets that are given
    meanwhile the last one counts.

    `delete` is for the loop, and raises ConnectorError. What is not deleted only takes room, so a failure is
    told once, and the next time tries again.
    """

    def __init__(
        self, place: str, delete: Callable[[int], Awaitable[None]], seconds: float = TRIM_SECONDS
    ) -> None:
        self._place = place
        self._delete = delete
        self._seconds = seconds
        # The loop's own.
        self._wanted = 0
        self._trimmed = 0
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    def trim(self, offset: int) -> None:
        """The records before that offset are needed no more; for any thread, does not wait."""
        shared_loop().call_soon_threadsafe(self._want, offset)

    def close(self) -> None:
        """Delete nothing any more; may be called twice."""
        submit(self._stop()).result()

    def _want(self, offset: int) -> None:
        self._wanted = offset
        if self._task is None and offset > self._trimmed:
            self._task = asyncio.create_task(self._trim())

    async def _trim(self) -> None:
        while (offset := self._wanted) > self._trimmed:
            try:
                await self._delete(offset)
            except ConnectorError as error:
                if not self._failed:
                    logger.warning(
                        "'%s': what was read and committed cannot be deleted, and takes room: %s",
                        self._place,
                        error.render(),
                    )
                self._failed = True
            else:
                self._trimmed, self._failed = offset, False
            await asyncio.sleep(self._seconds)
        self._task = None

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
