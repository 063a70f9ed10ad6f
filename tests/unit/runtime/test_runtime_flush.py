"""Output of an endless job reaches its reader while the input pauses."""

from __future__ import annotations

import itertools
import json
import os
import sys

import pyarrow as pa
import pytest

from velostream.config.schema import FailureConfig, JobConfig, ProcessorConfig, SinkConfig
from velostream.connectors.base import Sink, SinkWriter
from velostream.connectors.console import ConsoleSinkConfig
from velostream.runtime.failures.base import FailureStrategy
from velostream.runtime.job import Job
from velostream.runtime.lane import make_lanes
from velostream.runtime.outlets import Outlet
from velostream.runtime.ticket import Ticket
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


class HoldingWriter(SinkWriter):
    """Shows rows when it is flushed."""

    def __init__(self) -> None:
        self.held: list[object] = []
        self.shown: list[object] = []

    def write(self, payload: object, rows: int) -> None:
        self.held.append(payload)

    def flush(self) -> None:
        self.shown, self.held = self.shown + self.held, []

    def close(self, complete: bool) -> None:
        self.flush()


class HoldingSink(Sink):
    Config = SinkConfig

    def open(self, schema: pa.Schema, bounded: bool, resume: object = None) -> SinkWriter:
        return HoldingWriter()


@pytest.mark.parametrize("bounded", [False, True])
def test_rows_of_an_endless_job_are_shown_while_more_are_written(bounded: bool) -> None:
    outlet = Outlet(HoldingSink("out", SinkConfig("holding")), "s", pa.schema([]))
    outlet.open(bounded, FailureStrategy(FailureConfig(), ""))
    assert outlet.holds_back is not bounded
    outlet.write("a row", 1, make_lanes("job", 1, [0], False, print)[0], Ticket(0, 0, lambda ticket: None), 0)
    writer = outlet.writer
    assert isinstance(writer, HoldingWriter)
    assert writer.shown == ([] if bounded else ["a row"])
    outlet.close(True)
