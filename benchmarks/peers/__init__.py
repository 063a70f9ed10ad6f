"""The query of `benchmarks/tumble.py` in each engine, the way it runs best: types declared, threads set.

Each engine's `run` reads NDJSON trades and writes NDJSON rows. Packages come with the extra `bench`.
"""

from __future__ import annotations

from pathlib import Path


def run(argument: str, path: Path, result: Path, records: int) -> float:
    """Run the headline query once by the engine that `argument` begins with (`duckdb:2`, `v2:2:affinity`).

    Seconds from the first block read to the last row written. An engine is imported when it runs.
    """
    engine, _, threads = argument.partition(":")
    match engine:
        case "duckdb":
            from benchmarks.peers import duckdb

            return duckdb.run(path, result, int(threads))
        case "polars":
            from benchmarks.peers import polars

            return polars.run(path, result, int(threads))
        case "pyclink":
            from benchmarks.peers import pyclink

            return pyclink.run(path, result)
        case "bytewax":
            from benchmarks.peers import bytewax

            return bytewax.run(path, result)
        case "faust":
            from benchmarks.peers import faust

            return faust.run(path, result, records)
        case _:
            from benchmarks.peers import velostream

            return velostream.run(path, result, argument).seconds
