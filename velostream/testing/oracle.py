"""The oracle: what DuckDB answers to our SQL on the same rows, and whether two answers are the same.

Our queries are DuckDB's but for three things, which `translate` rewrites from the text alone (it shares no
code with the parser that it checks):

- `WINDOW TUMBLING(ts, size)` and `FROM TUMBLE(TABLE t, DESCRIPTOR(ts), size)`: `_window_start` and
  `_window_end` become columns of the input, floored in microseconds since 1970, and keys of GROUP BY; rows
  without a time are left out;
- `EMIT CHANGES|FINAL` is dropped: the input is bounded;
- `CREATE STREAM|TABLE s AS` is `CREATE TEMP TABLE s AS`.

DuckDB is pinned to one thread and to `SETTINGS`; its answer is then cast, without loss, to our types.
A record that fails has no counterpart in DuckDB, which fails the query: leave such rows out by hand.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot.tokenizer_core import Token, TokenType

SETTINGS = {
    # x / 0 is NULL: no error, and no infinity for DOUBLE.
    "error_on_division_by_zero": "false",
    "ieee_floating_point_ops": "false",
    # x / y is true division.
    "integer_division": "false",
    "TimeZone": "'UTC'",
    "default_collation": "''",
    "preserve_insertion_order": "true",
}
RELATIVE_TOLERANCE = 1e-12
_SHOWN_ROWS = 5

_UNIT_US = {
    "us": 1,
    "microsecond": 1,
    "ms": 1_000,
    "millisecond": 1_000,
    "s": 1_000_000,
    "second": 1_000_000,
    "m": 60_000_000,
    "minute": 60_000_000,
    "h": 3_600_000_000,
    "hour": 3_600_000_000,
    "d": 86_400_000_000,
    "day": 86_400_000_000,
    "w": 604_800_000_000,
    "week": 604_800_000_000,
}
_SIZE = re.compile(r"(?:INTERVAL\s+)?'?\s*(\d+)\s*'?\s*([A-Za-z]+?)(?:s(?<=[a-z]{3}s))?\s*'?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Translated:
    """A statement for DuckDB; `name` is the stream that it creates, or None."""

    name: str | None
    sql: str


def answer(sql: str, tables: Mapping[str, pa.Table], types: Sequence[pa.DataType] | None = None) -> pa.Table:
    """DuckDB's rows for the last statement of `sql`, our dialect, over `tables`.

    Columns of numbers are cast to `types` when given: ArrowInvalid where that would lose anything, TypeError
    for types of other kinds, and for a DOUBLE that is to be a DECIMAL. Without `types`, sums of integers
    (HUGEINT) become BIGINT and the rest stays.
    """
    return run([(part.name, part.sql) for part in translate(sql)], tables, types)


def run(
    statements: Sequence[tuple[str | None, str]],
    tables: Mapping[str, pa.Table],
    types: Sequence[pa.DataType] | None = None,
) -> pa.Table:
    """As `answer`, for (created name, statement) pairs in DuckDB's own SQL."""
    with duckdb.connect(config={"threads": 1}) as connection:
        for setting, value in SETTINGS.items():
            connection.execute(f"SET {setting} = {value}")
        for name, table in tables.items():
            connection.register(name, table)
        for created, sql in statements[:-1]:
            if created is not None:
                connection.execute(f'CREATE TEMP TABLE "{created}" AS {sql}')
        return cast(connection.sql(statements[-1][1]).to_arrow_table(), types)


def cast(table: pa.Table, types: Sequence[pa.DataType] | None) -> pa.Table:
    """`table` with its columns in `types`, or in the types nearest to DuckDB's when None; lossless."""
    if types is None:
        types = [pa.int64() if _is_hugeint(field.type) else field.type for field in table.schema]
    if len(types) != table.num_columns:
        raise TypeError(f"the query has {table.num_columns} columns, {len(types)} types are declared")
    columns = []
    for column, field, to in zip(table.columns, table.schema, types, strict=True):
        if field.type != to and not _numbers(field.type, to):
            raise TypeError(f"column '{field.name}' is {field.type} in DuckDB, not {to}")
        columns.append(column if field.type == to else column.cast(to))
    return pa.table(columns, names=list(table.column_names))


def difference(got: pa.Table, expected: pa.Table, *, exact: bool = True, ordered: bool = False) -> str | None:
    """What sets `got` apart from `expected`, for a person; None when nothing does.

    Types are compared exactly, rows as multisets unless `ordered`. DOUBLE values are the same when equal
    (NaN is NaN), or within 1e-12 of each other unless `exact`. Names count where DuckDB's is a plain word.
    """
    got_types = [str(field.type) for field in got.schema]
    expected_types = [str(field.type) for field in expected.schema]
    if got_types != expected_types:
        return f"types: got {', '.join(got_types)}; expected {', '.join(expected_types)}"
    for ours, theirs in zip(got.column_names, expected.column_names, strict=True):
        if theirs.isidentifier() and ours.casefold() != theirs.casefold():
            return f"name of a column: got '{ours}', expected '{theirs}'"
    tolerance = 0.0 if exact else RELATIVE_TOLERANCE
    left, right = rows(got), rows(expected)
    if not ordered:
        floating = [pa.types.is_floating(field.type) for field in got.schema]
        left.sort(key=lambda row: _sort_key(row, floating))
        right.sort(key=lambda row: _sort_key(row, floating))
    if len(left) == len(right) and all(
        _same(a, b, tolerance) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True)
    ):
        return None
    missing, surplus = Counter(map(repr, right)), Counter(map(repr, left))
    missing, surplus = missing - surplus, surplus - missing
    lines = [f"got {len(left)} rows, expected {len(right)}"]
    for title, some in (("missing", missing), ("unexpected", surplus)):
        lines += [f"  {title}: {row}" for row in list(some.elements())[:_SHOWN_ROWS]]
        if some.total() > _SHOWN_ROWS:
            lines.append(f"  … and {some.total() - _SHOWN_ROWS} more {title}")
    return "\n".join(lines)


def rows(table: pa.Table) -> list[tuple[object, ...]]:
    """The rows as tuples; a TIMESTAMP as its microseconds, a DATE as its days (Python's end in year 9999)."""
    columns = []
    for column in table.columns:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us")).cast(pa.int64())
        elif pa.types.is_date32(column.type):
            column = column.cast(pa.int32())
        columns.append(column.to_pylist())
    return list(zip(*columns, strict=True))


def translate(script: str) -> list[Translated]:
    """The statements of `script` for DuckDB."""
    return [_translate(script, tokens) for tokens in _split(sqlglot.tokenize(script, read="duckdb"))]


def _split(tokens: list[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if _word(token) == ";":
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def _word(token: Token) -> str:
    """The token in capitals; nothing for a string or a quoted name, whatever is in it."""
    if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER):
        return ""
    return " ".join(token.text.upper().split())


def _nesting(token: Token) -> int:
    return {"(": 1, ")": -1}.get(_word(token), 0)


class _Statement:
    """Tokens of one statement, with the places of its clauses: words outside of parentheses."""

    def __init__(self, script: str, tokens: list[Token]) -> None:
        self.script = script
        self.tokens = tokens
        self.top: dict[str, int] = {}
        depth = 0
        for index, token in enumerate(tokens):
            if depth == 0:
                self.top.setdefault(_word(token), index)
            depth += _nesting(token)

    def text(self, first: int, last: int) -> str:
        """The characters of the tokens `first` to `last` (exclusive)."""
        if first >= last:
            return ""
        return self.script[self.tokens[first].start : self.tokens[last - 1].end + 1]

    def close(self, opening: int) -> int:
        """The index of the parenthesis that closes the one at `opening`."""
        depth = 0
        for index in range(opening, len(self.tokens)):
            depth += _nesting(self.tokens[index])
            if depth == 0:
                return index
        raise ValueError("a parenthesis is not closed")

    def commas(self, opening: int) -> list[str]:
        """The texts of the arguments of the call whose parenthesis opens at `opening`."""
        end = self.close(opening)
        parts, first, depth = [], opening + 1, 0
        for index in range(opening + 1, end):
            depth += _nesting(self.tokens[index])
            if depth == 0 and self.tokens[index].text == ",":
                parts.append(self.text(first, index))
                first = index + 1
        return [*parts, self.text(first, end)]


def _translate(script: str, tokens: list[Token]) -> Translated:
    name = None
    words = [token.text.upper() for token in tokens[:4]]
    if words[0] == "CREATE":
        if words[1] not in ("STREAM", "TABLE") or words[3] != "AS":
            raise ValueError(f"the oracle does not know {' '.join(words)}")
        name = tokens[2].text
        tokens = tokens[4:]
    statement = _Statement(script, tokens)
    clauses = _clauses(statement)
    source, size, time = clauses["FROM"], None, None
    if "WINDOW" in clauses:
        window = statement.top["WINDOW"]
        time, size = statement.commas(window + 2)
        time = time.rpartition(".")[2]
    at = statement.top["FROM"]
    if tokens[at + 1].text.upper() == "TUMBLE":
        table, descriptor, size = statement.commas(at + 2)
        time = descriptor.partition("(")[2].rpartition(")")[0]
        alias = source[source.rindex(")") + 1 :]
        source = f"{table.split(None, 1)[1]} {alias}"
    group = clauses.get("GROUP BY")
    if size is not None and time is not None:
        source = _windowed(source, time, size_us(size))
        group = f"{group}, _window_start, _window_end" if group else "_window_start, _window_end"
    sql = f"{clauses['SELECT']} FROM {source}"
    if "WHERE" in clauses:
        sql += f" WHERE {clauses['WHERE']}"
    if group:
        sql += f" GROUP BY {group}"
    if "HAVING" in clauses:
        sql += f" HAVING {clauses['HAVING']}"
    return Translated(name, sql)


def _clauses(statement: _Statement) -> dict[str, str]:
    """The text of each clause behind its words; SELECT's with it."""
    found = sorted(
        (statement.top[word], word)
        for word in ("SELECT", "FROM", "WHERE", "GROUP BY", "HAVING", "WINDOW", "EMIT")
        if word in statement.top
    )
    ends = [at for at, _ in found[1:]] + [len(statement.tokens)]
    return {
        word: statement.text(at + (word != "SELECT"), end)
        for (at, word), end in zip(found, ends, strict=True)
    }


def _windowed(source: str, time: str, size: int) -> str:
    """The input with the bounds of each row's window, under the name that it had."""
    words = source.split()
    alias = words[-1] if len(words) > 1 else words[0]
    start = f"epoch_us({time}) - ((epoch_us({time}) % {size}) + {size}) % {size}"
    return (
        f"(SELECT *, make_timestamp({start}) AS _window_start,"
        f" make_timestamp({start} + {size}) AS _window_end"
        f" FROM {words[0]} WHERE {time} IS NOT NULL) AS {alias}"
    )


def size_us(text: str) -> int:
    """Microseconds of a window's size as it is written: `INTERVAL '1' MINUTE`, `INTERVAL '90 seconds'`, `5m`.

    >>> size_us("INTERVAL '1' MINUTE"), size_us("250ms")
    (60000000, 250000)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _UNIT_US:
        raise ValueError(f"the oracle does not know the size {text!r}")
    return int(match[1]) * _UNIT_US[match[2].lower()]


def _numbers(given: pa.DataType, to: pa.DataType) -> bool:
    """Whether both are types of numbers; a DOUBLE is no DECIMAL, though, until a query says so."""
    if pa.types.is_floating(given) and pa.types.is_decimal(to):
        return False
    return all(
        pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_decimal(type)
        for type in (given, to)
    )


def _is_hugeint(type: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(type) and type.precision == 38 and type.scale == 0)


def _sort_key(row: tuple[object, ...], floating: Sequence[bool]) -> tuple[str, ...]:
    # Exact values first; then what is left of a DOUBLE when its last digits are not looked at.
    exact = [repr(value) for value, inexact in zip(row, floating, strict=True) if not inexact]
    rough = [
        repr(None) if value is None else f"{value:.9e}"
        for value, inexact in zip(row, floating, strict=True)
        if inexact
    ]
    return (*exact, *rough)


def _same(a: object, b: object, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=tolerance)
    return a == b
