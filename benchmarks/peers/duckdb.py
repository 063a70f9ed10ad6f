"""DuckDB: one statement, types declared so that nothing is inferred, the number of threads given."""

from __future__ import annotations

import time
from pathlib import Path

# Of every column that the query reads; those not named are skipped while parsing.
COLUMNS = "{symbol: 'VARCHAR', price: 'DOUBLE', quantity: 'BIGINT', ts: 'BIGINT'}"


def run(path: Path, result: Path, threads: int) -> float:
    import duckdb

    connection = duckdb.connect(config={"threads": threads})
    begun = time.perf_counter()
    connection.sql(
        f"""
        COPY (
            SELECT symbol, make_timestamp(ts // 60000 * 60000000) AS _window_start, count(*) AS n,
                   sum(quantity)::BIGINT AS quantity, avg(price) AS mean,
                   min(price) AS low, max(price) AS high
            FROM read_json('{path}', format = 'newline_delimited', columns = {COLUMNS})
            GROUP BY ALL
        ) TO '{result}' (FORMAT json)
        """
    )
    return time.perf_counter() - begun
