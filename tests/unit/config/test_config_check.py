from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from velostream.config.check import validate, warnings
from velostream.config.schema import FailureConfig, JobConfig, ProcessorConfig
from velostream.connectors.file import FileSourceConfig as FileSource


def _job(**source: Any) -> JobConfig:
    return JobConfig(sql="SELECT 1", output_dir="outputs/x", sources={"t": FileSource(**source)})


def _lines(job: JobConfig) -> list[str]:
    return [error.render() for error in validate(job)]


def test_the_defaults_are_valid() -> None:
    assert _lines(_job()) == []


def _set(path: str, value: Any) -> Callable[[JobConfig], None]:
    *above, last = path.split(".")

    def change(job: JobConfig) -> None:
        node: Any = job
        for step in above:
            node = getattr(node, step)
        setattr(node, last, value)

    return change


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("sql", " ", "sql: the job has no SQL; give 'sql' as text or as the path of a .sql file"),
        ("name", "a/b", "name: 'a/b' is not a job name; use letters, digits, '_', '-' and '.'"),
        (
            "processor.version",
            "v9",
            "processor.version: 'processor.version' cannot be 'v9'; "
            "expected one of 'v1', 'v1_transactional', 'v2'",
        ),
        ("processor.partitions", 0, "processor.partitions: 'processor.partitions' is 0, expected at least 1"),
        (
            "processor.partitions",
            200,
            "processor.partitions: 200 lanes need as many key groups, and processor.key_groups is 128; "
            "raise processor.key_groups",
        ),
        (
            "processor.block_size",
            "big",
            "processor.block_size: 'processor.block_size': 'big' is not a size; "
            "write a number with a unit: 64KiB, 4MiB, 1GB",
        ),
        (
            "processor.queue_size",
            "1MiB",
            "processor.queue_size: a queue of 1MiB does not hold one block of 8MiB; "
            "raise processor.queue_size",
        ),
        (
            "failure.dlq_path",
            "x",
            "failure.dlq_path: failure=log_and_continue writes no file; use failure=send_to_dlq",
        ),
        (
            "failure.backoff",
            "1",
            "failure.backoff: 'failure.backoff': '1' is not a duration; "
            "write a number with a unit: 200ms, 10s, 5m, 1h30m, 1d",
        ),
        (
            "emit.changes",
            "recrod",
            "emit.changes: 'emit.changes' cannot be 'recrod'; did you mean 'record'?",
        ),
        (
            "observability.progress",
            "bar",
            "observability.progress: 'observability.progress' cannot be 'bar'; "
            "expected one of 'auto', 'on', 'off'",
        ),
    ],
)
def test_each_rule_says_what_to_change(path: str, value: Any, problem: str) -> None:
    job = _job()
    _set(path, value)(job)
    assert _lines(job) == [problem]


def test_v1_has_one_lane() -> None:
    job = _job()
    job.processor.version, job.processor.partitions = "v1", 4
    assert _lines(job) == [
        "processor.partitions: processor=v1 has one lane, not 4; "
        "use processor=v2, or leave processor.partitions out"
    ]
    job.processor.partitions = 1
    assert _lines(job) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"late": "dorp"}, "sources.t.late: 'sources.t.late' cannot be 'dorp'; did you mean 'drop'?"),
        (
            {"out_of_orderness": "unlimited", "late": "side_output"},
            "sources.t.late: late=side_output has no record to take: out_of_orderness is unlimited, "
            "so nothing is late; declare out_of_orderness as a duration, or leave late out",
        ),
        (
            {"allowed_lateness": "1h"},
            "sources.t.allowed_lateness: late=drop keeps no window open after its end; "
            "use late=update, or leave allowed_lateness out",
        ),
        (
            {"timezone": "Europe/Atlantis"},
            "sources.t.timezone: unknown time zone 'Europe/Atlantis'; use an IANA name: Europe/Berlin",
        ),
        (
            {"out_of_orderness": "soon"},
            "sources.t.out_of_orderness: 'sources.t.out_of_orderness': 'soon' is not a duration; "
            "write a number with a unit: 200ms, 10s, 5m, 1h30m, 1d",
        ),
    ],
)
def test_rules_of_time_are_checked_per_source(source: dict[str, Any], problem: str) -> None:
    assert _lines(_job(**source)) == [problem]


def test_late_updates_with_bounded_disorder_are_valid() -> None:
    assert _lines(_job(late="update", allowed_lateness="1h", out_of_orderness="10s")) == []


def test_affinity_is_a_warning_where_threads_cannot_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job()
    job.processor.affinity = True
    monkeypatch.setattr("sys.platform", "darwin")
    assert warnings(job) == ["processor.affinity: macOS does not pin threads; the lanes run unpinned"]
    monkeypatch.setattr("sys.platform", "linux")
    assert warnings(job) == []


def test_dead_letters_need_a_file() -> None:
    job = JobConfig(sql="SELECT a FROM t", failure=FailureConfig(strategy="send_to_dlq"))
    [problem] = validate(job)
    assert problem.where is not None
    assert (problem.where.key, problem.hint) == ("failure.dlq_path", "set failure.dlq_path")
    assert validate(replace(job, output_dir="outputs/x")) == []


def test_late_records_need_a_folder() -> None:
    job = _job(late="side_output", out_of_orderness="5s")
    assert _lines(job) == []
    assert _lines(replace(job, output_dir="")) == [
        "sources.t.late: late=side_output has no folder to write late.ndjson to; set output_dir, or late=drop"
    ]


def test_affinity_of_v1_is_warned_of() -> None:
    job = JobConfig(sql="SELECT a FROM t", processor=ProcessorConfig(version="v1", affinity=True))
    assert any("processor=v1 is never pinned" in text for text in warnings(job))
