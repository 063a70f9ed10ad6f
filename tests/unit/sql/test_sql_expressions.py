"""Expressions, bound and typed: each case is the text, the bound expression and its type."""

from __future__ import annotations

import pytest
from sql_plans import bound, items

from velostream.sql.scalars import DATE_PARTS

OPERATORS = [
    ("price", "price : DOUBLE"),
    ("PRICE", "price : DOUBLE"),
    ('"price"', "price : DOUBLE"),
    ("trades.price", "price : DOUBLE"),
    ("quantity + 1", "add(CAST(quantity AS int64), 1) : BIGINT"),
    ("quantity + quantity", "add(CAST(quantity AS int64), CAST(quantity AS int64)) : BIGINT"),
    ("volume - 1 - 2", "subtract(subtract(volume, 1), 2) : BIGINT"),
    ("volume + 2 * 3", "add(volume, multiply(2, 3)) : BIGINT"),
    ("(volume + 2) * 3", "multiply(add(volume, 2), 3) : BIGINT"),
    ("volume / 2", "divide(CAST(volume AS double), 2.0) : DOUBLE"),
    ("volume % 7", "modulo(volume, 7) : BIGINT"),
    ("price * 2", "multiply(price, 2.0) : DOUBLE"),
    ("-price", "negate(price) : DOUBLE"),
    ("- -price", "negate(negate(price)) : DOUBLE"),
    ("+quantity", "quantity : INTEGER"),
    ("-volume::DOUBLE", "negate(CAST(volume AS double)) : DOUBLE"),
    ("symbol || 'x'", "||(symbol, 'x') : VARCHAR"),
    ("volume = 1", "eq(volume, 1) : BOOLEAN"),
    ("volume == 1", "eq(volume, 1) : BOOLEAN"),
    ("volume != 1", "ne(volume, 1) : BOOLEAN"),
    ("volume <> 1", "ne(volume, 1) : BOOLEAN"),
    ("volume < 1", "lt(volume, 1) : BOOLEAN"),
    ("volume <= 1", "le(volume, 1) : BOOLEAN"),
    ("volume > 1", "gt(volume, 1) : BOOLEAN"),
    ("volume >= 1", "ge(volume, 1) : BOOLEAN"),
    ("open AND NOT open OR open", "or(and(open, not(open)), open) : BOOLEAN"),
    ("NOT volume = 1", "not(eq(volume, 1)) : BOOLEAN"),
    ("NOT open IS NULL", "is_not_null(open) : BOOLEAN"),
    ("volume IN (1, 2)", "in(volume, 1, 2) : BOOLEAN"),
    ("volume NOT IN (1)", "not(in(volume, 1)) : BOOLEAN"),
    ("volume BETWEEN 1 AND 2", "and(ge(volume, 1), le(volume, 2)) : BOOLEAN"),
    ("volume NOT BETWEEN 1 AND 2", "not(and(ge(volume, 1), le(volume, 2))) : BOOLEAN"),
    ("volume BETWEEN 1 AND 2 AND open", "and(and(ge(volume, 1), le(volume, 2)), open) : BOOLEAN"),
    ("symbol LIKE 'a%'", "like(symbol, 'a%') : BOOLEAN"),
    ("symbol NOT LIKE 'a!%' ESCAPE '!'", "not(like(symbol, 'a!%', '!')) : BOOLEAN"),
    ("symbol ILIKE 'a%'", "ilike(symbol, 'a%') : BOOLEAN"),
    ("symbol NOT ILIKE 'a%'", "not(ilike(symbol, 'a%')) : BOOLEAN"),
    ("price IS NULL", "is_null(price) : BOOLEAN"),
    ("price IS NOT NULL", "is_not_null(price) : BOOLEAN"),
    ("open IS TRUE", "is_true(open) : BOOLEAN"),
    ("open IS NOT TRUE", "is_not_true(open) : BOOLEAN"),
    ("open IS FALSE", "is_false(open) : BOOLEAN"),
    ("open IS NOT FALSE", "is_not_false(open) : BOOLEAN"),
    ("volume = 1 IS NULL", "is_null(eq(volume, 1)) : BOOLEAN"),
]
CONDITIONALS = [
    ("CASE WHEN open THEN 1 ELSE 2 END", "CASE WHEN open THEN 1 ELSE 2 END : BIGINT"),
    ("CASE WHEN open THEN 1 END", "CASE WHEN open THEN 1 ELSE NULL END : BIGINT"),
    (
        "CASE volume WHEN 1 THEN 'a' WHEN 2 THEN 'b' END",
        "CASE WHEN eq(volume, 1) THEN 'a' WHEN eq(volume, 2) THEN 'b' ELSE NULL END : VARCHAR",
    ),
    ("CASE WHEN open THEN 1 ELSE 2.5 END", "CASE WHEN open THEN 1 ELSE 2.5 END : DECIMAL(20, 1)"),
    (
        "CASE WHEN open THEN volume ELSE price END",
        "CASE WHEN open THEN CAST(volume AS double) ELSE price END : DOUBLE",
    ),
]
CASTS = [
    ("CAST(quantity AS BIGINT)", "CAST(quantity AS int64) : BIGINT"),
    ("CAST(quantity AS INTEGER)", "quantity : INTEGER"),
    ("quantity::TEXT", "CAST(quantity AS string) : VARCHAR"),
    ("quantity::TEXT::DOUBLE PRECISION", "CAST(CAST(quantity AS string) AS double) : DOUBLE"),
    ("TRY_CAST(symbol AS INT)", "TRY_CAST(symbol AS int32) : INTEGER"),
    ("CAST(price AS DECIMAL(12, 1))", "CAST(price AS decimal128(12, 1)) : DECIMAL(12, 1)"),
    ("CAST(NULL AS DATE)", "NULL : DATE"),
    ("CAST(1 AS DOUBLE)", "1.0 : DOUBLE"),
    ("CAST(300 AS TINYINT)", "CAST(300 AS int8) : TINYINT"),
    ("CAST('2020-01-02' AS DATE)", "'2020-01-02' : DATE"),
    ("TRY_CAST('x' AS TIMESTAMP)", "NULL : TIMESTAMP"),
    ("TRY_CAST('2020-01-02' AS TIMESTAMP)", "'2020-01-02 00:00:00' : TIMESTAMP"),
    ("ts::DATE", "CAST(ts AS date32[day]) : DATE"),
]
LITERALS = [
    ("1", "1 : BIGINT"),
    ("-9223372036854775808", "-9223372036854775808 : BIGINT"),
    ("9223372036854775808", "9223372036854775808 : DECIMAL(38, 0)"),
    ("1.5", "1.5 : DECIMAL(2, 1)"),
    ("-0.05", "-0.05 : DECIMAL(3, 2)"),
    (".5", "0.5 : DECIMAL(1, 1)"),
    ("1e3", "1000.0 : DOUBLE"),
    ("123456789012345678901234567890123456789", "1.2345678901234568e+38 : DOUBLE"),
    ("'it''s'", "'it''s' : VARCHAR"),
    ("TRUE", "TRUE : BOOLEAN"),
    ("NULL", "NULL : INTEGER"),
    ("NULL + 1", "add(NULL, 1) : BIGINT"),
    ("DATE '2020-01-02'", "'2020-01-02' : DATE"),
    ("TIMESTAMP '2020-01-02 03:04:05.1234567'", "'2020-01-02 03:04:05.123456' : TIMESTAMP"),
    ("TIMESTAMP '2020-01-02T03:04+02:30'", "'2020-01-02 00:34:00' : TIMESTAMP"),
]
COMPARED_WITH_TEXT = [
    ("day = '2020-01-02'", "eq(day, '2020-01-02') : BOOLEAN"),
    ("'2020-01-02' < ts", "lt('2020-01-02 00:00:00', ts) : BOOLEAN"),
    ("ts IN ('2020-01-02', '2020-01-03')", "in(ts, '2020-01-02 00:00:00', '2020-01-03 00:00:00') : BOOLEAN"),
    (
        "day BETWEEN '2020-01-02' AND '2020-01-03'",
        "and(ge(day, '2020-01-02'), le(day, '2020-01-03')) : BOOLEAN",
    ),
    (
        "CASE day WHEN '2020-01-02' THEN 1 END",
        "CASE WHEN eq(day, '2020-01-02') THEN 1 ELSE NULL END : BIGINT",
    ),
]
PARTS = [
    ("EXTRACT(YEAR FROM ts)", "year(ts) : BIGINT"),
    ("EXTRACT('hour', ts)", "hour(ts) : BIGINT"),
    ("date_part('year', ts)", "year(ts) : BIGINT"),
    ("Upper(symbol)", "upper(symbol) : VARCHAR"),
    ("SUBSTRING(symbol FROM 2 FOR 3)", "substring(symbol, 2, 3) : VARCHAR"),
]


@pytest.mark.parametrize(
    ("text", "expected"), OPERATORS + CONDITIONALS + CASTS + LITERALS + COMPARED_WITH_TEXT + PARTS
)
def test_expression_is_bound_and_typed(text: str, expected: str) -> None:
    assert items(text) == [expected]


def test_comments_count_as_space() -> None:
    assert items("volume -- one\n + /* two /* three */ */ 1") == ["add(volume, 1) : BIGINT"]


def test_span_of_an_expression_is_its_text() -> None:
    text = "SELECT NOT (volume IN (1, 2)) OR CASE WHEN open THEN price END::BIGINT > -1 FROM trades"
    whole = bound(text).items[0].expr
    spans = [text[slice(*node.span)] for node in whole.walk() if node.span is not None]
    assert spans == [
        "NOT (volume IN (1, 2)) OR CASE WHEN open THEN price END::BIGINT > -1",
        "NOT (volume IN (1, 2))",
        "volume IN (1, 2)",
        "volume",
        "1",
        "2",
        "CASE WHEN open THEN price END::BIGINT > -1",
        "CASE WHEN open THEN price END::BIGINT",
        "CASE WHEN open THEN price END",
        "open",
        "price",
        "CASE WHEN open THEN price END",
        "-1",
    ]


@pytest.mark.parametrize("part", DATE_PARTS)
def test_every_part_of_a_date_is_a_function(part: str) -> None:
    (extracted,) = items(f"EXTRACT({part} FROM ts)")
    assert extracted.startswith(f"{part}(ts) : ")
    assert items(f"{part}(ts)") == items(f"date_part('{part.upper()}', ts)") == [extracted]
