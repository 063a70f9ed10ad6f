"""`command=bench` measures a job's settings and leaves the user's own files alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result, Runtime

from velostream.cli.bench_grid import BenchOptions, Setting, bench_options, settings
from velostream.cli.bench_table import Measure, best, plot, save
from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.errors import Problems

Call = Callable[..., Result]

JOB = """\
# @package _global_
name: sums
sql: SELECT symbol, SUM(price) AS s FROM rows GROUP BY symbol
sources:
  rows: {kind: file, path: rows.csv, schema: {symbol: VARCHAR, price: BIGINT}}
sinks:
  out: {kind: file, path: out.ndjson}
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = [f"s{number % 7},{number}" for number in range(2000)]
    (tmp_path / "rows.csv").write_text("\n".join(["symbol,price", *lines, ""]))
    (tmp_path / "out.ndjson").write_text("mine\n")
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return file


def _table(tmp_path: Path) -> tuple[Path, dict[str, object]]:
    [folder] = tmp_path.glob("outputs/sums/bench-*")
    return folder, json.loads((folder / "table.json").read_text())


def test_every_setting_is_measured_and_nothing_is_written_but_the_tables(
    job: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("velostream.cli.bench_table.plot", lambda title, measures, file: file.touch())
    result = call(
        f"job={job}",
        "command=bench",
        "bench.partitions=1,2",
        "bench.block_size=[64KiB,16KiB]",
        "bench.runs=2",
    )
    assert (result.code, result.err) == (0, [])
    folder, table = _table(tmp_path)
    assert (tmp_path / "out.ndjson").read_text() == "mine\n"
    assert {path.name for path in folder.iterdir()} - {"plot.png"} == {"table.json", "table.md"}
    measured = table["settings"]
    assert isinstance(measured, list)
    assert [setting["overrides"] for setting in measured] == [
        [*lanes, f"processor.block_size={size}"]
        for lanes in (
            ["processor=v1"],
            ["processor=v2", "processor.partitions=1"],
            ["processor=v2", "processor.partitions=2"],
        )
        for size in ("16KiB", "64KiB")
    ]
    assert all(len(setting["rates"]) == 2 and min(setting["rates"]) > 0 for setting in measured)
    top = max(measured, key=lambda setting: setting["median"])
    assert table["best"] == " ".join(top["overrides"])
    assert result.out[-1] == f"best: {table['best']}"
    assert result.out[0] == "sums: 6 settings, 2 runs each; nothing goes to its sinks"
    turns = [line.partition(": completed, ")[0] for line in result.out if ": completed, " in line]
    words = [" ".join(setting["overrides"]) for setting in measured]
    assert turns == [
        f"warm-up: {words[0]}",
        *(f"run {number} of 12: {text}" for number, text in enumerate(words * 2, 1)),
    ]
    header = next(line for line in result.out if line.startswith("processor  partitions"))
    assert header.split() == "processor partitions block records/s min max spread read/s note".split()
    text = (folder / "table.md").read_text()
    assert text.count("\n| v") == 6
    assert f"Best: `{table['best']}`" in text
    machine = table["machine"]
    assert isinstance(machine, dict)
    assert machine["cpu"] in text and machine["pyarrow"] in text


def test_an_endless_job_is_stopped_after_the_records_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(
        "job=trades", "source.count=0", "command=bench", "bench.partitions=[]", "bench.block_size=64KiB",
        "bench.runs=1", "bench.records=1000", "failure=send_to_dlq",
    )  # fmt: skip
    assert (result.code, result.err) == (0, [])
    [file] = tmp_path.glob("outputs/trades/bench-*/table.json")
    [setting] = json.loads(file.read_text())["settings"]
    assert (len(setting["rates"]), setting["reason"]) == (1, "")


def test_a_setting_that_fails_is_a_row_with_its_reason_and_is_not_run_again(
    runtime: Runtime, call: Call, monkeypatch: pytest.MonkeyPatch, job: Path
) -> None:
    def script(config: JobConfig) -> dict[str, object]:
        return {"state": "failed", "error": "no memory\n  more"} if config.processor.partitions == 2 else {}

    runtime.script = script
    monkeypatch.chdir(job.parent)
    monkeypatch.setattr("velostream.cli.bench_table.plot", lambda *_: None)
    result = call(
        f"job={job}", "command=bench", "bench.partitions=2,4", "bench.block_size=1MiB", "bench.runs=2"
    )
    assert result.code == 1
    assert [config.processor.partitions for config in runtime.run] == [None, None, 2, 4, None, 4]
    assert result.out[-1] == "best: processor=v2 processor.partitions=4 processor.block_size=1MiB"
    [row] = [line for line in result.out if line.startswith("v2         2 ")]
    assert row.split()[-2:] == ["no", "memory"]


def test_an_interrupt_ends_the_bench_with_what_was_measured(
    runtime: Runtime, call: Call, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(job.parent)
    runtime.signals = (signal.SIGINT,)
    result = call(f"job={job}", "command=bench", "bench.partitions=[]", "bench.runs=2")
    assert result.code == 130
    assert len(runtime.run) == 1
    assert not any(line.startswith("best:") for line in result.out)


def test_what_is_wrong_with_the_options_is_said_at_once_with_the_nearest_name(
    call: Call, tmp_path: Path
) -> None:
    result = call("command=bench", "bench.partitons=2", "bench.runs=0", "bench.block_size=[4Mb,1zB]")
    assert result.code == 2
    assert result.err[0].endswith("unknown key 'partitons' in 'bench'; did you mean 'partitions'?")
    assert result.err[1] == "override 'bench.runs=0': 'bench.runs' has 0, expected at least 1"
    assert result.err[2].startswith("override 'bench.block_size=[4Mb,1zB]': '1zB' is not a size")
    assert result.err[3] == "3 problems"
    result = call("bench.runs=1")
    assert result.err == [
        "override 'bench.runs=1': 'bench.runs' is an option of command=bench, not of run; add command=bench"
    ]


@pytest.mark.parametrize("text", ["0", "-1"])
def test_no_records_and_no_seconds_are_refused(text: str) -> None:
    with pytest.raises(Problems) as caught:
        bench_options({"bench.records": text, "bench.seconds": text, "bench.partitions": f"[{text}]"})
    assert [error.where.key for error in caught.value.errors if error.where] == [
        f"override 'bench.records={text}'",
        f"override 'bench.partitions=[{text}]'",
        f"override 'bench.seconds={text}'",
    ]


def test_lanes_go_up_to_twice_the_cpus_and_sizes_ascend() -> None:
    grid = settings(BenchOptions(block_size=["1MiB", "64KiB", "1MiB"]), 3)
    assert [(setting.partitions, setting.block_size) for setting in grid] == [
        (lanes, size) for lanes in (None, 1, 2, 4) for size in ("64KiB", "1MiB")
    ]


def test_the_jobs_own_affinity_is_measured_with_many_lanes_and_not_with_one() -> None:
    base = ProcessorConfig(affinity=True, partitions=8, block_records=7, key_groups=16)
    assert Setting(2, "1MiB").processor(base) == ProcessorConfig(
        "v2", 2, affinity=True, block_size="1MiB", key_groups=16
    )
    assert Setting(None, "1MiB").processor(base) == ProcessorConfig("v1", block_size="1MiB", key_groups=16)


def test_the_best_has_the_highest_median_not_the_highest_run() -> None:
    steady, lucky = Measure(Setting(1, "1MiB"), [5.0, 6.0, 6.0]), Measure(Setting(2, "1MiB"), [1.0, 5.0, 9.0])
    failed = Measure(Setting(4, "1MiB"), reason="no memory")
    assert best([failed, lucky, steady]) is steady
    assert best([failed]) is None
    assert (steady.median, lucky.spread) == (6.0, 1.6)


def test_without_any_run_there_is_no_best_and_no_plot(tmp_path: Path) -> None:
    assert save("t", [Measure(Setting(4, "1MiB"), reason="a|b")], tmp_path) == ["table.json", "table.md"]
    assert "| v2 | 4 | 1MiB |  |  |  |  |  | a/b |" in (tmp_path / "table.md").read_text()


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    measures = [
        Measure(Setting(None, "1MiB"), [1.0, 2.0]),
        Measure(Setting(2, "4MiB"), [3.0]),
        Measure(Setting(4, "4MiB"), reason="x"),
    ]
    plot("title", measures, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
