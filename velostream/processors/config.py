"""Which processor a job runs on, as a value: `JobProcessorConfig`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from velostream.config.processor_text import TRANSACTIONAL, VERSIONS, parse_processor
from velostream.config.schema import ProcessorConfig
from velostream.errors import ConfigError, unknown
from velostream.runtime.lane import usable_cpus


@dataclass(frozen=True, slots=True)
class JobProcessorConfig:
    """V1 (one lane), V1_TRANSACTIONAL (one lane, each batch exactly once or not at all) or V2 (many lanes, by
    default as many as usable CPUs). The default is V2.

    Immutable, and equal by value. Raises ConfigError for what cannot be: another version, less than one
    partition, one lane with partitions or affinity.

    >>> JobProcessorConfig.V2(8, True)
    JobProcessorConfig('v2:8:affinity')
    >>> JobProcessorConfig.parse("v1") == JobProcessorConfig.V1
    True
    """

    version: str = "v2"
    num_partitions: int | None = None
    enable_core_affinity: bool = False

    V1: ClassVar[JobProcessorConfig]
    V1_TRANSACTIONAL: ClassVar[JobProcessorConfig]

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            message, hint = unknown("processor version", self.version, VERSIONS)
            raise ConfigError(message, hint=hint)
        if self.num_partitions is not None and self.num_partitions < 1:
            raise ConfigError(f"Invalid partition count: {self.num_partitions}")
        if self.version != "v2" and (self.num_partitions is not None or self.enable_core_affinity):
            raise ConfigError(f"{self.version} has one lane and no affinity", hint="use v2")

    @classmethod
    def V2(cls, num_partitions: int | None = None, enable_core_affinity: bool = False) -> JobProcessorConfig:
        """Many lanes; `num_partitions` None: as many as usable CPUs."""
        return cls("v2", num_partitions, enable_core_affinity)

    @classmethod
    def parse(cls, text: str) -> JobProcessorConfig:
        """From `v1`, `v1_transactional`, `v2`, `v2:8`, `v2:affinity`, `v2:8:affinity`, in any letter case.

        Raises ConfigError.
        """
        keys = parse_processor(text)
        return cls(keys["version"], keys.get("partitions"), keys.get("affinity", False))

    @classmethod
    def from_config(cls, config: ProcessorConfig) -> JobProcessorConfig:
        """What the configuration group `processor` says. Raises ConfigError for a version that is none of
        them and for one lane with more than one partition; affinity says nothing for a lane that is not
        pinned."""
        if config.version != "v2" and config.partitions in (None, 1):
            return cls(config.version)
        return cls(config.version, config.partitions, config.affinity)

    def to_config(self, base: ProcessorConfig | None = None) -> ProcessorConfig:
        """The configuration group with these values; what else it has is taken from `base`.

        >>> JobProcessorConfig.V2(8).to_config(ProcessorConfig(block_size="1MiB")).block_size
        '1MiB'
        """
        return replace(
            base or ProcessorConfig(),
            version=self.version,
            partitions=self.num_partitions,
            affinity=self.enable_core_affinity,
        )

    @property
    def lanes(self) -> int:
        """How many lanes a job gets."""
        if self.version != "v2":
            return 1
        return self.num_partitions or len(usable_cpus())

    def description(self) -> str:
        """One line for a log.

        >>> JobProcessorConfig.parse("v2:8").description()
        'V2 (Multi-partition: 8, 8x baseline expected)'
        """
        if self.version == "v1":
            return "V1 (Single-threaded, single partition, 1x baseline)"
        if self.version == TRANSACTIONAL:
            return "V1-Transactional (Single-threaded, single partition, exactly-once delivery)"
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
JobProcessorConfig.V1_TRANSACTIONAL = JobProcessorConfig(TRANSACTIONAL)
