"""What happens to records, sources and sinks that fail, and what a run leaves behind: nothing."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import velostream
from velostream.config.schema import FailureConfig, JobConfig, ProcessorConfig
from velostream.connectors.base import sources
from velostream.connectors.memory import MemorySinkConfig, MemorySourceConfig
from velostream.errors import ConnectorError, VelostreamError
from velostream.runtime.failures.dead_letters import read_dead_letters
from velostream.runtime.job import Job
from velostream.runtime.report import Report
from velostream.testing.scripted import ScriptedSinkConfig, ScriptedSourceConfig

LINES = b'{"v":1}\n{"v":oops}\n{"v":3}\n{"v":9223372036854775807}\n{"v":5}\n\xff\n'
MODES = ["v1", "v2:1", "v2:4"]


def processor(text: str, **keys: Any) -> ProcessorConfig:
    from velostream.config.processor_text import parse_processor

    return ProcessorConfig(**parse_processor(text), **keys)


def file_job(folder: Path, mode: str, failure: FailureConfig, **keys: Any) -> Job:
    """Two lines that are not JSON and one whose expression overflows, of six."""
    path = folder / "in.ndjson"
    path.write_bytes(LINES)
    source = sources["file"].Config(path=str(path), schema={"v": "BIGINT"})  # type: ignore[call-arg]
    return Job(
        JobConfig(
            sql="SELECT v * 2 AS w FROM t WHERE v <> 1",
            sources={"t": source},
            sinks={"out": MemorySinkConfig()},
            processor=processor(mode, **keys),
            failure=failure,
            output_dir=str(folder / "run"),
        )
    )


def rows(job: Job) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in job.sink("out").table().to_pylist()]  # type: ignore[attr-defined]


def counts(report: Report) -> tuple[int, ...]:
    return tuple(report.records[name] for name in ("in", "used", "filtered", "late", "failed"))


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block_records", [0, 1, 2])
def test_failed_records_are_counted_and_the_first_few_logged(
    tmp_path: Path, mode: str, block_records: int, caplog: pytest.LogCaptureFixture
) -> None:
    job = file_job(tmp_path, mode, FailureConfig(log_first=2), block_records=block_records)
    with caplog.at_level(logging.WARNING, "velostream.failures"):
        report = job.run()
    assert report.state == "completed"
    assert rows(job) == [(6,), (10,)]
    assert counts(report) == (6, 2, 1, 0, 3)
    logged = [message for message in caplog.messages if message.startswith("record failed")]
    assert len(logged) == len(report.failures) == 2
    assert all(f" at {offset}: " in text for offset, text in zip((8, 27), logged, strict=True)), logged
    assert "further failed records are counted and not logged (failure.log_first=2)" in caplog.messages


def test_nothing_is_said_of_further_records_when_there_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "velostream.failures"):
        report = file_job(tmp_path, "v1", FailureConfig(log_first=3)).run()
    assert len(report.failures) == 3
    assert not any("further" in message for message in caplog.messages)


@pytest.mark.parametrize("mode", MODES)
def test_fail_batch_stops_the_job_with_the_record(tmp_path: Path, mode: str) -> None:
    job = file_job(tmp_path, mode, FailureConfig("fail_batch"))
    report = job.run()
    assert report.state == "failed"
    assert report.error is not None
    assert report.error.startswith("record failed: t ") and '{"v":oops}' in report.error
    assert "failure=log_and_continue counts such records" in report.error


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block_records", [0, 1])
def test_send_to_dlq_keeps_bytes_position_and_reason(tmp_path: Path, mode: str, block_records: int) -> None:
    job = file_job(tmp_path, mode, FailureConfig("send_to_dlq"), block_records=block_records)
    report = job.run()
    assert rows(job) == [(6,), (10,)]
    assert counts(report) == (6, 2, 1, 0, 3)
    assert report.dead_letters == str(tmp_path / "run" / "dlq.ndjson")
    letters = list(read_dead_letters(Path(report.dead_letters)))
    assert {letter.offset: letter.data for letter in letters} == {
        8: b'{"v":oops}',
        27: b'{"v":9223372036854775807}',
        61: b"\xff",
    }
    for letter in letters:
        assert LINES[letter.offset :].startswith(letter.data), "the position is that of the bytes"
        assert (letter.source, letter.detail != "") == ("t", True)
    assert {letter.offset: letter.code for letter in letters}[27] == "overflow"
    lines = [json.loads(line) for line in Path(report.dead_letters).read_text().splitlines()]
    assert sorted("record" if "record" in line else "record_base64" for line in lines) == [
        "record",
        "record",
        "record_base64",
    ]


def test_rows_in_memory_that_fail_are_kept_as_json(tmp_path: Path) -> None:
    job = Job(
        JobConfig(
            sql="SELECT v * 2 AS w FROM t",
            sources={"t": MemorySourceConfig(data=pa.table({"v": [1, 2**62], "k": ["a", "ß"]}))},
            sinks={"out": MemorySinkConfig()},
            failure=FailureConfig("send_to_dlq", dlq_path=str(tmp_path / "bad.ndjson")),
        )
    )
    report = job.run()
    (letter,) = read_dead_letters(tmp_path / "bad.ndjson")
    assert (letter.offset, json.loads(letter.data)) == (1, {"v": 2**62})
    assert counts(report) == (2, 1, 0, 0, 1)


def test_without_a_failed_record_there_is_no_file(tmp_path: Path) -> None:
    job = Job(
        JobConfig(
            sql="SELECT v FROM t",
            sources={"t": MemorySourceConfig(data=pa.table({"v": [1]}))},
            sinks={"out": MemorySinkConfig()},
            failure=FailureConfig("send_to_dlq", dlq_path=str(tmp_path / "bad.ndjson")),
        )
    )
    assert job.run().dead_letters is None
    assert list(tmp_path.iterdir()) == []


def test_send_to_dlq_needs_a_place() -> None:
    with pytest.raises(VelostreamError, match=r"failure=send_to_dlq has no file.*set failure.dlq_path"):
        velostream.query("SELECT v FROM t", failure="send_to_dlq", t=pa.table({"v": [1]}))


# --- sources and sinks ----------------------------------------------------------------------------


class FailsFirst:
    """Raises at the first `times` calls."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.calls = 0

    def __call__(self, *arguments: Any) -> None:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise ConnectorError("not now")


def quick(strategy: str, max_retries: int = 3) -> FailureConfig:
    return FailureConfig(strategy, max_retries=max_retries, backoff="1ms", max_backoff="2ms")


def scripted_job(steps: Any, sink: ScriptedSinkConfig, failure: FailureConfig, mode: str = "v2:2") -> Job:
    source = ScriptedSourceConfig(partitions={"p": steps}, schema={"v": "BIGINT"})
    return Job(
        JobConfig(
            sql="SELECT v FROM t",
            sources={"t": source},
            sinks={"out": sink},
            processor=processor(mode),
            failure=failure,
        )
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_sink_that_fails_twice_is_written_in_order_with_retries(mode: str) -> None:
    fails = FailsFirst(2)
    blocks = [[{"v": n}] for n in range(5)]
    job = scripted_job(blocks, ScriptedSinkConfig(on_write=fails), quick("retry_with_backoff"), mode)
    report = job.run()
    sink: Any = job.sink("out")
    assert report.state == "completed"
    assert [row["v"] for row in sink.rows] == [0, 1, 2, 3, 4], "nothing is lost, doubled or overtaken"
    assert fails.calls == 7
    assert sink.closed is True


def test_a_sink_that_does_not_open_is_tried_again() -> None:
    job = scripted_job([[{"v": 1}]], ScriptedSinkConfig(on_open=FailsFirst(2)), quick("retry_with_backoff"))
    assert job.run().state == "completed"


def test_a_source_that_fails_twice_is_read_on_with_retries() -> None:
    steps = [[{"v": 1}], ConnectorError("broken pipe"), ConnectorError("broken pipe"), [{"v": 2}]]
    job = scripted_job(steps, ScriptedSinkConfig(), quick("retry_with_backoff"))
    assert job.run().state == "completed"
    sink: Any = job.sink("out")
    assert [row["v"] for row in sink.rows] == [1, 2]


@pytest.mark.parametrize("strategy", ["log_and_continue", "fail_batch"])
def test_without_retries_a_failed_sink_or_source_fails_the_job(strategy: str) -> None:
    fails = FailsFirst(1)
    report = scripted_job([[{"v": 1}]], ScriptedSinkConfig(on_write=fails), quick(strategy)).run()
    assert (report.state, report.error, fails.calls) == ("failed", "not now", 1)
    report = scripted_job([ConnectorError("gone")], ScriptedSinkConfig(), quick(strategy)).run()
    assert (report.state, report.error) == ("failed", "gone")
    report = scripted_job([], ScriptedSinkConfig(on_open=FailsFirst(1)), quick(strategy)).run()
    assert (report.state, report.error) == ("failed", "not now")


def test_retries_end() -> None:
    fails = FailsFirst(100)
    job = scripted_job([[{"v": 1}]], ScriptedSinkConfig(on_write=fails), quick("retry_with_backoff", 3))
    report = job.run()
    assert (report.state, report.error, fails.calls) == ("failed", "not now", 4)
    sink: Any = job.sink("out")
    assert sink.closed is False


def test_a_stop_ends_the_wait_for_the_next_try() -> None:
    entered = threading.Event()

    def fail(batch: Any) -> None:
        entered.set()
        raise ConnectorError("not now")

    failure = FailureConfig("retry_with_backoff", backoff="1h", max_backoff="1h")
    job = scripted_job([[{"v": 1}]], ScriptedSinkConfig(on_write=fail), failure)
    job.start()
    assert entered.wait(30)
    job.stop()
    assert job.wait(20)
    assert (job.report().state, job.report().error) == ("failed", "not now")


def test_rows_before_a_failed_read_are_still_delivered_in_order() -> None:
    steps = [*([{"v": n}] for n in range(20)), ConnectorError("gone")]
    job = scripted_job(steps, ScriptedSinkConfig(), quick("log_and_continue"))
    report = job.run()
    sink: Any = job.sink("out")
    assert report.state == "failed"
    written = [row["v"] for row in sink.rows]
    assert written == list(range(len(written)))


# --- memory, threads, descriptors -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["v1", "v2:4"])
def test_a_slow_sink_keeps_the_bytes_in_flight_bounded(mode: str) -> None:
    """The sink stands until the source has been asked for all it will be: far less than there is."""
    given = 0
    asked = threading.Event()
    rows_per_block = 1_000

    def steps() -> Iterator[pa.RecordBatch]:
        nonlocal given
        for _ in range(500):
            given += 1
            yield pa.record_batch({"v": pa.array(range(rows_per_block), pa.int64())})

    def stand(batch: Any) -> None:
        if not asked.is_set():
            # Runs of another job give the reader every chance to read on.
            for _ in range(5):
                velostream.query("SELECT v FROM t", "v1", t=pa.table({"v": [1]}))
            asked.given = given  # type: ignore[attr-defined]
            asked.set()

    source = ScriptedSourceConfig(partitions={"p": steps()}, schema={"v": "BIGINT"})
    queue = 64 * 1024
    job = Job(
        JobConfig(
            sql="SELECT v FROM t",
            sources={"t": source},
            sinks={"out": ScriptedSinkConfig(on_write=stand)},
            processor=processor(mode, queue_size="64KiB", block_size="16KiB"),
        )
    )
    report = job.run()
    assert report.state == "completed" and report.records["used"] == 500 * rows_per_block
    assert 0 < report.peak_queue_bytes <= queue
    # 8 blocks of 8,000 bytes are in flight; a few more wait in Faust's buffer.
    assert asked.given <= 20  # type: ignore[attr-defined]


def left_behind() -> tuple[set[str], int]:
    threads = {thread.name for thread in threading.enumerate()}
    return threads, len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.parametrize("ending", ["completed", "failed", "interrupted", "aborted", "refused"])
def test_a_run_leaves_no_thread_and_no_descriptor_behind(tmp_path: Path, ending: str) -> None:
    velostream.query("SELECT v FROM t", "v1", t=pa.table({"v": [1]}))

    def run() -> None:
        failure = FailureConfig("fail_batch" if ending == "failed" else "log_and_continue")
        if ending in ("completed", "failed"):
            job = file_job(tmp_path, "v2:3", failure)
            assert job.run().state == ending
        elif ending == "refused":
            with pytest.raises(VelostreamError):
                velostream.query("SELECT w FROM t", t=pa.table({"v": [1]}))
        else:
            steps = iter(lambda: [{"v": 1}], None)
            job = scripted_job(steps, ScriptedSinkConfig(), failure)
            job.start()
            job.drain(1)
            job.stop() if ending == "interrupted" else job.abort()
            assert job.wait(20)

    run()
    before = left_behind()
    for _ in range(3):
        run()
    threads, descriptors = left_behind()
    # The loop's own threads (asyncio.to_thread) are kept and used again; those of jobs are gone.
    ours = {name for name in threads - before[0] if not name.startswith("asyncio_")}
    assert ours == set()
    assert not any("/lane/" in name or "/read" in name for name in threads)
    assert descriptors <= before[1]
