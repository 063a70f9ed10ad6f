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
from velostream.connectors.memory import MemorySink, MemorySinkConfig, MemorySourceConfig
from velostream.errors import Problems, VelostreamError
from velostream.runtime.job import Job
from velostream.runtime.prepare import prepare
from velostream.server.streams import streams_read

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


DECLARED = "CREATE STREAM Trades (id BIGINT, price DOUBLE) WITH ('path' = '{path}', 'format' = 'csv');\n"


def declared(tmp_path: Path) -> str:
    path = tmp_path / "trades.csv"
    path.write_text("id,price\n1,1.5\n2,2.5\n")
    return DECLARED.format(path=path)


def test_a_stream_that_the_script_declares_is_read(tmp_path: Path) -> None:
    sql = declared(tmp_path) + (
        "CREATE STREAM dear AS SELECT id, price FROM trades WHERE price > 2;\n"
        "SELECT id * 10 AS n, price FROM dear"
    )
    job = Job(JobConfig(sql=sql, sinks={"out": MemorySinkConfig()}))
    assert job.run().error is None
    out = job.sink("out")
    assert isinstance(out, MemorySink)
    assert out.table().to_pylist() == [{"n": 20, "price": 2.5}]


def test_a_declaration_goes_over_the_configuration_of_its_name(tmp_path: Path) -> None:
    configured = FileSourceConfig(path="nowhere.ndjson", format="ndjson", event_time="id")
    sql = declared(tmp_path).replace("id BIGINT", "id TIMESTAMP") + "SELECT * FROM trades"
    (source,) = prepare(JobConfig(sql=sql, sources={"trades": configured})).sources.values()
    config = source.config
    assert (config.path, config.format, config.event_time, config.schema) == (
        str(tmp_path / "trades.csv"),
        "csv",
        "id",
        {"id": "TIMESTAMP", "price": "DOUBLE"},
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("'pathh' = 'x.csv'", "query:1:1: unknown key 'pathh' in 't'; did you mean 'path'?"),
        ("'kind' = 'fiel'", "query:1:1: unknown source 'fiel'; did you mean 'file'?"),
    ],
)
def test_a_wrong_option_of_a_declaration_is_told_with_its_place(options: str, message: str) -> None:
    with pytest.raises(VelostreamError) as caught:
        prepare(JobConfig(sql=f"CREATE STREAM t (a INT) WITH ({options}); SELECT a FROM t"))
    assert caught.value.render().startswith(message)


def test_a_declared_stream_that_nobody_reads_is_not_looked_at() -> None:
    sql = DECLARED.format(path="nowhere.csv") + "SELECT v FROM t"
    assert list(prepare(JobConfig(sql=sql, sources={"t": ROWS})).sources) == ["t"]


def test_a_declared_stream_is_not_asked_of_other_jobs(tmp_path: Path) -> None:
    sql = declared(tmp_path) + "CREATE STREAM a AS SELECT id FROM trades; SELECT id FROM elsewhere"
    assert streams_read(JobConfig(sql=sql)) == {"elsewhere"}
