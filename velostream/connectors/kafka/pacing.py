"""How brokers are asked where the leaders of partitions are: not too often, and without creating topics."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataRequest

from velostream.connectors.kafka.connection import rebound

METADATA_SECONDS = 0.02


class PacedClient(AIOKafkaClient):  # type: ignore[misc]
    """aiokafka's client, which asks for metadata no sooner than METADATA_SECONDS after the last time.

    While a partition has no leader, aiokafka's producer and consumer ask again as soon as they are answered:
    thousands of times a second. And brokers as they come create a topic that is asked for, also one that was
    deleted.
    """

    _asked = float("-inf")
    _ask = rebound(
        AIOKafkaClient._metadata_update,
        MetadataRequest=partial(MetadataRequest, allow_auto_topic_creation=False),
    )

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        pause = self._asked + METADATA_SECONDS - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        self._asked = time.monotonic()
        return bool(await self._ask(cluster_metadata, topics))
