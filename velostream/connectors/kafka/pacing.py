"""How often brokers are asked where the leaders of partitions are."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka.client import AIOKafkaClient

METADATA_SECONDS = 0.02


class PacedClient(AIOKafkaClient):  # type: ignore[misc]
    """aiokafka's client, which asks for metadata no sooner than METADATA_SECONDS after the last time.

    While a partition has no leader, aiokafka's producer and consumer ask again as soon as they are answered:
    thousands of times a second.
    """

    _asked = float("-inf")

    async def pace(self) -> None:
        """Wait until metadata may be asked for; then it counts as asked for."""
        pause = self._asked + METADATA_SECONDS - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        self._asked = time.monotonic()

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        await self.pace()
        return bool(await super()._metadata_update(cluster_metadata, topics))
