"""Connectors to compose with: the real ones, and one that has a key without a default."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from omegaconf import MISSING

from velostream.cli.request import all_kinds
from velostream.config.schema import SourceConfig


@dataclass
class KafkaSource(SourceConfig):
    kind: str = "kafka"
    topic: str = MISSING
    brokers: list[str] = field(default_factory=list)


_REAL = all_kinds()
KINDS = replace(_REAL, sources={**_REAL.sources, "kafka": KafkaSource})
