"""`command=savepoint` and `command=state`, and what `state=` and `delivery=` come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import Result, Runtime

from velostream.operators.saving import Changes
from velostream.state.manifest import Epoch, read_manifest
from velostream.state.store import StateStore

Call = Callable[..., Result]


@pytest.fixture
def store(runtime: Runtime, tmp_path: Path) -> StateStore:
    """The state of the job `flights`, which is running."""
    store = StateStore(tmp_path / "outputs" / "state" / "flights", "flights")
    store.open()
    batch = pa.record_batch({"key": pa.array(range(1500))})
    for number in (1, 2):
        positions = {"flights": {"flights.csv": 12_345 * number, "more.csv": 7}}
        lanes: list[Changes | None] = [Changes({"groups": batch}, {}, number == 1), None]
        store.commit(Epoch(number, positions, {}, {"departures": lanes}, {}, {}))
    return store


def test_state_is_shown_while_the_job_runs(store: StateStore, call: Call) -> None:
    result = call("command=state")
    assert (result.code, result.err) == (0, [])
    head, *lines = result.out
    assert head.startswith("flights: epoch 2 of 20") and head.endswith(" KiB in outputs/state/flights")
    assert lines[:4] == [
        "source   partition    next offset",
        "flights  flights.csv  24,690",
        "flights  more.csv     7",
        "stage       rows saved  bytes",
    ]
    assert lines[4].startswith("departures  3,000 ")


def test_a_savepoint_is_taken_while_the_job_runs_and_says_how_to_start(
    store: StateStore, call: Call, tmp_path: Path
) -> None:
    result = call("command=savepoint")
    assert (result.code, result.err) == (0, [])
    [folder] = (tmp_path / "outputs" / "savepoints" / "flights").iterdir()
    assert result.out[0].startswith("savepoint of flights: epoch 2 of 20")
    assert result.out[0].split(", ")[1] == "2 files"
    assert result.out[1] == f"  start from it with state=outputs/savepoints/flights/{folder.name}"
    manifest = read_manifest(folder)
    assert manifest is not None and manifest.number == 2
    again = call("command=savepoint", "savepoint.path=my savepoint")
    assert again.out[1] == "  start from it with state='my savepoint'"
    assert call("command=savepoint", "savepoint.path=my savepoint").err == [
        "'my savepoint' is there already; give a savepoint a new folder"
    ]


def test_a_job_that_has_saved_nothing_is_said(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    for command in ("state", "savepoint"):
        result = call(f"command={command}")
        assert (result.code, result.err) == (2, ["there is no saved state in 'outputs/state/flights'"])
    assert list(tmp_path.iterdir()) == []


def test_an_option_of_savepoint_that_is_misspelt_is_said(runtime: Runtime, call: Call) -> None:
    assert call("command=savepoint", "savepoint.pth=x").err == [
        "unknown key 'savepoint.pth'; did you mean 'savepoint.path'?"
    ]


def test_the_state_of_a_job_has_one_folder_for_all_its_runs(
    runtime: Runtime, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "point").mkdir()
    call()
    call("state=reset", "name=other")
    call("state=point", "state.path=mine", "state.memory_limit=1GiB", "delivery=at_least_once")
    assert [(job.state.path, job.state.start, job.delivery.guarantee) for job in runtime.run] == [
        (str(tmp_path / "outputs/state/flights"), "resume", "exactly_once"),
        (str(tmp_path / "outputs/state/other"), "reset", "exactly_once"),
        (str(tmp_path / "mine"), str(tmp_path / "point"), "at_least_once"),
    ]


def test_runs_of_a_sweep_share_no_state(runtime: Runtime, call: Call) -> None:
    call("-m", "processor=v1,v2")
    paths = [Path(job.state.path) for job in runtime.run]
    assert [path.relative_to(Path(job.output_dir)) for path, job in zip(paths, runtime.run, strict=True)] == [
        Path("state"),
        Path("state"),
    ]
    assert len(set(paths)) == 2


def test_a_bare_query_saves_nothing(runtime: Runtime, call: Call) -> None:
    call("SELECT a FROM 'x.csv'")
    assert [job.state.path for job in runtime.run] == [""]
    assert call("SELECT a FROM 'x.csv'", "state=reset").err == [
        "override 'state=reset': the job has no folder to save its state in; set state.path"
    ]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["state=rest"], "override 'state=rest': there is no savepoint 'rest'; did you mean 'reset'?"),
        (
            ["state=a/b"],
            "override 'state=a/b': there is no savepoint 'a/b'; expected 'resume', 'reset' or a savepoint",
        ),
        (
            ["state=reset", "delivery=best_effort"],
            "override 'state=reset': delivery=best_effort saves no state and starts from none; "
            "use delivery=at_least_once or exactly_once, or leave state.start out",
        ),
        (
            ["delivery=exactly_onec"],
            "override 'delivery=exactly_onec': unknown delivery 'exactly_onec'; did you mean 'exactly_once'? "
            "(options: 'at_least_once', 'best_effort', 'exactly_once')",
        ),
        (
            ["delivery=best_effort", "delivery.interval=1s"],
            "override 'delivery.interval=1s': delivery=best_effort commits nothing; "
            "use delivery=at_least_once or exactly_once, or leave delivery.interval out",
        ),
        (
            ["delivery.interval=10us"],
            "override 'delivery.interval=10us': 'delivery.interval' is 10us, expected at least 1ms",
        ),
        (
            ["delivery.interval=1"],
            "override 'delivery.interval=1': 'delivery.interval': '1' is not a duration; "
            "write a number with a unit: 200ms, 10s, 5m, 1h30m, 1d",
        ),
        (
            ["delivery.guarantee=twice"],
            "override 'delivery.guarantee=twice': 'delivery.guarantee' cannot be 'twice'; "
            "expected one of 'best_effort', 'at_least_once', 'exactly_once'",
        ),
        (
            ["state.memory_limit=lots"],
            "override 'state.memory_limit=lots': 'state.memory_limit': 'lots' is not a size; "
            "write a number with a unit: 64KiB, 4MiB, 1GB",
        ),
        (
            ["state.memory_limit=0"],
            "override 'state.memory_limit=0': 'state.memory_limit' is 0, expected at least 1",
        ),
    ],
)
def test_a_mistake_is_said_at_what_was_typed(
    runtime: Runtime, call: Call, overrides: list[str], problem: str
) -> None:
    result = call(*overrides)
    assert (result.code, result.err) == (2, [problem])


def test_paths_in_a_job_file_are_relative_to_it(runtime: Runtime, call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    (folder / "point").mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [{override /delivery: at_least_once}, _self_]\n"
        "sql: SELECT 1\nstate: {path: mine, start: point}\ndelivery: {interval: 5s}\n"
    )
    assert call("job=jobs/mine.yaml").code == 0
    [job] = runtime.run
    assert (job.state.path, job.state.start) == (str(folder / "mine"), str(folder / "point"))
    assert (job.delivery.guarantee, job.delivery.interval) == ("at_least_once", "5s")
