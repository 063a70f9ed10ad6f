"""Processors: the same rows by v1 and v2, and a life cycle that means something."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import velostream
from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.connectors.memory import MemorySinkConfig, MemorySourceConfig
from velostream.errors import BindError, ConfigError, VelostreamError
from velostream.processors import (
    JobProcessor,
    JobProcessorConfig,
    LifecycleState,
    PartitionedJobCoordinator,
    SimpleJobProcessor,
    make_processor,
)
from velostream.runtime.job import Job
from velostream.runtime.prepare import prepare
from velostream.testing.scripted import ScriptedSinkConfig, ScriptedSourceConfig

V1 = JobProcessorConfig.V1
V2 = JobProcessorConfig.V2(4)
TRADES = pa.table({"symbol": ["A", "B", "A", None, "C"] * 40, "price": [float(n % 7) for n in range(200)]})
TOTALS = "SELECT symbol, COUNT(*) AS n, SUM(price) AS total FROM records GROUP BY symbol"
ENDLESS = {"n": "BIGINT"}


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)


class Endless:
    """Steps of a source without an end: blocks of one row."""

    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[list[dict[str, int]]]:
        while True:
            self.given += 1
            yield [{"n": self.given}]


def endless_job(processor: JobProcessor, query: str = "SELECT n FROM s") -> Job:
    source = ScriptedSourceConfig(partitions={"p": Endless()}, schema=ENDLESS, bounded=False)
    config = JobConfig(name="endless", sql=query, sources={"s": source}, sinks={"out": MemorySinkConfig()})
    return processor.make_job(config)


def until(condition: Callable[[], bool], job: Job) -> None:
    """Wait for a condition that work of the job brings about."""
    seen = 0
    while not condition():
        assert not job.wait(0.001), "the job has ended"
        seen += 1
        assert seen < 20_000, "it does not come"


def running(processor: JobProcessor, job: Job) -> Thread:
    thread = Thread(target=processor.run_job, args=(job,))
    thread.start()
    until(lambda: job.state.running and job.progress().records > 0, job)
    return thread


# --- work -----------------------------------------------------------------------------------------


def test_the_factory_makes_the_processor_of_the_version() -> None:
    first, second = make_processor(V1), make_processor(V2)
    assert isinstance(first, SimpleJobProcessor) and first.num_partitions == 1
    assert isinstance(second, PartitionedJobCoordinator) and second.num_partitions == 4
    assert (first.version, second.version) == ("V1", "V2")


def test_a_processor_refuses_the_configuration_of_another() -> None:
    with pytest.raises(ConfigError, match="PartitionedJobCoordinator runs 'v2', not 'v1'"):
        PartitionedJobCoordinator(V1)
    with pytest.raises(ConfigError, match="SimpleJobProcessor runs 'v1', not 'v2:4'"):
        SimpleJobProcessor(V2)


@pytest.mark.parametrize("config", [V1, V2])
def test_process_batch_runs_the_real_query(config: JobProcessorConfig) -> None:
    result = make_processor(config).process_batch(TRADES, TOTALS)
    expected: dict[Any, list[float]] = {}
    for row in TRADES.to_pylist():
        expected.setdefault(row["symbol"], []).append(row["price"])
    assert rows(result) == sorted(((k, len(v), sum(v)) for k, v in expected.items()), key=repr)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(-9, 9)), max_size=30))
def test_v1_and_v2_give_the_same_rows(data: list[tuple[str | None, int]]) -> None:
    batch = pa.record_batch(
        {"k": pa.array([k for k, _ in data], pa.string()), "v": pa.array([v for _, v in data], pa.int64())}
    )
    query = "SELECT k, COUNT(*) AS n, SUM(v) AS s FROM t WHERE v <> 0 GROUP BY k"
    one = make_processor(V1).process_batch(batch, query, "t")
    many = make_processor(V2).process_batch(batch, query, "t")
    assert rows(one) == rows(many)


@pytest.mark.parametrize("config", [V1, V2])
def test_several_sources_and_sinks_are_really_run(config: JobProcessorConfig) -> None:
    processor = make_processor(config)
    job = processor.make_job(
        JobConfig(
            name="two",
            sql="CREATE STREAM big AS SELECT v FROM a WHERE v > 1; "
            "CREATE STREAM counts AS SELECT k, COUNT(*) AS n FROM b GROUP BY k",
            sources={
                "a": MemorySourceConfig(data=pa.table({"v": [1, 2, 3]})),
                "b": MemorySourceConfig(data=pa.table({"k": ["x", "y", "x"]})),
            },
            sinks={
                "big": MemorySinkConfig(),
                "also_big": MemorySinkConfig(stream="big"),
                "counts": MemorySinkConfig(),
            },
        )
    )
    report = processor.run_job(job)
    assert report.state == "completed"
    assert report.processor == str(config)
    assert [query["in"] for query in report.queries] == [3, 3]
    tables = {name: rows(job.sink(name).table()) for name in ("big", "also_big", "counts")}  # type: ignore[attr-defined]
    assert tables == {"big": [(2,), (3,)], "also_big": [(2,), (3,)], "counts": [("x", 2), ("y", 1)]}


def test_one_source_and_one_sink_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    from velostream.connectors.base import sinks

    sink = sinks["file"].Config(path=str(path))  # type: ignore[call-arg]
    source = MemorySourceConfig(data=pa.table({"v": [1, 2]}))
    report = make_processor(V1).process_job(source, sink, "SELECT v + 1 AS w FROM records", "job")
    assert report.state == "completed"
    assert path.read_text() == '{"w":2}\n{"w":3}\n'


def test_a_wrong_query_raises_and_the_processor_works_on() -> None:
    processor = make_processor(V1)
    with pytest.raises(BindError, match="did you mean 'price'"):
        processor.process_batch(TRADES, "SELECT pric FROM records")
    assert processor.process_batch(TRADES, "SELECT COUNT(*) AS n FROM records").to_pylist() == [{"n": 200}]


def test_a_query_needs_the_table_it_reads() -> None:
    with pytest.raises(VelostreamError, match="unknown stream 'recods'; did you mean 'records'"):
        make_processor(V1).process_batch(TRADES, "SELECT price FROM recods")


def test_a_record_batch_and_a_table_count_alike() -> None:
    processor = make_processor(V2)
    batch = TRADES.to_batches()[0]
    assert rows(processor.process_batch(batch, TOTALS)) == rows(processor.process_batch(TRADES, TOTALS))


# --- metrics --------------------------------------------------------------------------------------


def test_metrics_count_records_over_all_work() -> None:
    processor = make_processor(V2)
    fresh = processor.metrics()
    assert (fresh.total_records, fresh.throughput_rps, fresh.uptime_secs) == (0, 0.0, 0.0)
    assert fresh.lifecycle_state is LifecycleState.IDLE
    processor.process_batch(TRADES, TOTALS)
    processor.process_batch(pa.table({"v": [2**62, 1]}), "SELECT v * 4 AS w FROM records")
    metrics = processor.metrics()
    assert (metrics.total_records, metrics.failed_records) == (202, 1)
    assert metrics.throughput_rps > 0 and metrics.uptime_secs > 0
    assert (metrics.version, metrics.name, metrics.num_partitions) == ("V2", "PartitionedJobCoordinator", 4)


def test_metrics_count_the_running_job_too() -> None:
    processor = make_processor(V1)
    job = endless_job(processor)
    thread = running(processor, job)
    before = processor.metrics().total_records
    until(lambda: processor.metrics().total_records > before, job)
    processor.stop()
    thread.join()
    assert processor.metrics().total_records == job.report().records["in"]


# --- life cycle -----------------------------------------------------------------------------------


def test_work_starts_an_idle_processor() -> None:
    processor = make_processor(V1)
    assert processor.state is LifecycleState.IDLE
    processor.process_batch(TRADES, TOTALS)
    assert processor.state is LifecycleState.RUNNING


@pytest.mark.parametrize(
    ("steps", "wrong", "message"),
    [
        ("", "pause", "cannot pause: it is idle; start it first"),
        ("", "resume", "cannot resume: it is idle; start it first"),
        ("start", "start", "cannot start: it is running"),
        ("start", "resume", "cannot resume: it is running"),
        ("start pause", "pause", "cannot pause: it is paused; resume it first"),
        ("start pause", "start", "cannot start: it is paused; resume it first"),
        ("start stop", "start", "cannot start: it is stopped; make a new one"),
        ("start stop", "pause", "cannot pause: it is stopped; make a new one"),
        ("start pause stop", "resume", "cannot resume: it is stopped; make a new one"),
    ],
)
def test_wrong_transitions_are_refused(steps: str, wrong: str, message: str) -> None:
    processor = make_processor(V1)
    for step in steps.split():
        getattr(processor, step)()
    before = processor.state
    with pytest.raises(ConfigError) as caught:
        getattr(processor, wrong)()
    assert str(caught.value) == f"SimpleJobProcessor {message}"
    assert processor.state is before


@pytest.mark.parametrize(("step", "state"), [("pause", "paused"), ("stop", "stopped")])
def test_a_paused_or_stopped_processor_takes_no_work(step: str, state: str) -> None:
    processor = make_processor(V1)
    processor.start()
    getattr(processor, step)()
    with pytest.raises(ConfigError, match=f"cannot take work: it is {state}"):
        processor.process_batch(TRADES, TOTALS)


def test_stop_may_be_repeated_and_from_idle() -> None:
    processor = make_processor(V1)
    processor.stop()
    processor.stop()
    assert processor.state is LifecycleState.STOPPED


def test_a_processor_runs_one_job_at_a_time() -> None:
    processor = make_processor(V1)
    job = endless_job(processor)
    thread = running(processor, job)
    with pytest.raises(ConfigError, match="runs job 'endless' now"):
        processor.process_batch(TRADES, TOTALS)
    processor.stop()
    thread.join()


@pytest.mark.parametrize("config", [V1, V2])
def test_pause_stops_the_reading_and_resume_goes_on(config: JobProcessorConfig) -> None:
    processor = make_processor(config)
    job = endless_job(processor)
    thread = running(processor, job)
    processor.pause()
    assert processor.state is LifecycleState.PAUSED and job.state == "paused"
    job.drain(0)
    paused_at = job.progress().records
    # Another job's whole run on the same loop is time enough for this one to read on, if it did.
    for _ in range(3):
        velostream.query("SELECT price FROM t WHERE price > 3", "v1", t=TRADES)
    assert job.progress().records == paused_at
    processor.resume()
    assert processor.state is LifecycleState.RUNNING
    until(lambda: job.progress().records > paused_at + 10, job)
    processor.stop()
    thread.join()
    written = [row["n"] for row in job.sink("out").table().to_pylist()]  # type: ignore[attr-defined]
    assert written == list(range(1, len(written) + 1)), "nothing is lost or read twice over a pause"


def test_a_paused_job_can_be_stopped() -> None:
    processor = make_processor(V2)
    job = endless_job(processor)
    thread = running(processor, job)
    processor.pause()
    processor.stop()
    thread.join()
    assert job.report().state == "interrupted"


@pytest.mark.parametrize("config", [V1, V2])
def test_stop_finishes_the_blocks_begun(config: JobProcessorConfig) -> None:
    """A block stands in the sink when the stop comes: it and those behind it in the lanes are written."""
    entered, release = threading.Event(), threading.Event()

    def hold(batch: Any) -> None:
        entered.set()
        release.wait(30)

    processor = make_processor(config)
    source = ScriptedSourceConfig(partitions={"p": Endless()}, schema=ENDLESS, bounded=False)
    job = processor.make_job(
        JobConfig(
            name="slow",
            sql="SELECT n FROM s",
            sources={"s": source},
            sinks={"out": ScriptedSinkConfig(on_write=hold)},
        )
    )
    thread = Thread(target=processor.run_job, args=(job,))
    thread.start()
    assert entered.wait(30)
    stopping = Thread(target=processor.stop)
    stopping.start()
    until(lambda: job.state == "stopping", job)
    assert processor.state is LifecycleState.STOPPING
    release.set()
    stopping.join()
    thread.join()
    report = job.report()
    sink: Any = job.sink("out")
    assert report.state == "interrupted"
    assert sink.closed is False, "a sink is told that its rows are not all"
    assert report.records["used"] == report.records["in"] == report.rows_out == len(sink.rows) > 0
    assert [row["n"] for row in sink.rows] == list(range(1, len(sink.rows) + 1))


def test_stop_reports_open_windows_and_does_not_emit_them() -> None:
    processor = make_processor(V2)
    steps = st_rows(60)

    def endless() -> Iterator[list[dict[str, Any]]]:
        yield from steps
        while True:
            yield [{"ts": "2020-01-01 01:00:30", "k": "last"}]

    source = ScriptedSourceConfig(
        partitions={"p": endless()},
        schema={"ts": "TIMESTAMP", "k": "VARCHAR"},
        bounded=False,
        out_of_orderness="0s",
    )
    job = processor.make_job(
        JobConfig(
            name="windows",
            sql="SELECT k, COUNT(*) AS n FROM s GROUP BY k WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)",
            sources={"s": as_times(source)},
            sinks={"out": MemorySinkConfig()},
        )
    )
    thread = Thread(target=processor.run_job, args=(job,))
    thread.start()
    until(lambda: job.state.running and job.progress().rows_out == 60, job)
    until(lambda: job.progress().records > 70, job)
    processor.stop()
    thread.join()
    report = job.report()
    assert report.state == "interrupted"
    assert report.open_windows == 1
    out = job.sink("out").table().to_pylist()  # type: ignore[attr-defined]
    assert sorted(row["k"] for row in out) == sorted(f"k{n}" for n in range(60))
    assert all(row["n"] == 1 for row in out)


def st_rows(minutes: int) -> list[list[dict[str, Any]]]:
    return [[{"ts": f"2020-01-01 00:{n:02}:00", "k": f"k{n}"}] for n in range(minutes)]


def as_times(source: ScriptedSourceConfig) -> ScriptedSourceConfig:
    """The source with its text times as timestamps."""
    from datetime import UTC, datetime

    def timed(steps: Any) -> Iterator[list[dict[str, Any]]]:
        for step in steps:
            yield [{**row, "ts": datetime.fromisoformat(row["ts"]).replace(tzinfo=UTC)} for row in step]

    source.partitions = {name: timed(steps) for name, steps in source.partitions.items()}
    return source


def test_a_job_that_is_stopped_before_it_starts_reads_nothing() -> None:
    processor = make_processor(V1)
    job = endless_job(processor)
    job.stop("early")
    report = processor.run_job(job)
    assert report.state == "interrupted"
    assert report.records["in"] == 0


def test_a_job_that_is_paused_before_it_starts_starts_paused() -> None:
    processor = make_processor(V1)
    job = endless_job(processor)
    assert job.pause() and not job.pause()
    job.start()
    assert job.state == "paused"
    job.drain(0)
    assert job.progress().records == 0
    assert job.resume() and not job.resume()
    until(lambda: job.progress().records > 0, job)
    job.stop()
    job.wait()
    assert not job.pause()


def test_a_job_that_is_aborted_before_it_starts_fails_with_the_reason() -> None:
    job = endless_job(make_processor(V1))
    job.abort("no longer wanted")
    job.start()
    assert job.wait(10)
    assert (job.report().state, job.report().error) == ("failed", "no longer wanted")


# --- what Hydra builds ----------------------------------------------------------------------------

OPTIONS = sorted(path.stem for path in Path("conf/processor").glob("*.yaml"))


def test_there_is_an_option_for_each_processor() -> None:
    assert {"v1", "v2"} <= set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_the_group_is_a_processor_and_back(option: str) -> None:
    group = composed(option)
    config = JobProcessorConfig.from_config(group)
    assert config == JobProcessorConfig.parse(option)
    assert config.to_config(group) == group


@pytest.mark.parametrize(("partitions", "affinity"), [(None, False), (3, False), (3, True), (None, True)])
def test_the_keys_of_the_group_are_those_of_the_processor(partitions: int | None, affinity: bool) -> None:
    group = composed("v2", partitions=partitions, affinity=affinity, block_size="1MiB")
    config = JobProcessorConfig.from_config(group)
    assert config == JobProcessorConfig.V2(partitions, affinity)
    assert config.to_config(group) == group
    assert config.to_config() == ProcessorConfig(version="v2", partitions=partitions, affinity=affinity)


def test_v1_of_the_group_has_no_affinity_and_at_most_one_partition() -> None:
    assert JobProcessorConfig.from_config(ProcessorConfig("v1", 1, True)) == V1
    with pytest.raises(ConfigError, match="v1 has one lane"):
        JobProcessorConfig.from_config(ProcessorConfig("v1", 8))


def composed(option: str, **keys: Any) -> ProcessorConfig:
    """What `processor=<option> processor.<key>=<value>` composes to."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    ConfigStore.instance().store(group="schema", name="processor", node=ProcessorConfig)
    overrides = [f"+processor={option}"]
    overrides += [f"processor.{key}={'null' if value is None else value}" for key, value in keys.items()]
    with initialize_config_dir(str(Path("conf").absolute()), version_base="1.3"):
        group = OmegaConf.to_object(compose(overrides=overrides).processor)
    assert isinstance(group, ProcessorConfig)
    return group


def test_a_processor_with_more_lanes_than_key_groups_is_found_by_the_check() -> None:
    config = JobConfig(
        sql="SELECT v FROM t",
        sources={"t": MemorySourceConfig(data=pa.table({"v": [1]}))},
        processor=JobProcessorConfig.V2(200).to_config(),
    )
    with pytest.raises(ConfigError, match="200 lanes need as many key groups"):
        prepare(config)
