"""No text does anything but give statements or a SqlError that points into it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sql_plans import CATALOG

from velostream.errors import Problems, SqlError, VelostreamError
from velostream.sql.binder import bind
from velostream.sql.parser import parse

WORDS = (
    "SELECT FROM WHERE GROUP BY HAVING WINDOW TUMBLING TUMBLE EMIT CHANGES FINAL WITH CREATE STREAM TABLE AS "
    "AND OR NOT IN IS NULL TRUE BETWEEN LIKE ESCAPE CASE WHEN THEN ELSE END CAST TRY_CAST EXTRACT YEAR "
    "INTERVAL MINUTE DISTINCT FILTER COUNT SUM upper trades price volume symbol ts day open t DESCRIPTOR "
    "DATE TIMESTAMP DECIMAL INT OVER ORDER LIMIT JOIN UNION LEFT AT TIME ZONE _window_start _k0"
).split()
MARKS = "( ) , . * + - / % = == <> != < >= || :: ; [ ] { } ? $ @ # ! ` ~ ^ & | : \\ ' \" -- /* */ ->".split()
VALUES = ["1", "5m", "1.5", ".5", "1e3", "1e", "0x1", "''", "'a'", "'2020-01-01'", '"price"', '""']
VALUES += ["\n", "é", "\0"]
TOKENS = st.sampled_from(WORDS + MARKS + VALUES)
EXAMPLES = [
    "SELECT symbol , SUM ( volume ) FILTER ( WHERE open ) AS n FROM trades GROUP BY 1 HAVING n > 2".split(),
    "SELECT CASE WHEN open THEN CAST ( ts AS DATE ) ELSE NULL END FROM trades t ;".split(),
    "CREATE STREAM s WITH ( 'k' = 1 ) AS SELECT * FROM trades WINDOW TUMBLING ( ts , 5m ) EMIT FINAL".split(),
    "CREATE STREAM s ( a DECIMAL ( 10 , 2 ) , b INT ) WITH ( 'k' = 'v' ) ; SELECT a FROM s".split(),
    "SELECT COUNT ( * ) FROM TUMBLE ( TABLE trades , DESCRIPTOR ( ts ) , INTERVAL '1' MINUTE )".split(),
]


def _check(text: str) -> None:
    try:
        bind(parse(text), CATALOG)
    except VelostreamError as error:
        for each in error.errors if isinstance(error, Problems) else (error,):
            assert isinstance(each, SqlError)
            assert each.where is not None and each.where.line is not None
            assert 1 <= each.where.line <= text.count("\n") + 1
            assert "\x1b" not in each.message


@given(st.text())
@settings(max_examples=150)
def test_random_text_gives_statements_or_an_error(text: str) -> None:
    _check(text)


@given(st.lists(TOKENS, max_size=25), st.sampled_from([" ", ""]))
@settings(max_examples=300)
def test_random_tokens_give_statements_or_an_error(words: list[str], space: str) -> None:
    _check(space.join(words))
    _check("SELECT " + space.join(words) + " FROM trades")


@given(st.sampled_from(EXAMPLES), st.data())
@settings(max_examples=300)
def test_changed_query_gives_statements_or_an_error(words: list[str], data: st.DataObject) -> None:
    words = list(words)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words) - 1))
        words[at : at + data.draw(st.integers(0, 2))] = data.draw(st.lists(TOKENS, max_size=2))
        words = words or ["SELECT"]
    _check(" ".join(words))


def test_every_beginning_of_a_query_gives_statements_or_an_error() -> None:
    for words in EXAMPLES:
        text = " ".join(words)
        for end in range(len(text)):
            _check(text[:end])
