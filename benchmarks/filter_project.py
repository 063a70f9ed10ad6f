"""NDJSON to a filter that keeps about half of the rows, and a computed column, to NDJSON.

Nothing is kept between rows: what is measured is decoding, an expression, a condition, and encoding.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.data import trades
from benchmarks.harness import Contender, Target, compare, entry
from benchmarks.tumble import COLUMNS, result_path

SCENARIO = "filter_project"
TITLE = "NDJSON to filter and computed column, to NDJSON"
CONTENDERS = (
    Contender("DuckDB, 1 thread", "duckdb:1", needs="duckdb"),
    Contender("velostream v1", "v1"),
    Contender("velostream v2, 2 partitions, affinity", "v2:2:affinity"),
)
TARGETS = (Target("v1 ≥ 2.5x DuckDB on 1 thread", "v1", over="duckdb:1", at_least=2.5),)
QUERY = """
SELECT symbol, price, quantity, price * quantity AS notional, {ts} AS ts
FROM {trades} WHERE quantity > 500 AND symbol <> 'SYM007'
"""


def main(records: int) -> None:
    def check(contender: Contender) -> None:
        base = result_path(SCENARIO, CONTENDERS[0].argument, records)
        same_rows(base, result_path(SCENARIO, contender.argument, records), contender.name)

    trades(records)
    compare(SCENARIO, TITLE, records, CONTENDERS, check, targets=TARGETS)


def same_rows(base: Path, other: Path, name: str) -> None:
    """Raises SystemExit unless both have the same rows, each as often, every value the same."""
    import duckdb

    [(rows, others, wrong)] = duckdb.sql(
        f"""
        WITH base AS (FROM {_rows(base)}), other AS (FROM {_rows(other)})
        SELECT (SELECT count(*) FROM base), (SELECT count(*) FROM other),
               (SELECT count(*) FROM (FROM base EXCEPT ALL FROM other))
        """
    ).fetchall()
    if not rows or rows != others or wrong:
        raise SystemExit(f"{name} gives other rows than the base: {others} for {rows}, {wrong} are missing")


def _rows(path: Path) -> str:
    columns = "symbol: 'VARCHAR', price: 'DOUBLE', quantity: 'BIGINT', notional: 'DOUBLE', ts: 'TIMESTAMP'"
    return f"read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})"


def run(argument: str, records: int) -> float:
    """One contender, once; seconds from the first block read to the last row written."""
    path, result = trades(records), result_path(SCENARIO, argument, records)
    result.unlink(missing_ok=True)  # giving back the former one's pages is no part of a run
    engine, _, threads = argument.partition(":")
    return (
        run_duckdb(path, result, int(threads))
        if engine == "duckdb"
        else run_velostream(path, result, argument)
    )


def run_duckdb(path: Path, result: Path, threads: int) -> float:
    """Types declared, so that nothing is inferred; columns that are not named are skipped while parsing."""
    import duckdb

    connection = duckdb.connect(config={"threads": threads})
    columns = ", ".join(f"{name}: '{'BIGINT' if name == 'ts' else kind}'" for name, kind in COLUMNS.items())
    table = f"read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})"
    query = QUERY.format(ts="make_timestamp(ts * 1000)", trades=table)
    begun = time.perf_counter()
    connection.sql(f"COPY ({query}) TO '{result}' (FORMAT json)")
    return time.perf_counter() - begun


def run_velostream(path: Path, result: Path, processor: str) -> float:
    """Raises SystemExit when the job does not complete."""
    import velostream

    report = velostream.run(
        {
            "name": SCENARIO,
            "sql": QUERY.format(ts="ts", trades="trades"),
            "sources": {"trades": {"kind": "file", "path": str(path), "schema": COLUMNS}},
            "sinks": {"result": {"kind": "file", "path": str(result)}},
            "processor": processor,
        }
    )
    if report.state != "completed":
        raise SystemExit(report.error)
    return float(report.seconds)


if __name__ == "__main__":
    entry(run, main, 10_000_000)
