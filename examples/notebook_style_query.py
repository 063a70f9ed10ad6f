"""Streaming SQL over what a notebook has at hand: pandas and polars frames, Arrow tables, CSV files.

    python examples/notebook_style_query.py

Each block below is a cell; a notebook's own event loop does not get in the way.
"""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl

import velostream


def main() -> int:
    # A pandas frame; the names of the arguments are the tables of the query.
    trades = pd.DataFrame(
        {
            "ts": [datetime(2025, 1, 2, 9, 30) + timedelta(seconds=20 * n) for n in range(9)],
            "symbol": ["ACME", "ACME", "BOLT"] * 3,
            "price": [10.0, 10.5, 99.0, 11.0, None, 98.0, 12.0, 12.5, 97.0],
            "quantity": [100, 200, 10, 50, 70, 20, 10, 30, 40],
        }
    )
    print("Volume per symbol, pandas in:")
    print(
        velostream.query(
            "SELECT symbol, SUM(quantity) AS volume, AVG(price) AS mean FROM trades GROUP BY symbol",
            trades=trades,
        )
        .sort_by("symbol")
        .to_pandas()
        .to_string(index=False)
    )

    # A polars frame in, a polars frame out, in windows of event time.
    minutes = velostream.query(
        "SELECT _window_start AS minute, COUNT(*) AS trades, MAX(price) AS high FROM trades "
        "WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)",
        trades=pl.from_pandas(trades),
    )
    print("\nTrades per minute, polars in and out:")
    print(pl.DataFrame(minutes).sort("minute"))

    # A file, with the types that matter declared and its own word for NULL.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flights.csv"
        path.write_text("origin,delay\nJFK,12\nEWR,NA\nJFK,-3\nLGA,40\n")
        flights = velostream.csv(path, schema={"origin": "VARCHAR", "delay": "BIGINT"}, nulls=["NA"])
        late = velostream.query(
            "SELECT origin, COUNT(delay) AS known, MAX(delay) AS worst FROM flights GROUP BY origin",
            flights=flights,
        )
        print("\nDelays per airport, from a CSV file:")
        print(late.sort_by("origin").to_pandas().to_string(index=False))

    # The same query on one lane and on four: the same rows.
    query = "SELECT symbol, COUNT(*) AS n FROM trades WHERE price IS NOT NULL GROUP BY symbol"
    one, four = (velostream.query(query, lanes, trades=trades).sort_by("symbol") for lanes in ("v1", "v2:4"))
    print(f"\nv1 and v2:4 agree: {one == four}")

    # What is wrong is said with its place, and the nearest name.
    try:
        velostream.query("SELECT symbol, prise FROM trades", trades=trades)
    except velostream.VelostreamError as error:
        print(f"\n{error}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
