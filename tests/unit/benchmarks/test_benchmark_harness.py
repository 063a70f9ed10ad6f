"""What the benchmark says of figures: medians, ratios, verdicts, and when none counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import harness
from benchmarks.harness import RATE, Comparison, Contender, Outcome, Target, compare, require
from benchmarks.table import from_json, markdown, result_rows, target_rows, to_json
from benchmarks.tumble import same_rows

BASE = Contender("base", "base")
OTHER = Contender("other", "other", at_most=100)
FACTS = {"date": "2026-01-01", "commit": "c", "cpu": "x", "cores": "2", "kernel": "k", "python": "3"}


def outcome(contender: Contender, *rates: float) -> Outcome:
    return Outcome(contender, tuple({"seconds": 1 / rate, "rate": rate} for rate in rates))


def comparison(*targets: Target) -> Comparison:
    outcomes = outcome(BASE, 10, 30, 20), outcome(OTHER, 50, 41, 48)
    return Comparison("scenario", "a title", 1000, outcomes, targets)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What has been run, in order, in place of processes."""
    done: list[tuple[str, int]] = []

    def run_once(scenario: str, contender: Contender, records: int) -> dict[str, float]:
        done.append((contender.name, records))
        return {"seconds": 2.0, "rate": records / 2}

    monkeypatch.setattr(harness, "run_once", run_once)
    monkeypatch.setattr(harness, "session", harness.Session())
    return done


def test_a_row_has_median_range_and_ratio_to_the_first_contender() -> None:
    assert list(result_rows([comparison()])) == [
        ("scenario", "base", "records/s", "20", "10", "30", "1"),
        ("scenario", "other, first 100 records", "records/s", "48", "41", "50", "2.4"),
    ]


def test_a_ratio_of_medians_is_held_against_its_target() -> None:
    met = Target("at least 2.4x", "other", over="base", at_least=2.4)
    missed = Target("at least 2.5x", "other", over="base", at_least=2.5)
    assert [row[1:] for row in target_rows([comparison(met, missed)])] == [
        ("at least 2.4x", "2.4x", "met"),
        ("at least 2.5x", "2.4x", "missed"),
    ]


def test_a_limit_holds_for_the_median_itself() -> None:
    met = Target("20 at most", "base", figure="rate", at_most=20)
    missed = Target("19 at most", "base", figure="rate", at_most=19)
    assert [row[2:] for row in target_rows([comparison(met, missed)])] == [("20", "met"), ("20", "missed")]


def test_contenders_alternate_and_the_warm_up_does_not_count(runs: list[tuple[str, int]]) -> None:
    outcomes = compare("scenario", "a title", 60, [BASE, OTHER], lambda contender: None, runs=2)
    assert runs == [("base", 60), ("other", 60)] * 3
    assert [len(each.runs) for each in outcomes] == [2, 2]


def test_a_slow_contender_is_checked_against_the_base_on_its_prefix(runs: list[tuple[str, int]]) -> None:
    checked: list[str] = []
    compare("scenario", "a title", 1000, [BASE, OTHER], lambda each: checked.append(each.name), runs=1)
    assert runs == [("base", 1000), ("base", 100), ("other", 100), ("base", 1000), ("other", 100)]
    assert checked == ["base", "other"]


def test_no_figure_counts_when_results_differ(runs: list[tuple[str, int]]) -> None:
    def check(contender: Contender) -> None:
        if contender is OTHER:
            raise SystemExit("other rows")

    with pytest.raises(SystemExit, match="other rows"):
        compare("scenario", "a title", 60, [BASE, OTHER], check, runs=5)
    assert harness.session.finished == []
    assert runs == [("base", 60), ("other", 60)]


def test_a_missing_package_is_an_error_that_names_the_extra() -> None:
    with pytest.raises(SystemExit, match=r"(?s)X needs the package 'no_such'.*pip install -e '\.\[bench\]'"):
        require([BASE, Contender("X", "x", needs="no_such")])


ROW = {"symbol": "A", "_window_start": "2023-11-14 22:13:00", "n": 2, "quantity": 7}
VALUES = {"mean": 1.5, "low": 1.0, "high": 2.0}


def rows_file(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("changed", [{}, {"mean": 1.5 + 1e-13}, {"_window_start": 1_699_999_980_000}])
def test_equal_rows_are_accepted_in_any_spelling(tmp_path: Path, changed: dict[str, object]) -> None:
    base = rows_file(tmp_path / "base.ndjson", ROW | VALUES)
    same_rows(base, rows_file(tmp_path / "other.ndjson", ROW | VALUES | changed), "other")


@pytest.mark.parametrize(
    "rows",
    [
        [ROW | VALUES | {"n": 3}],
        [ROW | VALUES | {"mean": 1.5 + 1e-10}],
        [ROW | VALUES | {"high": 2.0 + 1e-15}],
        [ROW | VALUES, ROW | VALUES | {"symbol": "B"}],
        [ROW | VALUES, ROW | VALUES],
        [],
    ],
    ids=["a count", "a mean", "a maximum", "one more", "twice", "none"],
)
def test_unequal_rows_are_refused(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    base = rows_file(tmp_path / "base.ndjson", ROW | VALUES)
    with pytest.raises(SystemExit, match="other rows"):
        same_rows(base, rows_file(tmp_path / "other.ndjson", *rows), "other")


def test_a_saved_comparison_gives_the_same_table() -> None:
    made = comparison(Target("at least 2x", "other", over="base", at_least=2))
    saved = json.loads(json.dumps(to_json(made, FACTS)))
    assert saved["verdicts"] == [{"measured": 2.4, "met": True}]
    assert markdown([from_json(saved)], FACTS) == markdown([made], FACTS)


def test_the_table_stands_between_the_markers_of_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    begin, end = bench.MARKERS
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    bench.put_into_readme(readme, "new")
    assert readme.read_text() == f"before\n{begin}\n\nnew\n{end}\nafter\n"


def test_every_scenario_of_make_bench_exists_and_rates_are_records_by_seconds() -> None:
    assert RATE.key == "rate"
    for name in bench.SCENARIOS:
        assert (Path(bench.__file__).parent / f"{name}.py").exists(), name
