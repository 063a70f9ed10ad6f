"""NDJSON file to a 60 s tumbling window per symbol (count, sum, avg, min, max) to NDJSON.

DuckDB gets the types declared (no inference), one thread, and writes NDJSON too.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.data import FOLDER, trades
from benchmarks.harness import Contender, compare

TITLE = "NDJSON to 60 s tumbling window per symbol"
COLUMNS = {"symbol": "VARCHAR", "price": "DOUBLE", "quantity": "BIGINT", "ts": "TIMESTAMP"}
QUERY = """
SELECT symbol, _window_start, COUNT(*) AS n, SUM(quantity) AS quantity, AVG(price) AS mean,
       MIN(price) AS low, MAX(price) AS high
FROM trades GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '60' SECOND)
"""
CONTENDERS = (
    Contender("DuckDB, 1 thread", "duckdb"),
    Contender("velostream v1", "v1"),
    Contender("velostream v2, 1 partition", "v2:1"),
    Contender("velostream v2, 2 partitions, affinity", "v2:2:affinity"),
    Contender("velostream v2, 4 partitions", "v2:4"),
)


def main(records: int) -> None:
    trades(records)
    compare("ndjson_tumble", TITLE, records, CONTENDERS, check)


def check(contender: Contender) -> None:
    """The rows are DuckDB's: integers and text exactly, means within 1e-12."""
    import duckdb

    base, other = _result("duckdb"), _result(contender.argument)
    [(rows, same)] = duckdb.sql(
        f"""
        SELECT count(*), count(*) FILTER (
            a.n = b.n AND a.quantity = b.quantity AND a.low = b.low AND a.high = b.high
            AND abs(a.mean - b.mean) <= 1e-12 * abs(a.mean))
        FROM read_json('{base}') a FULL JOIN read_json('{other}') b
          ON a.symbol = b.symbol AND a._window_start::TIMESTAMP = b._window_start::TIMESTAMP
        """
    ).fetchall()
    if rows != same or not rows:
        raise SystemExit(f"{contender.name} gives other rows than DuckDB: {same} of {rows} are the same")


def _result(argument: str) -> Path:
    return FOLDER / f"ndjson_tumble-{argument.replace(':', '-')}.ndjson"


def run(argument: str, records: int) -> float:
    """One contender, once; seconds from the first block read to the last row written."""
    path, result = trades(records), _result(argument)
    return run_duckdb(path, result) if argument == "duckdb" else run_velostream(argument, path, result)


def run_duckdb(path: Path, result: Path) -> float:
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    columns = ", ".join(f"{name}: '{'BIGINT' if name == 'ts' else kind}'" for name, kind in COLUMNS.items())
    begun = time.perf_counter()
    connection.sql(
        f"""
        COPY (
            SELECT symbol, make_timestamp(ts // 60000 * 60000000) AS _window_start, count(*) AS n,
                   sum(quantity)::BIGINT AS quantity, avg(price) AS mean,
                   min(price) AS low, max(price) AS high
            FROM read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})
            GROUP BY ALL
        ) TO '{result}' (FORMAT json)
        """
    )
    return time.perf_counter() - begun


def run_velostream(processor: str, path: Path, result: Path) -> float:
    import velostream

    report = velostream.run(
        {
            "name": "ndjson_tumble",
            "sql": QUERY,
            "sources": {"trades": {"kind": "file", "path": str(path), "schema": COLUMNS}},
            "sinks": {"result": {"kind": "file", "path": str(result)}},
            "processor": processor,
        }
    )
    if report.state != "completed":
        raise SystemExit(report.error)
    return report.seconds


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps({"seconds": run(sys.argv[1], int(sys.argv[2]))}))
    else:
        main(10_000_000)
