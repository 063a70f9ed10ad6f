"""One gzip file, which cannot be split: does a second lane help while the first unpacks?"""

from __future__ import annotations

from benchmarks import peers
from benchmarks.data import gzipped, trades
from benchmarks.harness import Contender, Target, compare, entry
from benchmarks.tumble import result_path, same_rows

TITLE = "the headline query over one gzip file"
CONTENDERS = (
    Contender("DuckDB, 1 thread", "duckdb:1", needs="duckdb"),
    Contender("DuckDB, 2 threads", "duckdb:2", needs="duckdb"),
    Contender("velostream v1", "v1"),
    Contender("velostream v2, 2 partitions", "v2:2"),
)
TARGETS = (Target("v2:2 ≥ 1.3x v1", "v2:2", over="v1", at_least=1.3),)


def main(records: int) -> None:
    gzipped(trades(records))
    base = result_path("gzip", CONTENDERS[0].argument, records)
    compare(
        "gzip",
        TITLE,
        records,
        CONTENDERS,
        lambda contender: same_rows(base, result_path("gzip", contender.argument, records), contender.name),
        targets=TARGETS,
    )


def run(argument: str, records: int) -> float:
    """Seconds from the first block read to the last row written."""
    return peers.run(argument, gzipped(trades(records)), result_path("gzip", argument, records), records)


if __name__ == "__main__":
    entry(run, main, 10_000_000)
