"""Output of an endless job reaches its reader while the input pauses."""

from __future__ import annotations

import itertools
import json
import os
import sys

import pytest

from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.connectors.console import ConsoleSinkConfig
from velostream.runtime.job import Job
from velostream.testing.scripted import SILENCE, ScriptedSourceConfig


def test_rows_reach_a_pipe_without_waiting_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    steps = itertools.chain([[{"a": 1}, {"a": 2}]], itertools.repeat(SILENCE))
    source = ScriptedSourceConfig(partitions={"p0": steps}, schema={"a": "BIGINT"}, bounded=False)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        job = Job(
            JobConfig(
                sql="SELECT a + 1 AS b FROM t",
                sources={"t": source},
                sinks={"out": ConsoleSinkConfig(style="lines")},
                processor=ProcessorConfig("v2", 2),
            )
        )
        job.start()
        shown = b""
        while shown.count(b"\n") < 2:
            # Blocks until the job flushes: without that, the test's time limit fails it.
            shown += os.read(reading, 1000)
        job.stop()
        job.wait()
        monkeypatch.undo()
    os.close(reading)
    assert [json.loads(line) for line in shown.splitlines()] == [{"b": 2}, {"b": 3}]
    assert job.report().state == "interrupted"
