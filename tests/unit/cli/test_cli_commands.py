"""Commands as a person sees them: exit codes, lines, and what is left behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Result, Runtime

from velostream.errors import ConnectorError, Where
from velostream.runtime.failures.base import Trouble
from velostream.runtime.report import Progress

Call = Callable[..., Result]


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


INFERRED = "flights, inferred: origin VARCHAR, price DECIMAL(10, 2)"


def test_a_run_ends_with_a_summary_and_leaves_its_folder(
    runtime: Runtime, call: Call, tmp_path: Path
) -> None:
    result = call("processor=v2:2")
    [folder] = (tmp_path / "outputs" / "flights").iterdir()
    inside = f"outputs/flights/{folder.name}"
    assert (result.code, result.err) == (0, [])
    assert result.out == [
        INFERRED,
        "flights: completed in 0.50 s, processor v2:2",
        "  records   in 1,000   used 900   filtered 70   late 20   failed 10",
        "  rows out  33",
        "  rate      4,000 records/s   2.0 MiB/s read",
        "  stages    decode  0.25 s  50%",
        "  lanes     0  cpu 1  blocks 3  records 1,000  busy 0.45 s  python 2.1%",
        "  failures  flights.csv:7: not an integer: 'x'",
        f"  results   departures  33 rows  2.0 KiB  {inside}/departures.ndjson",
        f"  report    {inside}/report.json",
    ]
    assert json.loads((folder / "report.json").read_text())["records"]["late"] == 20
    assert yaml.safe_load((folder / "config.yaml").read_text())["processor"]["partitions"] == 2


def test_two_runs_of_one_second_have_two_folders(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    call()
    call()
    assert len(list((tmp_path / "outputs" / "flights").iterdir())) == 2


def test_a_job_that_fails_while_it_runs_exits_with_1(runtime: Runtime, call: Call) -> None:
    runtime.script = lambda config: {"state": "failed", "error": "flights.csv: gone"}
    result = call()
    assert result.code == 1
    assert result.out[1:3] == [
        "flights: failed in 0.50 s, processor v2:2",
        "  error     flights.csv: gone",
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_job_which_then_reports(
    runtime: Runtime, call: Call, number: signal.Signals, code: int
) -> None:
    runtime.signals = (number,)
    runtime.script = lambda config: {"open_windows": 12}
    result = call()
    assert (result.code, runtime.calls) == (code, [f"stop {number.name}"])
    assert result.out[1] == "flights: interrupted in 0.50 s, processor v2:2"
    assert "  open      12 windows, not emitted" in result.out


def test_a_second_signal_aborts(runtime: Runtime, call: Call) -> None:
    runtime.signals = (signal.SIGINT, signal.SIGTERM, signal.SIGINT)
    assert (call().code, runtime.calls) == (130, ["stop SIGINT", "abort"])


def test_handlers_are_what_they_were_after_a_run(runtime: Runtime, call: Call) -> None:
    before = signal.getsignal(signal.SIGINT)
    call()
    assert signal.getsignal(signal.SIGINT) is before


def test_piped_progress_is_a_line_each_five_seconds(runtime: Runtime, call: Call) -> None:
    runtime.progress = tuple(Progress(1000 * at, 100 * at, 2000, 2 * at, float(at)) for at in range(1, 12))
    assert call().out[:3] == [
        INFERRED,
        "flights: 5,000 records (25%), 10 rows out, 1,000 records/s, 5.00 s",
        "flights: 10,000 records (50%), 20 rows out, 1,000 records/s, 10.0 s",
    ]
    assert call("observability=quiet").out[1].startswith("flights: completed")


def test_what_fails_is_said_at_once_and_with_each_line_until_it_works_again(
    runtime: Runtime, call: Call
) -> None:
    since = datetime(2026, 11, 24, 12, 0, 1).timestamp()
    failing = [[Trouble("sink 'out'", since, tries, "not now")] for tries in (1, 2, 3)]
    seen = [(0.0, []), (0.0, failing[0]), (1.0, failing[1]), (5.0, failing[2]), (5.5, [])]
    runtime.progress = tuple(Progress(10, 0, None, 2, at, troubles) for at, troubles in seen)
    assert call().out[1:5] == [
        "flights: sink 'out' fails since 2026-11-24 12:00:01 (1 try): not now",
        "flights: sink 'out' fails since 2026-11-24 12:00:01 (3 tries): not now",
        "flights: 10 records, 2 rows out, 2 records/s, 5.00 s",
        "flights: sink 'out' works again",
    ]


def test_the_summary_says_what_was_given_up(runtime: Runtime, call: Call) -> None:
    since = datetime(2026, 11, 24, 12, 0, 1).timestamp()
    trouble = asdict(Trouble("the state", since, 11, "the disk is full", given_up=True))
    runtime.script = lambda config: {"state": "failed", "error": "no", "troubles": [trouble]}
    line = "  trouble   the state fails since 2026-11-24 12:00:01 (given up after 11 tries): the disk is full"
    assert line in call().out


def test_results_on_standard_output_are_alone_there(runtime: Runtime, call: Call) -> None:
    result = call("sink=console")
    assert result.out == []
    assert result.err[1] == "flights: completed in 0.50 s, processor v2:2"


def test_a_bare_query_reads_the_files_it_names_and_writes_none(
    runtime: Runtime, call: Call, tmp_path: Path
) -> None:
    sql = "SELECT carrier, COUNT(*) AS n FROM 'data/flights.csv' GROUP BY carrier"
    result = call(sql, "processor=v2:3")
    assert result.code == 0
    [job] = runtime.run
    assert (job.sql, job.name, job.output_dir, job.processor.partitions) == (sql, "query", "", 3)
    assert [source.path for source in job.sources.values()] == [str(tmp_path / "data/flights.csv")]
    assert [sink.kind for sink in job.sinks.values()] == ["console"]
    assert _files(tmp_path) == []


def test_a_bare_query_with_a_mistake_shows_it(runtime: Runtime, call: Call) -> None:
    result = call("SELECT FROM 'x.csv'")
    assert result.code == 2
    assert result.err[0].startswith("query:1:8: ")


def test_a_file_that_a_bare_query_misses_is_underlined_in_it(runtime: Runtime, call: Call) -> None:
    runtime.prepare_error = ConnectorError("no file 'x.csv'", where=Where(key="sources.x.path"))
    assert call("SELECT a FROM 'x.csv'").err == [
        "query:1:15: no file 'x.csv'",
        "  1 | SELECT a FROM 'x.csv'",
        "                    ^^^^^^^",
    ]


def test_validate_prints_the_schema_and_leaves_nothing(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    result = call("command=validate")
    assert (result.code, result.err) == (0, [])
    assert result.out == [
        "ok  job flights",
        "ok  source flights: 2 columns, inferred",
        "      origin  VARCHAR",
        "      price   DECIMAL(10, 2)",
        "ok  sink departures takes departures",
    ]
    assert (runtime.run, _files(tmp_path)) == ([], [])


def test_validate_writes_the_schema_as_a_job_takes_it(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    call("command=validate", "write_schema=schema.yaml")
    assert yaml.safe_load((tmp_path / "schema.yaml").read_text()) == {
        "sources": {"flights": {"schema": {"origin": "VARCHAR", "price": "DECIMAL(10, 2)"}}}
    }
    assert call("command=validate", "write_schema=no/such/x.yaml").err == [
        "cannot write 'no/such/x.yaml': No such file or directory"
    ]


def test_explain_prints_the_plan_and_leaves_nothing(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    assert call("command=explain").out == ["stage 1: scan flights"]
    assert json.loads("\n".join(call("command=explain", "format=json").out)) == {"stages": []}
    assert call("command=explain", "format=jsn").err == [
        "override 'format=jsn': unknown format 'jsn'; did you mean 'json'?"
    ]
    assert _files(tmp_path) == []


@pytest.mark.parametrize("command", ["run", "validate", "explain"])
def test_wrong_input_exits_with_2_and_leaves_nothing(
    runtime: Runtime, call: Call, tmp_path: Path, command: str
) -> None:
    result = call(f"command={command}", "procesor=v1", "processor.partitons=2")
    assert (result.code, result.out) == (2, [])
    assert result.err == [
        "override 'processor.partitons=2': unknown key 'partitons' in 'processor'; "
        "did you mean 'partitions'?",
        "override 'procesor=v1': unknown key 'procesor'; did you mean 'processor'?",
        "2 problems",
    ]
    assert _files(tmp_path) == []


def test_what_preparing_finds_gets_the_place_of_its_key(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("sql: SELECT 1\nsources:\n  t: {kind: file, path: gone.csv}\n")
    runtime.prepare_error = ConnectorError("no file 'gone.csv'", where=Where(key="sources.t.path"))
    assert call("job=mine.yaml").err == [
        "mine.yaml:3:19: no file 'gone.csv'",
        "  3 |   t: {kind: file, path: gone.csv}",
        "                        ^^^^",
    ]
    assert _files(tmp_path) == ["mine.yaml"]


def test_an_internal_defect_keeps_its_traceback_in_a_file(
    runtime: Runtime, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(config: Any) -> dict[str, Any]:
        raise ZeroDivisionError("of ours")

    runtime.script = broken
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = call()
    assert result.code == 1
    assert result.err[0] == "velostream: internal error: ZeroDivisionError: of ours"
    file = Path(result.err[1].removeprefix("the traceback is in ").removesuffix("; --debug shows it"))
    assert "Traceback" in file.read_text()
    assert any("Traceback" in line for line in call("--debug").err)


def test_help_lists_what_the_registries_and_groups_have(call: Call, runtime: Runtime) -> None:
    out = "\n".join(call("--help").out)
    for word in ("validate", "write_schema=", "send_to_dlq", "flights", "generator", "--config-dir", "tune"):
        assert word in out
    assert call("--version").out == ["velostream 0.1.0"]


def test_replay_needs_a_file_of_dead_letters(runtime: Runtime, call: Call) -> None:
    assert call("command=replay").err == ["command=replay needs the file of dead letters; add dlq=FILE"]
    assert call("command=replay", "dlq=no.ndjson").err == ["there is no file 'no.ndjson'"]
