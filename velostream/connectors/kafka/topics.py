"""The topic of a sink: found, or made when that is asked for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient

    from velostream.connectors.kafka.settings import ClientSettings

# Until all brokers know of a new topic.
_READY_SECONDS = 30.0


@dataclass
class CreateTopic:
    """How a topic is made when there is none."""

    partitions: int = 1
    # Copies of each partition; -1: as the broker is set.
    replication: int = -1
    # Settings of the topic by Kafka's names, such as cleanup.policy.
    config: dict[str, Any] = field(default_factory=dict)


def flat_config(config: dict[str, Any]) -> dict[str, str]:
    """The settings of a topic as text; nested mappings are dotted names, as overrides give them.

    >>> flat_config({"cleanup": {"policy": "compact"}, "retention.ms": 60000, "preallocate": True})
    {'cleanup.policy': 'compact', 'retention.ms': '60000', 'preallocate': 'true'}
    """
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": text for inner, text in flat_config(value).items()}
        else:
            flat[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return flat


async def find_topic(topic: str, create: CreateTopic | None, settings: ClientSettings) -> int:
    """How many partitions the topic has; one that is missing is made when `create` says how.

    Raises ConnectorError.
    """
    from velostream.connectors.kafka.client import admin, missing_topic, topic_partitions

    async with admin(settings) as client:
        counts = await topic_partitions(client)
        if topic in counts:
            return counts[topic]
        if create is None:
            raise missing_topic(topic, counts, settings, f"set {settings.key}.create to have it made")
        await _create(client, topic, create, settings)
        # A broker answers before the others, and its own request handlers, know of it.
        deadline = time.monotonic() + _READY_SECONDS
        while counts.get(topic) != create.partitions and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            counts = await topic_partitions(client)
        # Another job may have made it with another number.
        return counts.get(topic, create.partitions)


async def _create(
    client: AIOKafkaAdminClient, topic: str, create: CreateTopic, settings: ClientSettings
) -> None:
    from aiokafka.admin import NewTopic
    from aiokafka.errors import TopicAlreadyExistsError, for_code

    from velostream.connectors.kafka.client import connector_error

    new = NewTopic(topic, create.partitions, 1, topic_configs=flat_config(create.config))
    # Its constructor takes no -1, the broker does.
    new.replication_factor = create.replication
    response = await client.create_topics([new])
    for _, code, message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise connector_error(error(message), settings, f"cannot make topic '{topic}'")
