"""NDJSON to columns: all five of the trades, first block read to last column filled, on one thread.

simdjson is a C++ program (Debian's `libsimdjson-dev`) that fills the same columns by the on-demand API.
DuckDB and Polars get the types declared; each only counts the values of each column, which costs it least.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data import trades
from benchmarks.harness import FOLDER, Contender, Target, compare, entry

if TYPE_CHECKING:
    import pyarrow as pa

    from velostream.formats.base import Decoder, Splitter

TITLE = "NDJSON to five columns, one thread"
CONTENDERS = (
    Contender("simdjson, on demand", "simdjson"),
    Contender("DuckDB, 1 thread", "duckdb", needs="duckdb"),
    Contender("Polars, 1 thread", "polars", needs="polars"),
    Contender("velostream", "velostream"),
)
TARGETS = (
    Target("decode ≥ 1.1x simdjson", "velostream", over="simdjson", at_least=1.1),
    Target("decode ≥ 3x DuckDB", "velostream", over="duckdb", at_least=3),
    Target("decode ≥ 3.5x Polars", "velostream", over="polars", at_least=3.5),
)
COLUMNS = {
    "symbol": "VARCHAR",
    "price": "DOUBLE",
    "quantity": "BIGINT",
    "ts": "TIMESTAMP",
    "trader": "VARCHAR",
}
BLOCK_BYTES = 4 << 20
SOURCE = Path(__file__).with_name("simdjson_columns.cpp")
PROGRAM = FOLDER / "simdjson_columns"


def main(records: int) -> None:
    path = trades(records)
    compile_simdjson()
    base = facts("simdjson", path)

    def check(contender: Contender) -> None:
        found = facts(contender.argument, path)
        if found != base:
            raise SystemExit(f"{contender.name} decodes other values than simdjson: {found}, not {base}")

    compare("json_decode", TITLE, records, CONTENDERS, check, targets=TARGETS)


def run(argument: str, records: int) -> float:
    """One contender, once, in seconds."""
    path = trades(records)
    if argument == "simdjson":
        return float(_simdjson(path, "time")["seconds"])
    if argument == "duckdb":
        return run_duckdb(path)
    if argument == "polars":
        return run_polars(path)
    decoder, splitter = open_decoder()
    begun = time.perf_counter()
    for _ in decode(path, decoder, splitter):
        pass
    return time.perf_counter() - begun


def facts(argument: str, path: Path) -> dict[str, int]:
    """What the columns that a contender decodes add up to."""
    if argument == "simdjson":
        return _simdjson(path, "facts")
    if argument == "duckdb":
        return _facts_duckdb(path)
    if argument == "polars":
        return _facts_polars(path)
    return _facts_velostream(path)


def compile_simdjson() -> None:
    """Build the C++ program; SystemExit when there is no compiler or no simdjson."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = ["g++", "-O3", "-std=c++17", "-o", str(PROGRAM), str(SOURCE), "-lsimdjson"]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"simdjson does not build: {error}; it takes apt-get install g++ libsimdjson-dev"
        ) from None


def _simdjson(path: Path, what: str) -> dict[str, int]:
    done = subprocess.run([PROGRAM, path, what], capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def open_decoder() -> tuple[Decoder, Splitter]:
    from velostream.formats.base import formats
    from velostream.sql.typenames import parse_type
    from velostream.sql.types import Field, Schema

    format = formats["ndjson"](formats["ndjson"].Options())
    schema = Schema(tuple(Field(name, parse_type(type)) for name, type in COLUMNS.items()))
    return format.decoder(schema, schema.names, format.layout(b"")), format.splitter()


def decode(path: Path, decoder: Decoder, splitter: Splitter) -> Iterator[pa.RecordBatch]:
    """The batches of a file, read block by block as a lane does."""
    block = memoryview(bytearray(BLOCK_BYTES))
    kept = 0
    with open(path, "rb", buffering=0) as file:
        while read := file.readinto(block[kept:]):
            filled = kept + read
            length = splitter.cut(block[:filled], final=False)
            position = 0
            while position < length:
                decoded = decoder.decode(block[:length], position, 65_536)
                if decoded.errors:
                    raise SystemExit(decoded.errors[0].detail)
                position = decoded.next
                yield decoded.batch
            kept = filled - length
            block[:kept] = block[length:filled]


def _facts_velostream(path: Path) -> dict[str, int]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    found = dict.fromkeys(("rows", "symbol_bytes", "trader_bytes", "tenthousandths", "quantity", "ts"), 0)
    for batch in decode(path, *open_decoder()):
        found["rows"] += batch.num_rows
        found["symbol_bytes"] += pc.sum(pc.binary_length(batch["symbol"])).as_py()
        found["trader_bytes"] += pc.sum(pc.binary_length(batch["trader"])).as_py()
        found["tenthousandths"] += int(np.rint(batch["price"].to_numpy() * 10_000).astype(np.int64).sum())
        found["quantity"] += pc.sum(batch["quantity"]).as_py()
        found["ts"] += pc.sum(pc.divide(batch["ts"].cast(pa.int64()), 1_000_000)).as_py()
    return found


def _read_json(path: Path) -> str:
    columns = ", ".join(
        f"{name}: '{'BIGINT' if type == 'TIMESTAMP' else type}'" for name, type in COLUMNS.items()
    )
    return f"read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})"


def run_duckdb(path: Path) -> float:
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    counts = ", ".join(f"count({name})" for name in COLUMNS)
    begun = time.perf_counter()
    connection.sql(f"SELECT {counts} FROM {_read_json(path)}").fetchall()
    return time.perf_counter() - begun


def _facts_duckdb(path: Path) -> dict[str, int]:
    import duckdb

    relation = duckdb.sql(
        f"""
        SELECT count(*) AS rows, sum(strlen(symbol)) AS symbol_bytes,
               sum(strlen(trader)) AS trader_bytes, sum(round(price * 10000)::BIGINT) AS tenthousandths,
               sum(quantity) AS quantity, sum(ts // 1000) AS ts
        FROM {_read_json(path)}
        """
    )
    [row] = relation.fetchall()
    return dict(zip(relation.columns, row, strict=True))


def _polars_scan(path: Path) -> Any:
    os.environ["POLARS_MAX_THREADS"] = "1"  # read once, when Polars is imported
    import polars as pl

    types = {"VARCHAR": pl.String, "DOUBLE": pl.Float64, "BIGINT": pl.Int64, "TIMESTAMP": pl.Int64}
    return pl.scan_ndjson(path, schema={name: types[type] for name, type in COLUMNS.items()})


def run_polars(path: Path) -> float:
    scan = _polars_scan(path)
    import polars as pl

    assert pl.thread_pool_size() == 1
    begun = time.perf_counter()
    scan.select(pl.all().count()).collect(engine="streaming")
    return time.perf_counter() - begun


def _facts_polars(path: Path) -> dict[str, int]:
    scan = _polars_scan(path)
    import polars as pl

    found: dict[str, int] = (
        scan.select(
            rows=pl.len(),
            symbol_bytes=pl.col("symbol").str.len_bytes().sum(),
            trader_bytes=pl.col("trader").str.len_bytes().sum(),
            tenthousandths=(pl.col("price") * 10_000).round().cast(pl.Int64).sum(),
            quantity=pl.col("quantity").sum(),
            ts=(pl.col("ts") // 1000).sum(),
        )
        .collect(engine="streaming")
        .to_dicts()[0]
    )
    return found


if __name__ == "__main__":
    entry(run, main, 10_000_000)
