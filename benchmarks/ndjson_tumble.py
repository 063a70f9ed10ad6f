"""NDJSON file to a 60 s tumbling window per symbol (count, sum, avg, min, max) to NDJSON, in every engine."""

from __future__ import annotations

from benchmarks import peers
from benchmarks.data import trades
from benchmarks.harness import Contender, Target, compare, entry
from benchmarks.tumble import result_path, same_rows

TITLE = "NDJSON to 60 s tumbling window per symbol, to NDJSON"
CONTENDERS = (
    Contender("DuckDB, 1 thread", "duckdb:1", needs="duckdb"),
    Contender("DuckDB, 2 threads", "duckdb:2", needs="duckdb"),
    Contender("Polars, 1 thread", "polars:1", needs="polars"),
    Contender("pyclink", "pyclink", needs="pyclink"),
    Contender("Bytewax", "bytewax", needs="bytewax", at_most=1_000_000),
    Contender("stock Faust", "faust", needs="orjson", at_most=50_000),
    Contender("velostream v1", "v1"),
    Contender("velostream v2, 1 partition", "v2:1"),
    Contender("velostream v2, 2 partitions, affinity", "v2:2:affinity"),
    Contender("velostream v2, 4 partitions", "v2:4"),
    Contender("velostream v2, 8 partitions", "v2:8"),
)
TARGETS = (
    Target("v1 ≥ 2.5x DuckDB on 1 thread", "v1", over="duckdb:1", at_least=2.5),
    Target("v1 ≥ 7x pyclink", "v1", over="pyclink", at_least=7),
    Target("v1 ≥ 500x stock Faust", "v1", over="faust", at_least=500),
    Target("v2:2:affinity ≥ 1.9x v1", "v2:2:affinity", over="v1", at_least=1.9),
    Target("v2:2:affinity ≥ 2x DuckDB on 2 threads", "v2:2:affinity", over="duckdb:2", at_least=2),
    Target("v2:8 ≥ 0.9x v2:2:affinity", "v2:8", over="v2:2:affinity", at_least=0.9),
)


def main(records: int) -> None:
    def check(contender: Contender) -> None:
        given = contender.records(records)
        base = result_path("ndjson_tumble", CONTENDERS[0].argument, given)
        same_rows(base, result_path("ndjson_tumble", contender.argument, given), contender.name)

    trades(records)
    compare("ndjson_tumble", TITLE, records, CONTENDERS, check, targets=TARGETS)


def run(argument: str, records: int) -> float:
    """One contender, once; seconds from the first block read to the last row written."""
    return peers.run(argument, trades(records), result_path("ndjson_tumble", argument, records), records)


if __name__ == "__main__":
    entry(run, main, 10_000_000)
