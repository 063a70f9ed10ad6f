"""The headline query as a whole process, start-up included: `python run.py` against Python with DuckDB."""

from __future__ import annotations

import sys

from benchmarks.data import trades
from benchmarks.harness import Contender, Figure, Target, compare, entry
from benchmarks.process import job_command, watch
from benchmarks.tumble import result_path, same_rows

TITLE = "the same as a whole process, from its start to its exit, timed from outside"
CONTENDERS = (
    Contender("python with DuckDB, 1 thread", "duckdb", needs="duckdb"),
    Contender("python run.py, v1", "v1"),
    Contender("python run.py, v2, 2 partitions, affinity", "v2:2:affinity"),
)
TARGETS = (
    Target("run.py v1 < DuckDB's process, wall time", "v1", over="duckdb", figure="seconds", at_most=1),
)
DUCKDB = "import sys; from benchmarks.peers.duckdb import run; run(sys.argv[1], sys.argv[2], 1)"


def main(records: int) -> None:
    trades(records)
    base = result_path("whole_process", "duckdb", records)
    compare(
        "whole_process",
        TITLE,
        records,
        CONTENDERS,
        lambda contender: same_rows(
            base, result_path("whole_process", contender.argument, records), contender.name
        ),
        targets=TARGETS,
        figures=(Figure("seconds", "s wall time", 3),),
    )


def run(argument: str, records: int) -> float:
    """Seconds of the process."""
    path, result = trades(records), result_path("whole_process", argument, records)
    if argument == "duckdb":
        return watch([sys.executable, "-c", DUCKDB, str(path), str(result)]).seconds
    return watch(job_command("tumble", path, result, argument)).seconds


if __name__ == "__main__":
    entry(run, main, 10_000_000)
