"""Connector dataclasses to compose with: what the configuration room knows of connectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from velostream.config.build import Kinds
from velostream.config.schema import SinkConfig, SourceConfig


@dataclass
class FileSource(SourceConfig):
    kind: str = "file"
    path: str = ""
    format: str = ""
    format_options: dict[str, Any] = field(default_factory=dict)
    follow: bool = False


@dataclass
class GeneratorSource(SourceConfig):
    kind: str = "generator"
    count: int | None = None
    seed: int = 0


@dataclass
class KafkaSource(SourceConfig):
    kind: str = "kafka"
    topic: str = MISSING
    brokers: list[str] = field(default_factory=list)


@dataclass
class FileSink(SinkConfig):
    kind: str = "file"
    path: str = ""
    format: str = ""


@dataclass
class ConsoleSink(SinkConfig):
    kind: str = "console"
    limit: int = 100


KINDS = Kinds(
    {"file": FileSource, "generator": GeneratorSource, "kafka": KafkaSource},
    {"file": FileSink, "console": ConsoleSink},
)
