"""`processor=v1_transactional`: a batch that fails takes its output and its state back to the last commit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import velostream
from velostream.config.schema import DeliveryConfig, FailureConfig, JobConfig, ProcessorConfig, StateConfig
from velostream.connectors.base import sinks
from velostream.connectors.memory import MemorySinkConfig, MemorySourceConfig
from velostream.errors import ConfigError, Problems, VelostreamError
from velostream.processors import JobProcessorConfig, TransactionalJobProcessor, make_processor
from velostream.runtime.job import Job
from velostream.runtime.prepare import prepare
from velostream.state.manifest import Manifest
from velostream.state.store import StateStore
from velostream.testing.scripted import SILENCE, ScriptedSinkConfig, ScriptedSourceConfig

SCHEMA = {"k": "BIGINT"}
# Overflows when doubled.
BAD = 2**62
FIRST = [{"k": n} for n in range(10)]
SECOND = [{"k": n} for n in range(5, 20)]
ROWS = "CREATE STREAM out AS SELECT k, k * 2 AS n FROM t"
TOTALS = "CREATE STREAM out AS SELECT k % 3 AS g, COUNT(*) AS n, SUM(k * 2) AS s FROM t GROUP BY k % 3"


def config(folder: Path, steps: Any, sql: str, bounded: bool, failure: str = "fail_batch") -> JobConfig:
    return JobConfig(
        name="job",
        sql=sql,
        sources={"t": ScriptedSourceConfig(partitions={"p": steps}, schema=SCHEMA, bounded=bounded)},
        sinks={"out": sinks["file"].Config(path=str(folder / "out.ndjson"))},  # type: ignore[call-arg]
        processor=ProcessorConfig("v1_transactional"),
        failure=FailureConfig(failure),
        delivery=DeliveryConfig(interval="5ms"),
        state=StateConfig(path=str(folder / "state")),
        output_dir=str(folder / "run"),
    )


def position_of(config: JobConfig) -> int:
    manifest = saved(Path(config.state.path))
    return 0 if manifest is None else manifest.positions.get("t", {}).get("p", 0)


def saved(folder: Path) -> Manifest | None:
    store = StateStore(folder, "job")
    try:
        return store.open()
    finally:
        store.close()


def parsed(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def doubled(rows: list[dict[str, int]]) -> list[dict[str, Any]]:
    return [{"k": row["k"], "n": row["k"] * 2} for row in rows if row["k"] != BAD]


def totals(rows: list[dict[str, int]]) -> dict[int, tuple[int, int]]:
    keys = [row["k"] for row in rows if row["k"] != BAD]
    return {g: (len(ks), 2 * sum(ks)) for g in range(3) if (ks := [k for k in keys if k % 3 == g])}


def last(rows: list[dict[str, Any]]) -> dict[int, tuple[int, int]]:
    """The last row of each group."""
    return {row["g"]: (row["n"], row["s"]) for row in rows}


def fail(folder: Path, sql: str, bounded: bool, bad: list[dict[str, int]]) -> list[dict[str, int]]:
    """Run a job that fails at `bad` some time after a commit; gives the rows that are committed."""
    job: Job | None = None

    def steps() -> Iterator[Any]:
        yield FIRST
        # An endless job commits once before its first row.
        while job is None or job.report().epochs < (1 if bounded else 2):
            yield SILENCE
        yield SECOND
        yield bad
        while True:
            yield SILENCE

    job = Job(config(folder, steps(), sql, bounded))
    job.start()
    assert job.wait(30), "the job does not end"
    assert job.state == "failed" and "record failed" in job.failure().message
    manifest = saved(folder / "state")
    assert manifest is not None
    position = manifest.positions["t"]["p"]
    assert len(FIRST) <= position <= len(FIRST) + len(SECOND)
    return [*FIRST, *SECOND][:position]


@pytest.mark.parametrize("bounded", [True, False])
def test_rows_of_a_failed_batch_are_taken_back_at_once(tmp_path: Path, bounded: bool) -> None:
    out = tmp_path / "out.ndjson"
    rows = fail(tmp_path, ROWS, bounded, [{"k": 1}, {"k": BAD}, {"k": 2}])
    # A bounded job's file has another name until it is complete.
    assert out.exists() is not bounded
    [file] = [path for path in tmp_path.iterdir() if path.name in ("out.ndjson", ".out.ndjson.part")]
    assert parsed(file.read_bytes()) == doubled(rows)
    assert parsed(velostream.committed(out).read()) == doubled(rows)


@pytest.mark.parametrize("failure", ["log_and_continue", "send_to_dlq"])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("sql", [ROWS, TOTALS])
def test_a_restart_that_passes_over_the_record_is_exact(
    tmp_path: Path, sql: str, bounded: bool, failure: str
) -> None:
    bad = [{"k": 1}, {"k": BAD}, {"k": 2}]
    fail(tmp_path, sql, bounded, bad)
    steps = [FIRST, [*SECOND, *bad]]
    job = Job(config(tmp_path, steps if bounded else endless(steps), sql, bounded, failure))
    finish(job, bounded, 3)
    everything = [*FIRST, *SECOND, *bad]
    rows = parsed((tmp_path / "out.ndjson").read_bytes())
    if sql == ROWS:
        assert rows == doubled(everything)
    else:
        assert last(rows) == totals(everything)
    assert job.report().records["failed"] == 1
    dlq = tmp_path / "run" / "dlq.ndjson"
    assert dlq.exists() is (failure == "send_to_dlq")


@pytest.mark.parametrize("sql", [ROWS, TOTALS])
def test_a_restart_on_the_repaired_record_is_exact(tmp_path: Path, sql: str) -> None:
    committed = fail(tmp_path, sql, True, [{"k": 1}, {"k": BAD}, {"k": 2}])
    repaired = [{"k": 1}, {"k": 4}, {"k": 2}]
    job = Job(config(tmp_path, [FIRST, SECOND, repaired], sql, True))
    finish(job, True, 0)
    everything = [*FIRST, *SECOND, *repaired]
    # The state was that of the last commit: nothing before it was read again.
    assert job.report().records["in"] == len(everything) - len(committed)
    rows = parsed((tmp_path / "out.ndjson").read_bytes())
    if sql == ROWS:
        assert rows == doubled(everything)
    else:
        assert Counter(row["g"] for row in rows) == {0: 1, 1: 1, 2: 1} and last(rows) == totals(everything)


def endless(steps: list[Any]) -> Iterator[Any]:
    yield from steps
    while True:
        yield SILENCE


def finish(job: Job, bounded: bool, bad: int) -> None:
    before = position_of(job.config)
    job.start()
    if not bounded:
        job.drain(len(FIRST) + len(SECOND) + bad - before)
        job.stop()
    assert job.wait(30), "the job does not end"
    assert job.state == ("completed" if bounded else "interrupted"), job.report().error


# --- who is refused -------------------------------------------------------------------------------


def refused(job: JobConfig) -> list[str]:
    with pytest.raises(VelostreamError) as caught:
        prepare(job)
    errors = caught.value.errors if isinstance(caught.value, Problems) else (caught.value,)
    return [error.render() for error in errors]


def test_a_job_that_cannot_deliver_exactly_once_is_refused_with_what_to_do(tmp_path: Path) -> None:
    job = config(tmp_path, [FIRST], ROWS, True)
    job.sinks["seen"] = ScriptedSinkConfig()
    assert refused(job) == [
        "sinks.seen: processor=v1_transactional delivers exactly once, and sink 'seen' would get "
        "at_least_once (a scripted sink can do no more); write to files, or to topics of one cluster, "
        "or use processor=v1"
    ]
    job = config(tmp_path, [FIRST], ROWS, True)
    job.state.path = ""
    assert refused(job) == [
        "state.path: processor=v1_transactional delivers exactly once, and sink 'out' would get best_effort "
        "(state.path is empty: nothing is saved); set state.path, or use processor=v1"
    ]
    job = config(tmp_path, [FIRST], ROWS, True)
    batches = pa.RecordBatchReader.from_batches(pa.schema({"k": pa.int64()}), [])
    job.sources["t"] = MemorySourceConfig(data=batches)
    assert refused(job) == [
        "sources.t: processor=v1_transactional delivers exactly once, and sink 'out' would get best_effort "
        "(the source 't' cannot be read again); read files, topics or tables, or use processor=v1"
    ]
    assert list(tmp_path.iterdir()) == []


def test_less_than_exactly_once_cannot_be_asked_of_it(tmp_path: Path) -> None:
    job = config(tmp_path, [FIRST], ROWS, True)
    job.delivery.guarantee = "at_least_once"
    assert refused(job) == [
        "delivery.guarantee: processor=v1_transactional delivers exactly once, not at_least_once; "
        "leave delivery out, or use processor=v1"
    ]
    job.delivery.guarantee = "exactly_once"
    job.processor.partitions = 2
    assert refused(job)[0].startswith(
        "processor.partitions: processor=v1_transactional has one lane, not 2; use processor=v2"
    )


# --- as a value -----------------------------------------------------------------------------------


def test_the_configuration_has_one_lane_and_its_own_text() -> None:
    config = JobProcessorConfig.V1_TRANSACTIONAL
    assert (str(config), config.lanes) == ("v1_transactional", 1)
    assert config == JobProcessorConfig.parse(" V1_Transactional ") != JobProcessorConfig.V1
    assert JobProcessorConfig.from_config(config.to_config()) == config
    assert config.description() == (
        "V1-Transactional (Single-threaded, single partition, exactly-once delivery)"
    )
    with pytest.raises(ConfigError, match="v1_transactional has one lane and no affinity"):
        JobProcessorConfig("v1_transactional", 2)
    with pytest.raises(ConfigError, match="did you mean 'v1_transactional'"):
        JobProcessorConfig.parse("transactional")


def test_the_factory_makes_the_processor_that_runs_batches_in_memory() -> None:
    processor = make_processor(JobProcessorConfig.V1_TRANSACTIONAL)
    assert isinstance(processor, TransactionalJobProcessor)
    assert (processor.version, processor.num_partitions) == ("V1-Transactional", 1)
    table = pa.table({"k": [1, 2, 1]})
    result = processor.process_batch(table, "SELECT k, COUNT(*) AS n FROM records GROUP BY k")
    assert sorted(tuple(row.values()) for row in result.to_pylist()) == [(1, 2), (2, 1)]
    assert processor.metrics().total_records == 3


def test_a_job_of_the_processor_is_checked_as_any(tmp_path: Path) -> None:
    processor = TransactionalJobProcessor()
    sql = ROWS.replace("FROM t", "FROM records")
    with pytest.raises(ConfigError, match="a memory sink can do no more"):
        processor.process_job(MemorySourceConfig(data=pa.table({"k": [1]})), MemorySinkConfig(), sql, "job")
    base = config(tmp_path, [FIRST, SECOND], sql, True)
    report = processor.process_multi_job(
        {"records": base.sources["t"]}, base.sinks, base.sql, "job", base=base
    )
    assert (report.state, report.processor, report.records["used"]) == ("completed", "v1_transactional", 25)
    assert [sink["delivery"] for sink in report.sinks] == ["exactly_once"]
