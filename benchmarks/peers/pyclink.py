"""pyclink: streaming SQL in an embedded engine, file to file, its log off.

The file connector decodes rows on one thread, the window aggregates on another and the sink writes on a
third, so one "thread" of the others is up to three here. A parallelism of 2 adds a shuffle through which
every row passes while the one file is still read by one task: tried, and slower.
"""

from __future__ import annotations

import os
import time
from pathlib import Path


def run(path: Path, result: Path) -> float:
    os.environ["CLINK_LOG_LEVEL"] = "error"
    import pyclink

    with pyclink.Engine(parallelism=1) as engine:
        begun = time.perf_counter()
        engine.execute(
            f"""
            CREATE TABLE trades (symbol TEXT, price DOUBLE, quantity BIGINT, ts BIGINT) WITH (
                connector = 'file', format = 'json', path = '{path}',
                event_time_column = 'ts', watermark_lag_ms = '0'
            );
            CREATE TABLE result (
                symbol TEXT, _window_start BIGINT, n BIGINT, quantity BIGINT,
                mean DOUBLE, low DOUBLE, high DOUBLE
            ) WITH (connector = 'file', format = 'json', path = '{result}');
            INSERT INTO result
            SELECT symbol, window_start AS _window_start, COUNT(*) AS n, SUM(quantity) AS quantity,
                   AVG(price) AS mean, MIN(price) AS low, MAX(price) AS high
            FROM trades GROUP BY TUMBLE(ts, INTERVAL '60' SECOND), symbol
            """
        )
        engine.await_all()
        return time.perf_counter() - begun
