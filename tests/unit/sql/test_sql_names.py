"""Names of columns that a query does not name."""

from __future__ import annotations

import duckdb
import pytest
from sql_plans import names

AS_IN_DUCKDB = [
    "price",
    "trades.price",
    "(price)",
    "quantity + 1",
    "quantity * 2 - 1 + 3",
    "-quantity",
    "-1",
    "+price",
    "- -price",
    "1.5",
    "'it''s'",
    "NULL",
    "TRUE",
    "count(*)",
    "COUNT(price)",
    "SUM(quantity + 1)",
    "count(DISTINCT price)",
    "sum(price) FILTER (WHERE quantity > 1)",
    "min(trades.price)",
    "quantity <> 2",
    "NOT open",
    "open AND open OR open",
    "quantity IN (1, 2)",
    "quantity NOT IN (1)",
    "quantity BETWEEN 1 AND 2",
    "quantity NOT BETWEEN 1 AND 2",
    "price IS NULL",
    "price IS NOT NULL",
    "CAST(quantity AS INT)",
    "TRY_CAST(quantity AS BIGINT)",
    "CAST(price AS DECIMAL(12, 1))",
    "symbol || 'x'",
    "upper(symbol)",
]


@pytest.mark.parametrize("text", AS_IN_DUCKDB)
def test_unnamed_column_is_called_as_in_duckdb(text: str) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE trades (symbol VARCHAR, price DOUBLE, quantity INT, open BOOLEAN)")
    cursor = connection.execute(f"SELECT {text} FROM trades")
    assert names(text) == [cursor.description[0][0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # DuckDB writes its inner operators and quotes its own keywords here.
        ("symbol LIKE 'a' ESCAPE '!'", "(symbol LIKE 'a' ESCAPE '!')"),
        ("symbol NOT ILIKE 'a'", "(symbol NOT ILIKE 'a')"),
        ("open IS NOT TRUE", "(NOT (open IS TRUE))"),
        ("CASE volume WHEN 1 THEN 2 END", "CASE WHEN ((volume = 1)) THEN (2) ELSE NULL END"),
        ("EXTRACT(YEAR FROM ts)", "date_part('year', ts)"),
        ("DATE '2020-01-01'", "CAST('2020-01-01' AS DATE)"),
    ],
)
def test_unnamed_column_is_called_by_its_text(text: str, expected: str) -> None:
    assert names(text) == [expected]


def test_equal_names_are_numbered_in_any_case() -> None:
    assert names("price, price, price AS Price, volume AS price_1") == [
        "price",
        "price_2",
        "Price_3",
        "price_1",
    ]


def test_column_keeps_the_case_of_the_stream() -> None:
    assert names("PRICE, Trades.Volume") == ["price", "volume"]
