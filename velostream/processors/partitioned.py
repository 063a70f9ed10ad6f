from __future__ import annotations

from velostream.processors.base import JobProcessor, processors
from velostream.processors.config import JobProcessorConfig


@processors.register("v2")
class PartitionedJobCoordinator(JobProcessor):
    """V2: many lanes, each with its share of the keys, pinned to CPUs when affinity is set."""

    version = "V2"
    name = "PartitionedJobCoordinator"

    def __init__(self, config: JobProcessorConfig | None = None) -> None:
        super().__init__(config or JobProcessorConfig.V2())
