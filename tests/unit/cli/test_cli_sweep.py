"""Sweeps end with one table; failures are rows of it."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result, Runtime

from velostream.cli.sweep_table import Row, plot
from velostream.config.schema import JobConfig
from velostream.runtime.report import Report

Call = Callable[..., Result]


def _table(tmp_path: Path) -> list[dict[str, str]]:
    [file] = tmp_path.glob("outputs/flights/multirun-*/table.csv")
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_combination_is_run_and_an_impossible_one_is_a_row(
    runtime: Runtime, call: Call, tmp_path: Path
) -> None:
    result = call("-m", "processor=v1,v2", "processor.partitions=1,4", "failure=fail_batch")
    assert result.code == 1
    assert [(job.processor.version, job.processor.partitions) for job in runtime.run] == [
        ("v1", 1),
        ("v2", 1),
        ("v2", 4),
    ]
    rows = _table(tmp_path)
    assert [(row["processor.partitions"], row["state"], row["rate"]) for row in rows] == [
        ("1", "completed", "2000.0"),
        ("4", "failed", ""),
        ("1", "completed", "2000.0"),
        ("4", "completed", "8000.0"),
    ]
    assert rows[1]["reason"].endswith(
        "processor=v1 has one lane, not 4; use processor=v2, or leave processor.partitions out"
    )
    assert result.out[:2] == [
        "run 1: processor=v1 processor.partitions=1: completed, 2,000 records/s, 33 rows out, "
        "20 late, 10 failed, 0.50 s",
        "  flights.csv:7: not an integer: 'x'",
    ]
    assert result.out[2:3] == [
        f"run 2: processor=v1 processor.partitions=4: failed, {rows[1]['reason']}",
    ]
    assert result.out[-1] == "best: failure=fail_batch processor=v2 processor.partitions=4"


def test_the_table_is_on_the_screen_in_json_and_drawn_after_each_run(
    runtime: Runtime, call: Call, tmp_path: Path
) -> None:
    result = call("-m", "processor.partitions=range(1,3)", "processor.block_size=1MiB,4MiB")
    assert result.code == 0
    header = next(at for at, line in enumerate(result.out) if line.startswith("run  processor.partitions"))
    assert [line.split()[:4] for line in result.out[header + 1 : header + 5]] == [
        ["1", "1", "1MiB", "completed"],
        ["2", "1", "4MiB", "completed"],
        ["3", "2", "1MiB", "completed"],
        ["4", "2", "4MiB", "completed"],
    ]
    [folder] = tmp_path.glob("outputs/flights/multirun-*")
    runs = json.loads((folder / "table.json").read_text())
    assert [run["report"]["records"]["used"] for run in runs] == [900] * 4
    assert (folder / "plot.png").read_text() == "4"
    assert (folder / "003" / "report.json").exists()


@pytest.mark.parametrize(
    "swept",
    [
        [{"processor": "v1", "processor.partitions": "1"}, {"processor": "v2", "processor.partitions": "2"}],
        [{"failure": "fail_batch"}, {"failure": "log_and_continue"}],
        [{}],
    ],
)
def test_numbers_and_names_are_drawn(swept: list[dict[str, str]], tmp_path: Path) -> None:
    rows = [Row(number, keys, Report("x", rate=100.0 * number)) for number, keys in enumerate(swept)]
    plot([*rows, Row(9, swept[0], None, "impossible")], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_drawn_while_no_run_has_completed(tmp_path: Path) -> None:
    plot([Row(1, {}, None, "impossible")], tmp_path / "plot.png")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_does_not_stop_the_sweep(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    def script(config: JobConfig) -> dict[str, object]:
        return {"state": "failed", "error": "lost"} if config.processor.partitions == 1 else {}

    runtime.script = script
    assert call("-m", "processor.partitions=1,2").code == 1
    assert [(row["state"], row["reason"]) for row in _table(tmp_path)] == [
        ("failed", "lost"),
        ("completed", ""),
    ]


def test_an_interrupted_sweep_keeps_the_rows_it_has(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    runtime.signals = (signal.SIGINT,)
    assert call("-m", "processor.partitions=1,2").code == 130
    assert [row["state"] for row in _table(tmp_path)] == ["interrupted"]


@pytest.mark.parametrize(
    ("swept", "processors"), [("processor=v1,v2:2", ["v1", "v2"]), ("processor=v2:2,v2:3", ["v2", "v2"])]
)
def test_processors_are_swept_as_text(
    runtime: Runtime, call: Call, tmp_path: Path, swept: str, processors: list[str]
) -> None:
    assert call("-m", swept).code == 0
    assert [job.processor.version for job in runtime.run] == processors
    assert [f"processor={row['processor']}" for row in _table(tmp_path)]


def test_what_is_not_swept_is_checked_before_anything_runs(
    runtime: Runtime, call: Call, tmp_path: Path
) -> None:
    result = call("-m", "processor.partitions=1,2", "procesor=v1")
    assert (result.code, runtime.run) == (2, [])
    assert list(tmp_path.iterdir()) == []


def test_tuning_maximises_the_rate_and_gives_the_line_to_copy(
    runtime: Runtime, call: Call, tmp_path: Path
) -> None:
    result = call(
        "sweep=tune",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.sampler.seed=1",
        "processor.partitions=2",
        "processor.block_size=choice(1MiB,4MiB)",
    )
    assert (result.code, len(runtime.run)) == (0, 3)
    assert result.out[-1].startswith("best: ")
    assert set(result.out[-1].split()[1:]) in (
        {"processor.partitions=2", "processor.block_size=1MiB"},
        {"processor.partitions=2", "processor.block_size=4MiB"},
    )
    assert {row["processor.block_size"] for row in _table(tmp_path)} <= {"1MiB", "4MiB"}


def test_an_unknown_sweep_is_wrong_input(runtime: Runtime, call: Call) -> None:
    assert call("sweep=tuen").err == ["override 'sweep=tuen': unknown sweep 'tuen'; did you mean 'tune'?"]
