"""Which processor a job runs on, as a value: `JobProcessorConfig`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from velostream.config.processor_text import parse_processor
from velostream.config.schema import ProcessorConfig
from velostream.runtime.lane import usable_cpus


@dataclass(frozen=True, slots=True)
class JobProcessorConfig:
    """V1 (one lane) or V2 (many lanes, by default as many as usable CPUs). The default is V2.

    >>> JobProcessorConfig.V2(8, True)
    JobProcessorConfig('v2:8:affinity')
    >>> JobProcessorConfig.parse("v1") == JobProcessorConfig.V1
    True
    """

    version: str = "v2"
    num_partitions: int | None = None
    enable_core_affinity: bool = False

    V1: ClassVar[JobProcessorConfig]

    @classmethod
    def V2(cls, num_partitions: int | None = None, enable_core_affinity: bool = False) -> JobProcessorConfig:
        """Many lanes; `num_partitions` None: as many as usable CPUs."""
        return cls("v2", num_partitions, enable_core_affinity)

    @classmethod
    def parse(cls, text: str) -> JobProcessorConfig:
        """From `v1`, `v2`, `v2:8`, `v2:affinity`, `v2:8:affinity`, in any letter case. Raises ConfigError."""
        keys = parse_processor(text)
        return cls(keys["version"], keys.get("partitions"), keys.get("affinity", False))

    @classmethod
    def from_config(cls, config: ProcessorConfig) -> JobProcessorConfig:
        """Of the configuration group `processor`."""
        return cls(config.version, config.partitions, config.affinity)

    def to_config(self, base: ProcessorConfig | None = None) -> ProcessorConfig:
        """The configuration group with these values; what else it has is taken from `base`."""
        return replace(
            base or ProcessorConfig(),
            version=self.version,
            partitions=self.num_partitions,
            affinity=self.enable_core_affinity,
        )

    @property
    def lanes(self) -> int:
        """How many lanes a job gets."""
        if self.version == "v1":
            return 1
        return self.num_partitions or len(usable_cpus())

    def description(self) -> str:
        """One line for a log."""
        if self.version == "v1":
            return "V1 (Single-threaded, single partition, 1x baseline)"
        count = str(self.num_partitions) if self.num_partitions is not None else "CPU count"
        affinity = " with core affinity" if self.enable_core_affinity else ""
        return f"V2 (Multi-partition: {count}{affinity}, {self.lanes}x baseline expected)"

    def __str__(self) -> str:
        parts = [self.version]
        if self.num_partitions is not None:
            parts.append(str(self.num_partitions))
        if self.enable_core_affinity:
            parts.append("affinity")
        return ":".join(parts)

    def __repr__(self) -> str:
        return f"JobProcessorConfig('{self}')"


JobProcessorConfig.V1 = JobProcessorConfig("v1")
