"""A sink that is slower than its source holds the reading back: memory stays flat."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import psutil
import pytest

from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.connectors.file import FileSourceConfig
from velostream.operators.batch import Batch
from velostream.runtime.job import Job
from velostream.testing.scripted import ScriptedSinkConfig

BLOCK = 1 << 20
QUEUE = 4 * BLOCK
RECORDS = 96 * BLOCK // 64


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 MiB of records of 64 bytes, compressed so that the reader must hold what it has read."""
    path = tmp_path_factory.mktemp("large") / "t.ndjson.gz"
    line = b'{"a":1234567,"b":"' + b"x" * 43 + b'"}\n'
    assert len(line) == 64
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(96):
            file.write(line * (BLOCK // 64))
    return path


@pytest.mark.parametrize(("version", "partitions"), [("v1", None), ("v2", 4)])
def test_a_slow_sink_keeps_memory_flat(large_file: Path, version: str, partitions: int | None) -> None:
    process = psutil.Process()
    resident: list[int] = []

    def write_slowly(batch: Batch) -> None:
        # A sink that takes its time is what is tested; the reader alone would be done long before.
        time.sleep(0.01)
        resident.append(process.memory_info().rss)

    job = Job(
        JobConfig(
            sql="SELECT a FROM t WHERE a > 0",
            sources={"t": FileSourceConfig(path=str(large_file), schema={"a": "BIGINT", "b": "VARCHAR"})},
            sinks={"out": ScriptedSinkConfig(on_write=write_slowly)},
            processor=ProcessorConfig(
                version=version, partitions=partitions, block_size="1MiB", queue_size="4MiB"
            ),
        )
    )
    report = job.run()
    assert (report.state, report.records["used"]) == ("completed", RECORDS)
    assert report.peak_queue_bytes <= QUEUE
    # The rows that the sink keeps are 12 MiB in all; the file is 96 MiB.
    early = max(resident[: len(resident) // 4])
    assert max(resident) - early < 40 * BLOCK
