"""`make bench` (all scenarios), `make bench ONLY=gzip,memory`, `RUNS=1 RECORDS=100000` to shrink."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import harness
from benchmarks.data import FOLDER
from benchmarks.machine import machine
from benchmarks.plot import plot
from benchmarks.table import from_json, markdown, show, to_json, write

# Each with the number of records that its targets are stated for.
SCENARIOS = {
    "ndjson_tumble": 10_000_000,
    "json_decode": 10_000_000,
    "csv_decode": 2_000_000,
    "filter_project": 10_000_000,
    "group_by_keys": 20_000_000,
    "skewed_keys": 10_000_000,
    "whole_process": 10_000_000,
    "start_up": 100_000,
    "gzip": 10_000_000,
    "memory": 11_500_000,
    "latency": 1_000_000,
    "python_share": 10_000_000,
    "kafka_tumble": 3_000_000,
    "kafka_filter": 3_000_000,
    "kafka_latency": 100_000,
    "restart": 1_000_000,
    "commits": 26_000_000,
    "kafka_workers": 1_000_000,
}
README = Path(__file__).with_name("README.md")
MARKERS = "<!-- last table -->", "<!-- end of last table -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help="scenarios, separated by commas")
    parser.add_argument("--runs", type=int, default=harness.RUNS)
    parser.add_argument("--records", type=int, help="in place of each scenario's own number")
    parser.add_argument("--readme", action="store_true", help="only put the last table into the README")
    given = parser.parse_args()
    if given.readme:
        put_into_readme(README, (FOLDER / "table.md").read_text(encoding="utf-8"))
        return 0
    names = [name.strip() for name in given.only.split(",") if name.strip()] or list(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario '{unknown[0]}'; there are {', '.join(SCENARIOS)}")
    # A shrunk run must not take the place of a figure that counts.
    whole = given.records is None and given.runs >= harness.RUNS
    folder = FOLDER if whole else FOLDER / "shrunk"
    (folder / "results").mkdir(parents=True, exist_ok=True)
    harness.session.runs = given.runs
    failed = [name for name in names if not run(name, given.records or SCENARIOS[name], folder)]
    tabulate(folder)
    if failed:
        Console(stderr=True).print(f"failed: {', '.join(failed)}", style="red", highlight=False)
    return 1 if failed else 0


def run(name: str, records: int, folder: Path) -> bool:
    """Compare in one scenario and keep its results; False when it failed, which is said."""
    kept = folder / "results" / f"{name}.json"
    kept.unlink(missing_ok=True)
    finished = harness.session.finished
    finished.clear()
    try:
        importlib.import_module(f"benchmarks.{name}").main(records)
    except SystemExit as error:
        Console(stderr=True).print(f"{name}: {error}", style="red", highlight=False, markup=False)
        return False
    facts = machine()
    write(kept, [to_json(comparison, facts) for comparison in finished])
    for number, comparison in enumerate(finished):
        plot(comparison, facts, folder / f"{name}{f'-{number + 1}' if number else ''}.png")
    return True


def tabulate(folder: Path) -> None:
    """Show and write one table of the last result of every scenario that has one."""
    files = [folder / "results" / f"{name}.json" for name in SCENARIOS]
    saved = [each for path in files if path.exists() for each in json.loads(path.read_text("utf-8"))]
    comparisons = [from_json(each) for each in saved]
    # A table is unreadable in the 80 columns that a pipe is taken for.
    show(Console() if sys.stdout.isatty() else Console(width=130), comparisons)
    write(folder / "table.json", saved)
    # Runs of different days or commits stand in tables of their own.
    machines = {json.dumps(each["machine"]): each["machine"] for each in saved}
    texts = []
    for key, facts in machines.items():
        of_one = [
            comparison
            for comparison, each in zip(comparisons, saved, strict=True)
            if json.dumps(each["machine"]) == key
        ]
        texts.append(markdown(of_one, facts))
    (folder / "table.md").write_text("\n".join(texts), encoding="utf-8")


def put_into_readme(readme: Path, table: str) -> None:
    """Put `table` between the markers."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKERS[0])
    after = rest.partition(MARKERS[1])[2]
    readme.write_text(f"{before}{MARKERS[0]}\n\n{table}\n{MARKERS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
