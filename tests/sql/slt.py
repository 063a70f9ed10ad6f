"""Reads `.slt` files: queries of our SQL with what they must answer.

Records are separated by blank lines; comments (`#`) over a record say why it is there. Two kinds:

    # Sums of money are exact.
    query sum_of_prices: VARCHAR, DECIMAL(38, 2)
    SELECT symbol, SUM(price) FROM trades GROUP BY symbol

    # The column is named, and where it stands.
    error misspelt_column: 1:8.*unknown column 'pric'.*'price'
    SELECT pric FROM trades

A query's first line gives its name and the types of its columns, then options in brackets:

- `[full]`: over all 336,776 flights, only under --all-modes;
- `[failed N]`: N records fail (0 where nothing is said);
- `[latest a, b]`: EMIT CHANGES; only the last row of each key (a, b) is compared.

The SQL runs in DuckDB too, translated by `velostream.testing.oracle`. Below it may stand:

- `---- oracle`: SQL for DuckDB instead, where it means something else by ours;
- `---- rows`: the rows themselves, values separated by ` | ` in the types declared, for what DuckDB cannot
  answer; a comment says why.

An `error` line gives a regex, searched in the error as a person would see it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from velostream.sql.typenames import parse_type

_HEAD = re.compile(r"(query|error) (\w+): (.*)")
_OPTIONS = re.compile(r"\[([^]]*)\]")


@dataclass(frozen=True, eq=False)
class Query:
    """`oracle` is SQL for DuckDB, `rows` the expected table; None both where the SQL itself serves."""

    id: str
    line: int
    sql: str
    types: tuple[pa.DataType, ...]
    oracle: str | None
    rows: pa.Table | None
    full: bool
    failed: int
    latest: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """A script that must be refused with an error in which `pattern` is found."""

    id: str
    line: int
    sql: str
    pattern: str


def read(path: Path) -> list[Query | Refusal]:
    """The records of a file in order. Raises ValueError, with file and line, for what is no record."""
    records: dict[str, Query | Refusal] = {}
    for line, block in _blocks(path.read_text(encoding="utf-8")):
        try:
            record = _record(path.stem, line, block)
        except ValueError as exc:
            raise ValueError(f"{path}:{line}: {exc}") from exc
        if record.id in records:
            raise ValueError(f"{path}:{line}: a second record named {record.id}")
        records[record.id] = record
    return list(records.values())


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Groups of lines without comments, each with the number of its first line."""
    block: list[str] = []
    first = commented = 0
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.startswith("#"):
            commented = number
        elif line.strip():
            if not block:
                first = number
                if commented != number - 1:
                    raise ValueError(f"line {number}: no comment says why this record is there")
            block.append(line)
        elif block:
            yield first, block
            block = []


def _record(theme: str, line: int, block: list[str]) -> Query | Refusal:
    head = _HEAD.fullmatch(block[0])
    if head is None:
        raise ValueError(f"expected 'query NAME: TYPES' or 'error NAME: REGEX', found {block[0]!r}")
    kind, name, rest = head.groups()
    parts = {"sql": block[1:]}
    for number, text in enumerate(block):
        if text.startswith("---- "):
            if parts["sql"] == block[1:]:
                parts["sql"] = block[1:number]
            end = next((n for n in range(number + 1, len(block)) if block[n].startswith("---- ")), len(block))
            parts[text[5:].strip()] = block[number + 1 : end]
    if unknown := parts.keys() - {"sql", "oracle", "rows"}:
        raise ValueError(f"unknown part {unknown}")
    sql = "\n".join(parts["sql"])
    if kind == "error":
        return Refusal(f"{theme}/{name}", line, sql, rest)
    options = [option.split(None, 1) for option in _OPTIONS.findall(rest)]
    values = {option[0]: option[1] if len(option) == 2 else "" for option in options}
    if unknown := values.keys() - {"full", "failed", "latest"}:
        raise ValueError(f"unknown option {unknown}")
    types = tuple(parse_type(text) for text in _split(_OPTIONS.sub("", rest)))
    return Query(
        id=f"{theme}/{name}",
        line=line,
        sql=sql,
        types=types,
        oracle="\n".join(parts["oracle"]) if "oracle" in parts else None,
        rows=_table(parts["rows"], types) if "rows" in parts else None,
        full="full" in values,
        failed=int(values.get("failed", "0")),
        latest=tuple(part.strip() for part in values["latest"].split(",")) if "latest" in values else (),
    )


def _split(types: str) -> list[str]:
    """The names of types, at commas outside of parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", types)]


def _table(lines: list[str], types: tuple[pa.DataType, ...]) -> pa.Table:
    """The rows written out; NULL is null, '' an empty text."""
    rows = [[value.strip() for value in line.split(" | ")] for line in lines]
    if any(len(row) != len(types) for row in rows):
        raise ValueError("a row has not one value for each type")
    columns = []
    for index, to in enumerate(types):
        texts = [None if row[index] == "NULL" else row[index].replace("''", "") for row in rows]
        columns.append(pc.cast(pa.array(texts, pa.string()), to))
    # No name: DuckDB's do not speak here.
    return pa.Table.from_arrays(columns, names=[f"{index}:" for index in range(len(types))])
