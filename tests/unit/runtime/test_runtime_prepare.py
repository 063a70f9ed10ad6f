"""Checking a job: everything wrong with it is found, and nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from velostream.config.schema import JobConfig
from velostream.connectors.channel import Channel, ChannelSourceConfig
from velostream.connectors.file.sink import FileSinkConfig
from velostream.connectors.file.source import FileSourceConfig
from velostream.connectors.generator import GeneratorSourceConfig
from velostream.connectors.memory import MemorySourceConfig
from velostream.errors import Problems, VelostreamError
from velostream.runtime.prepare import prepare

ROWS = MemorySourceConfig(data=pa.table({"v": [1]}))


def test_all_sources_that_are_wrong_are_told_at_once(tmp_path: Path) -> None:
    """What a generator's columns are is found by the check too, not when the job starts."""
    made_up = GeneratorSourceConfig(
        schema={"v": "BIGINT"}, columns={"v": {"distribution": "unifrm"}}, count=10
    )
    missing = FileSourceConfig(path=str(tmp_path / "missing.csv"))
    job = JobConfig(
        sql="CREATE STREAM x AS SELECT v FROM a; CREATE STREAM y AS SELECT * FROM b",
        sources={"a": made_up, "b": missing},
    )
    with pytest.raises(Problems) as caught:
        prepare(job)
    text = str(caught.value)
    assert "did you mean 'uniform'" in text
    assert "missing.csv" in text


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    sink = FileSinkConfig(path=str(tmp_path / "sub" / "out.ndjson"))
    prepared = prepare(JobConfig(sql="SELECT v FROM t", sources={"t": ROWS}, sinks={"out": sink}))
    assert prepared.explain_text()
    assert list(tmp_path.iterdir()) == []


def test_checking_subscribes_to_no_stream() -> None:
    channel = Channel("s", pa.schema([("v", pa.int64())]))
    prepare(JobConfig(sql="SELECT v FROM s", sources={"s": ChannelSourceConfig(channel=channel)}))
    assert channel._subscriptions == []


def test_a_sink_of_an_unknown_stream_is_told_with_the_nearest() -> None:
    sink = FileSinkConfig(path="out.ndjson", stream="totls")
    job = JobConfig(sql="CREATE STREAM totals AS SELECT v FROM t", sources={"t": ROWS}, sinks={"out": sink})
    with pytest.raises(
        VelostreamError, match=r"sinks.out.stream: unknown stream 'totls'; did you mean 'totals'"
    ):
        prepare(job)


def test_a_sink_takes_the_stream_of_its_name_else_the_last(tmp_path: Path) -> None:
    sql = "CREATE STREAM a AS SELECT v FROM t; CREATE STREAM b AS SELECT v + 1 AS w FROM a"
    sinks = {name: FileSinkConfig(path=str(tmp_path / f"{name}.ndjson")) for name in ("A", "other")}
    sinks["named"] = FileSinkConfig(path=str(tmp_path / "named.ndjson"), stream="A")
    prepared = prepare(JobConfig(sql=sql, sources={"t": ROWS}, sinks=sinks))
    assert prepared.plan.sinks == {"A": "a", "other": "b", "named": "a"}
