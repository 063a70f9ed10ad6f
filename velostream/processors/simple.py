from __future__ import annotations

from velostream.processors.base import JobProcessor, processors
from velostream.processors.config import JobProcessorConfig


@processors.register("v1")
class SimpleJobProcessor(JobProcessor):
    """V1: one lane, not pinned: the baseline."""

    version = "V1"
    name = "SimpleJobProcessor"

    def __init__(self, config: JobProcessorConfig = JobProcessorConfig.V1) -> None:
        super().__init__(config)
