"""Peak resident memory of the whole process over 1 GB of input."""

from __future__ import annotations

import sys

from benchmarks.data import trades
from benchmarks.harness import Contender, Figure, Target, compare, entry
from benchmarks.process import job_command, watch
from benchmarks.tumble import result_path, same_rows
from benchmarks.whole_process import DUCKDB

TITLE = "peak resident memory of the process, headline query"
CONTENDERS = (
    Contender("python with DuckDB, 1 thread", "duckdb", needs="duckdb"),
    Contender("python run.py, v1", "v1"),
    Contender("python run.py, v2, 2 partitions", "v2:2"),
)
TARGETS = (
    Target("v1 ≤ 250 MiB", "v1", figure="peak_mib", at_most=250),
    Target("v2:2 ≤ 350 MiB", "v2:2", figure="peak_mib", at_most=350),
)


def main(records: int) -> None:
    trades(records)
    base = result_path("memory", "duckdb", records)
    compare(
        "memory",
        TITLE,
        records,
        CONTENDERS,
        lambda contender: same_rows(base, result_path("memory", contender.argument, records), contender.name),
        targets=TARGETS,
        figures=(Figure("peak_mib", "MiB at most"),),
    )


def run(argument: str, records: int) -> dict[str, float]:
    """The kernel's count of the process's highest resident memory."""
    path, result = trades(records), result_path("memory", argument, records)
    if argument == "duckdb":
        command = [sys.executable, "-c", DUCKDB, str(path), str(result)]
    else:
        command = job_command("tumble", path, result, argument)
    ended = watch(command)
    return {"seconds": ended.seconds, "peak_mib": ended.peak_mib}


if __name__ == "__main__":
    entry(run, main, 11_500_000)
