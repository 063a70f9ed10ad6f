"""The headline query: count, sum, mean, minimum and maximum per symbol and minute.

Each engine's own form of it stands in `benchmarks/peers`.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.data import FOLDER

COLUMNS = {"symbol": "VARCHAR", "price": "DOUBLE", "quantity": "BIGINT", "ts": "TIMESTAMP"}
QUERY = """
SELECT symbol, _window_start, COUNT(*) AS n, SUM(quantity) AS quantity, AVG(price) AS mean,
       MIN(price) AS low, MAX(price) AS high
FROM trades GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '60' SECOND)
"""


def result_path(scenario: str, argument: str, records: int) -> Path:
    """Where a contender of a scenario leaves its rows."""
    return FOLDER / f"{scenario}-{argument.replace(':', '-').replace('/', '-')}-{records}.ndjson"


def same_rows(base: Path, other: Path, name: str) -> None:
    """Raises SystemExit unless the rows are the same: integers and text exactly, means within 1e-12."""
    import duckdb

    [(rows, same)] = duckdb.sql(
        f"""
        SELECT count(*), count(*) FILTER (
            a.n = b.n AND a.quantity = b.quantity AND a.low = b.low AND a.high = b.high
            AND abs(a.mean - b.mean) <= 1e-12 * abs(a.mean))
        FROM {_rows(base)} a FULL JOIN {_rows(other)} b USING (symbol, _window_start, time)
        """
    ).fetchall()
    if rows != same or not rows:
        raise SystemExit(f"{name} gives other rows than the base: {same} of {rows} are the same")


def _rows(path: Path) -> str:
    """The rows of a result, window starts as TIMESTAMP, be they written as text or milliseconds.

    `time` is 1 where a symbol and window come the first time, so that a row given twice is a row too many.
    """
    return f"""(
        SELECT row_number() OVER (PARTITION BY symbol, _window_start) AS time, * REPLACE (coalesce(
            make_timestamp(TRY_CAST(_window_start AS BIGINT) * 1000), TRY_CAST(_window_start AS TIMESTAMP)
        ) AS _window_start)
        FROM read_json('{path}', format = 'newline_delimited', columns = {{
            symbol: 'VARCHAR', _window_start: 'VARCHAR', n: 'BIGINT', quantity: 'BIGINT',
            mean: 'DOUBLE', low: 'DOUBLE', high: 'DOUBLE'
        }}))"""
