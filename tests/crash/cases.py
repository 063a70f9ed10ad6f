"""The jobs that are killed: what each computes, and the query that tells DuckDB the same.

Input is seeded: trades with unique ids, times that go forward but for a second of disorder.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

COLUMNS = {"id": "BIGINT", "symbol": "VARCHAR", "price": "BIGINT", "ts": "TIMESTAMP"}
Rows = Counter[str]


@dataclass(frozen=True)
class Case:
    """A job over `trades` that writes `out`.

    `latest` are the key columns of an updating query: of its output the last row of each key counts, and the
    column `n` only grows. `files` is how many files the input has; `suffix` is that of input and output.
    `exchange` is that of a job of several tasks: `none` when the input is partitioned by `symbol`, else
    `topic`.
    """

    name: str
    sql: str
    oracle: str
    latest: tuple[str, ...] = ()
    files: int = 1
    suffix: str = ".ndjson"
    source: dict[str, Any] = field(default_factory=dict)
    exchange: str = "none"

    def rows(self, lines: Iterable[bytes]) -> Rows:
        """The rows of an output as it was written."""
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        if self.latest:
            rows = list({self._key(row): row for row in rows}.values())
        return Counter(_text(row) for row in rows)

    def again(self, lines: Iterable[bytes]) -> int:
        """Updates of a key that are no newer than the one before them."""
        newest: dict[tuple[Any, ...], int] = {}
        again = 0
        for row in map(json.loads, lines) if self.latest else ():
            key = self._key(row)
            again += row["n"] <= newest.get(key, 0)
            newest[key] = row["n"]
        return again

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.latest)


CASES = (
    Case(
        "stateless",
        "CREATE STREAM out AS SELECT id, symbol, price * 2 AS doubled FROM trades WHERE price % 3 = 0",
        "SELECT id, symbol, price * 2 AS doubled FROM trades WHERE price % 3 = 0",
    ),
    Case(
        "windows",
        """CREATE STREAM out AS
        SELECT symbol, _window_start AS start, COUNT(*) AS n, SUM(price) AS total,
               MIN(id) AS low, MAX(id) AS high
        FROM trades GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '10' SECOND) EMIT FINAL""",
        """SELECT symbol, time_bucket(INTERVAL '10 seconds', ts) AS start, count(*) AS n,
        sum(price)::BIGINT AS total, min(id) AS low, max(id) AS high FROM trades GROUP BY ALL""",
        source={"out_of_orderness": "1s"},
    ),
    Case(
        "groups",
        """CREATE STREAM out AS
        SELECT symbol, price % 50 AS bucket, COUNT(*) AS n, SUM(id) AS total, COUNT(DISTINCT price) AS prices
        FROM trades GROUP BY symbol, price % 50 EMIT FINAL""",
        """SELECT symbol, price % 50 AS bucket, count(*) AS n, sum(id)::BIGINT AS total,
        count(DISTINCT price) AS prices FROM trades GROUP BY ALL""",
    ),
    Case(
        "updating",
        """CREATE TABLE out AS SELECT symbol, COUNT(*) AS n, SUM(price) AS total, MAX(id) AS high
        FROM trades GROUP BY symbol EMIT CHANGES""",
        """SELECT symbol, count(*) AS n, sum(price)::BIGINT AS total, max(id) AS high
        FROM trades GROUP BY ALL""",
        latest=("symbol",),
    ),
    Case(
        "chained",
        """CREATE STREAM bars AS SELECT symbol, _window_end AS ends, COUNT(*) AS n FROM trades
        GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '10' SECOND) EMIT FINAL;
        CREATE STREAM out AS
        SELECT ends, COUNT(*) AS symbols, SUM(n) AS n FROM bars GROUP BY ends EMIT FINAL""",
        """SELECT ends, count(*) AS symbols, sum(n)::BIGINT AS n FROM (
            SELECT symbol, time_bucket(INTERVAL '10 seconds', ts) + INTERVAL '10 seconds' AS ends,
                   count(*) AS n FROM trades GROUP BY ALL) GROUP BY ALL""",
        source={"out_of_orderness": "1s"},
    ),
    Case(
        "folder",
        """CREATE STREAM out AS SELECT symbol, COUNT(*) AS n, SUM(id) AS total
        FROM trades GROUP BY symbol EMIT FINAL""",
        "SELECT symbol, count(*) AS n, sum(id)::BIGINT AS total FROM trades GROUP BY ALL",
        files=5,
    ),
    Case(
        "gzip",
        "CREATE STREAM out AS SELECT id, price FROM trades WHERE price < 500",
        "SELECT id, price FROM trades WHERE price < 500",
        suffix=".ndjson.gz",
    ),
)


def _shared(case: Case) -> Iterator[Case]:
    yield replace(case, name=f"{case.name}-none")
    yield replace(case, name=f"{case.name}-topic", exchange="topic")


# Jobs of several tasks: with keys that stay in their partitions, and with such that cross them.
SHARED = tuple(
    shared
    for case in CASES
    if case.name in ("stateless", "windows", "updating", "chained")
    for shared in _shared(case)
)


def trades(records: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Symbol and JSON of each record."""
    rng = random.Random(seed)
    for at in range(records):
        ms = 1_700_000_000_000 + at * 2 + rng.randrange(1000)
        symbol = f"S{rng.randrange(40)}"
        price = rng.randrange(1000)
        yield symbol, f'{{"id":{at},"symbol":"{symbol}","price":{price},"ts":{ms}}}'.encode()


def write_files(case: Case, folder: Path, records: int, seed: int) -> None:
    """The input as files, their lines one behind the other."""
    lines = [line for _, line in trades(records, seed)]
    share = -(-len(lines) // case.files)
    for part in range(case.files):
        data = b"".join(line + b"\n" for line in lines[part * share : (part + 1) * share])
        path = folder / f"{part}{case.suffix}"
        path.write_bytes(gzip.compress(data, 1) if case.suffix.endswith(".gz") else data)


def expected(case: Case, records: int, seed: int) -> Rows:
    """The rows that have to come out."""
    import pyarrow as pa

    rows = [json.loads(line) for _, line in trades(records, seed)]
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("given", pa.Table.from_pylist(rows))
    connection.execute("CREATE VIEW trades AS SELECT * REPLACE (make_timestamp(ts * 1000) AS ts) FROM given")
    found = connection.sql(case.oracle)
    names = found.columns
    return Counter(_text(dict(zip(names, row, strict=True))) for row in found.fetchall())


def _text(row: dict[str, Any]) -> str:
    return json.dumps({name: _plain(value) for name, value in row.items()}, sort_keys=True)


def _plain(value: Any) -> Any:
    """Times in one form."""
    if isinstance(value, str) and value[4:5] == "-":
        value = datetime.fromisoformat(value.removesuffix("Z"))
    return value.isoformat() if isinstance(value, datetime) else value
