"""Polars: a lazy scan with its schema declared, run by the streaming engine, sunk as NDJSON."""

from __future__ import annotations

import os
import time
from pathlib import Path


def run(path: Path, result: Path, threads: int) -> float:
    os.environ["POLARS_MAX_THREADS"] = str(threads)  # read once, when Polars is imported
    import polars as pl

    assert pl.thread_pool_size() == threads
    schema = {"symbol": pl.String, "price": pl.Float64, "quantity": pl.Int64, "ts": pl.Int64}
    begun = time.perf_counter()
    (
        pl.scan_ndjson(path, schema=schema)
        .with_columns(_window_start=pl.from_epoch(pl.col("ts") // 60_000 * 60_000, "ms"))
        .group_by("symbol", "_window_start")
        .agg(
            n=pl.len(),
            quantity=pl.sum("quantity"),
            mean=pl.mean("price"),
            low=pl.min("price"),
            high=pl.max("price"),
        )
        .sink_ndjson(result, engine="streaming")
    )
    return time.perf_counter() - begun
