"""What is refused: each case marks the place between `[` and `]`, and gives kind, message and hint."""

from __future__ import annotations

import pyarrow as pa
import pytest
from sql_plans import CATALOG

from velostream.errors import BindError, ParseError, Problems, SqlError, UnsupportedError, Where
from velostream.sql.binder import bind
from velostream.sql.parser import parse
from velostream.sql.scopes import StreamInfo

SYNTAX = [
    ("[SELCT] a", "expected SELECT or CREATE, found 'SELCT'", "did you mean 'SELECT'?"),
    ("['a']", "expected SELECT or CREATE, found 'a'", None),
    (
        "CREATE [STREM] s AS SELECT a FROM t",
        "expected STREAM or TABLE, found 'STREM'",
        "did you mean 'STREAM'?",
    ),
    ("SELECT [FROM] t", "expected an expression, found 'FROM'", None),
    ("SELECT a, [FROM] t", "expected an expression, found 'FROM'", None),
    ("SELECT a b [c] FROM t", "expected FROM, found 'c'", None),
    ("SELECT a ['b'] FROM t", "expected FROM, found 'b'", None),
    ("SELECT a AS [select] FROM t", "expected an alias, found 'select'", 'write "select" if it is a name'),
    ("SELECT [5m] FROM t", "'5m' is not a number", None),
    ("SELECT [1_000] FROM t", "'1_000' is not a number", None),
    ("SELECT [0x1F] FROM t", "'0x1F' is not a number", None),
    ("SELECT 'a' ['b'] FROM t", "expected FROM, found 'b'", None),
    ("SELECT a FROM[]", "expected a stream or a 'file', found the end of the query", None),
    ("SELECT a FROM ['']", "the path of a file is empty", None),
    ("SELECT a FROM t WHERE[]", "expected an expression, found the end of the query", None),
    ("SELECT a FROM t WHERE a =[]  ", "expected an expression, found the end of the query", None),
    ("SELECT (a [FROM] t", "expected ')', found 'FROM'", None),
    ("SELECT a FROM t WHERE a IN ([)]", "expected an expression, found ')'", None),
    ("SELECT a FROM t WHERE a IN (1,[)]", "expected an expression, found ')'", None),
    ("SELECT a FROM t WHERE a IN [b]", "expected '(', found 'b'", None),
    ("SELECT a FROM t WHERE a BETWEEN 1 [OR] 2", "expected AND, found 'OR'", None),
    ("SELECT CASE WHEN a [ELSE] 1 END FROM t", "expected THEN, found 'ELSE'", None),
    ("SELECT CASE a [END] FROM t", "expected WHEN, found 'END'", None),
    ("SELECT CASE WHEN a THEN 1 [FROM] t", "expected END, found 'FROM'", None),
    ("SELECT CAST(a [INT]) FROM t", "expected AS, found 'INT'", None),
    ("SELECT a::[1] FROM t", "expected a type, found '1'", None),
    ("SELECT COUNT(a [b]) FROM t", "expected ')', found 'b'", None),
    ("SELECT f(a,[)] FROM t", "expected an expression, found ')'", None),
    ("SELECT a FROM t WHERE a [WHERE] b", "WHERE stands here for the second time", None),
    (
        "SELECT a FROM t HAVING a [GROUP] BY a",
        "GROUP BY stands behind HAVING",
        "write GROUP BY before HAVING",
    ),
    ("SELECT a FROM t GROUP [a]", "expected BY, found 'a'", None),
    ("SELECT a FROM t EMIT [NOW]", "expected CHANGES or FINAL, found 'NOW'", None),
    ("SELECT a FROM t WITH ([k] = 1)", "expected a key in quotes, found 'k'", None),
    ("SELECT a FROM t WITH ('k' = [v])", "expected a value in quotes, found 'v'", None),
    ("SELECT a FROM t WITH ('k' = 1, ['k'] = 2)", "option 'k' is given twice", None),
    ("SELECT a FROM t WITH ([)]", "expected a key in quotes, found ')'", None),
    (
        "CREATE STREAM s WITH ('k' = 1) AS SELECT a FROM t [WITH] ('l' = 1)",
        "WITH stands here for the second time",
        None,
    ),
    ("CREATE STREAM s (a INT, [A] INT)", "column 'A' is declared twice", "names differ in more than case"),
    ("CREATE STREAM s (a [INTT])", "unknown type 'INTT'", "did you mean 'INT'?"),
    ("CREATE STREAM s ([)]", "expected a column, found ')'", None),
    (
        "SELECT a FROM t WINDOW [TUMBLIN](5m)",
        "unknown kind of window 'TUMBLIN'",
        "did you mean 'TUMBLING'?",
    ),
    ("SELECT a FROM t WINDOW TUMBLING([5])", "a duration needs a unit, as in 5s", None),
    ("SELECT a FROM t WINDOW TUMBLING([5] m)", "a duration needs a unit, as in 5s", None),
    (
        "SELECT a FROM t WINDOW TUMBLING(5[x])",
        "unknown unit 'x'",
        "expected one of ns, us, ms, s, m, h, d, w",
    ),
    ("SELECT a FROM t WINDOW TUMBLING([1.5]m)", "expected a whole number, found '1.5'", None),
    ("SELECT a FROM t WINDOW TUMBLING([0m])", "a window has a size above zero", None),
    ("SELECT a FROM t WINDOW TUMBLING([5ns])", "a window is a whole number of microseconds", None),
    ("SELECT a FROM t WINDOW TUMBLING([999999999999w])", "this window is too long", None),
    (
        "SELECT a FROM t WINDOW TUMBLING(INTERVAL '1' [MINUT])",
        "unknown unit 'MINUT'",
        "did you mean 'MINUTE'?",
    ),
    ("SELECT a FROM t WINDOW TUMBLING(INTERVAL ['x'] DAY)", "expected a whole number, found 'x'", None),
    (
        "SELECT a FROM t WINDOW TUMBLING(ts, [x])",
        "expected a duration such as INTERVAL '1' MINUTE or 5m, found 'x'",
        None,
    ),
    ("SELECT a FROM [TUMBEL](TABLE t)", "unknown table function 'TUMBEL'", "did you mean 'TUMBLE'?"),
    ("SELECT a FROM TUMBLE([t])", "expected TABLE, found 't'", None),
    ("SELECT a [€] b FROM t", "unexpected character '€'", None),
    ("SELECT a b[€] FROM t", "unexpected character '€'", None),
    ("SELECT a [#] b FROM t", "expected FROM, found '#'", None),
    ('SELECT [""] FROM t', "an empty name", None),
    ("[;]", "the query is empty", "write a SELECT"),
    ("[-]- nothing", "the query is empty", "write a SELECT"),
]
UNSUPPORTED = [
    ("SELECT volume FROM trades [ORDER] BY volume", "ORDER BY is not supported", None),
    ("SELECT volume FROM trades [LIMIT] 5", "LIMIT is not supported", None),
    ("SELECT volume FROM trades [OFFSET] 5", "OFFSET is not supported", None),
    ("SELECT volume FROM trades [JOIN] u ON a", "JOIN is not supported", None),
    ("SELECT volume FROM trades t [LEFT] JOIN u ON a", "JOIN is not supported", None),
    ("SELECT volume FROM trades[,] u", "a join by ',' is not supported", None),
    ("SELECT volume FROM trades [UNION] SELECT 1", "UNION is not supported", None),
    ("SELECT volume FROM trades WHERE open [QUALIFY] open", "QUALIFY is not supported", None),
    ("SELECT volume [INTO] x FROM trades", "INTO is not supported", None),
    (
        "SELECT [DISTINCT] volume FROM trades",
        "SELECT DISTINCT is not supported",
        "GROUP BY the columns instead",
    ),
    ("SELECT * [EXCLUDE] (volume) FROM trades", "* EXCLUDE is not supported", None),
    ("[SELECT 1]", "a query without FROM is not supported", "name a stream or a 'file'"),
    ("SELECT a FROM [(]SELECT 1)", "a subquery in FROM is not supported", "CREATE STREAM from it first"),
    ("SELECT ([SELECT] 1) FROM trades", "a subquery is not supported", None),
    ("SELECT a FROM trades WHERE volume IN ([SELECT] 1)", "a subquery is not supported", None),
    ("SELECT a FROM trades WHERE [EXISTS] (SELECT 1)", "EXISTS is not supported", None),
    (
        "[WITH] x AS (SELECT 1) SELECT * FROM x",
        "the statement WITH is not supported",
        "a script is made of SELECT and CREATE",
    ),
    (
        "[INSERT] INTO x SELECT 1",
        "the statement INSERT is not supported",
        "a script is made of SELECT and CREATE",
    ),
    ("[(]SELECT 1)", "a query in parentheses is not supported", "start with SELECT"),
    ("[CREATE OR] REPLACE STREAM s AS SELECT 1", "CREATE OR is not supported", "use CREATE STREAM"),
    ("[CREATE VIEW] s AS SELECT 1", "CREATE VIEW is not supported", "use CREATE STREAM"),
    ("CREATE STREAM [IF NOT EXISTS] s AS SELECT 1", "IF NOT EXISTS is not supported", None),
    ("CREATE STREAM s (a INT) [AS] SELECT 1", "AS SELECT behind a list of columns is not supported", None),
    (
        "CREATE STREAM s (a INT [NOT] NULL)",
        "the constraint NOT NULL is not supported",
        "every column can be NULL; filter with WHERE … IS NOT NULL",
    ),
    (
        "CREATE STREAM s (a INT [PRIMARY] KEY)",
        "the constraint PRIMARY is not supported",
        "every column can be NULL; filter with WHERE … IS NOT NULL",
    ),
    (
        "SELECT a FROM trades WINDOW [HOPPING](5m, 1m)",
        "a window of kind HOPPING is not supported",
        "use TUMBLING",
    ),
    (
        "SELECT a FROM trades WINDOW [SESSION](5m)",
        "a window of kind SESSION is not supported",
        "use TUMBLING",
    ),
    ("SELECT a FROM trades WINDOW [w AS] (PARTITION BY a)", "a named window is not supported", None),
    ("SELECT a FROM trades WINDOW TUMBLING(ts, 5m[,] 1m)", "the offset of a window is not supported", None),
    (
        "SELECT a FROM [HOP](TABLE t, DESCRIPTOR(ts), 1)",
        "the table function HOP is not supported",
        "use TUMBLE",
    ),
    ("SELECT a FROM [read_csv]('x')", "the table function READ_CSV is not supported", "use TUMBLE"),
    (
        "SELECT a FROM trades WINDOW TUMBLING(INTERVAL '1' [MONTH])",
        "a window in MONTHS is not supported",
        "months and years differ in length; use days",
    ),
    (
        "SELECT a FROM trades WINDOW TUMBLING(INTERVAL '2' [YEARS])",
        "a window in YEARS is not supported",
        "months and years differ in length; use days",
    ),
    ("SELECT SUM(a) [OVER] (PARTITION BY b) FROM trades", "OVER is not supported", None),
    ("SELECT SUM(a) [WITHIN] GROUP (ORDER BY b) FROM trades", "WITHIN GROUP is not supported", None),
    ("SELECT MIN(a) [IGNORE] NULLS FROM trades", "IGNORE NULLS is not supported", None),
    ("SELECT MIN(a [ORDER] BY b) FROM trades", "ORDER BY is not supported", None),
    (
        "SELECT TRIM([BOTH] 'x' FROM symbol) FROM trades",
        "TRIM(BOTH …) is not supported",
        "use TRIM, LTRIM or RTRIM",
    ),
    ("SELECT a[[]1] FROM trades", "the subscript is not supported", None),
    ("SELECT a [->] 'b' FROM trades", "the lambda is not supported", None),
    ("SELECT f(a [=>] 1) FROM trades", "the named argument is not supported", None),
    ("SELECT a [^] 2 FROM trades", "the operator '^' is not supported", None),
    ("SELECT [{]% raw %} FROM trades", "the struct is not supported", None),
    ("SELECT [?] FROM trades", "the parameter is not supported", None),
    ("SELECT [$]1 FROM trades", "the parameter is not supported", None),
    ("SELECT [(a,] b) FROM trades", "a row value is not supported", None),
    ("SELECT [a.b.c] FROM trades", "a name of more than two parts is not supported", None),
    ("SELECT a FROM [x.y]", "a stream's name of two parts is not supported", None),
    ("SELECT ts [AT TIME ZONE] 'UTC' FROM trades", "AT TIME ZONE is not supported", None),
    (
        "SELECT ts + [INTERVAL '1'] DAY FROM trades",
        "INTERVAL in an expression is not supported",
        "an interval stands only as the size of a window",
    ),
    ("SELECT a FROM trades WHERE a BETWEEN [SYMMETRIC] 1 AND 2", "BETWEEN SYMMETRIC is not supported", None),
    ("SELECT [volume IS DISTINCT FROM 1] FROM trades", "IS DISTINCT FROM is not supported", None),
    ("SELECT volume FROM trades GROUP BY [ALL]", "GROUP BY ALL is not supported", None),
    ("SELECT volume FROM trades GROUP BY [ROLLUP] (volume)", "GROUP BY ROLLUP is not supported", None),
    (
        "SELECT volume FROM [TUMBLE(TABLE trades, DESCRIPTOR(ts), 5m)]",
        "a window without aggregation is not supported",
        "add GROUP BY or an aggregate such as COUNT(*)",
    ),
]
WRONG = [
    ("SELECT a FROM [trade]", "unknown stream 'trade'", "did you mean 'trades'?"),
    ("SELECT [pric] FROM trades", "unknown column 'pric' in 'trades'", "did you mean 'price'?"),
    ('SELECT ["PRICE"] FROM trades', "unknown column 'PRICE' in 'trades'", "did you mean 'price'?"),
    ("SELECT [t.pric] FROM trades t", "unknown column 'pric' in 't'", "did you mean 'price'?"),
    ("SELECT [trade].price FROM trades", "unknown stream 'trade'", "did you mean 'trades'?"),
    ("SELECT [trades].price FROM trades x", "unknown stream 'trades'", "expected one of 'x'"),
    ("SELECT [x].* FROM trades", "unknown stream 'x'", "expected one of 'trades'"),
    ("SELECT [lenght](symbol) FROM trades", "unknown function 'lenght'", "did you mean 'length'?"),
    ("SELECT [cuont](*) FROM trades", "unknown function 'cuont'", "did you mean 'COUNT'?"),
    ("SELECT [add](1, 2) FROM trades", "unknown function 'add'", None),
    ("SELECT [symbol + 1] FROM trades", "'+' does not take (VARCHAR, BIGINT)", "expected (number, number)"),
    ("SELECT [-symbol] FROM trades", "'negate' does not take (VARCHAR)", "expected (number)"),
    ("SELECT [+symbol] FROM trades", "'negate' does not take (VARCHAR)", "expected (number)"),
    (
        "SELECT [volume = symbol] FROM trades",
        "BIGINT and VARCHAR have no common type",
        "make them one type with CAST",
    ),
    ("SELECT a FROM clockless WHERE [a]", "WHERE needs BOOLEAN, this is BIGINT", "compare it with something"),
    (
        "SELECT a FROM clockless WHERE NOT [a]",
        "NOT needs BOOLEAN, this is BIGINT",
        "compare it with something",
    ),
    (
        "SELECT open AND [volume] FROM trades",
        "AND needs BOOLEAN, this is BIGINT",
        "compare it with something",
    ),
    (
        "SELECT CASE WHEN [1] THEN 2 END FROM trades",
        "WHEN needs BOOLEAN, this is BIGINT",
        "compare it with something",
    ),
    (
        "SELECT [CASE WHEN open THEN 1 ELSE 'x' END] FROM trades",
        "BIGINT and VARCHAR have no common type",
        "make them one type with CAST",
    ),
    ("SELECT open IS [5] FROM trades", "IS takes NULL, TRUE or FALSE", "compare with '='"),
    ("SELECT CAST(volume AS [BIGNIT]) FROM trades", "unknown type 'BIGNIT'", "did you mean 'BIGINT'?"),
    ("SELECT volume::[DECIMAL(50)] FROM trades", "DECIMAL has 1 to 38 digits, not 50", None),
    ("SELECT [day::INTEGER] FROM trades", "DATE cannot be cast to INTEGER", None),
    (
        "SELECT ts > ['2020-02-30'] FROM trades",
        "'2020-02-30' is not a TIMESTAMP",
        "write it as '2013-01-31 12:30:00'",
    ),
    ("SELECT day IN ('2020-01-01', ['x']) FROM trades", "'x' is not a DATE", "write it as '2013-01-31'"),
    (
        "SELECT day = ['2020-01-01 10:00'] FROM trades",
        "'2020-01-01 10:00' has a time of day, a DATE has none",
        "leave the time out, or cast the column to TIMESTAMP",
    ),
    ("SELECT [DATE 'soon'] FROM trades", "'soon' is not a DATE", "write it as '2013-01-31'"),
    ("SELECT [1e999] FROM trades", "'1e999' is too large for DOUBLE", None),
    ("SELECT EXTRACT([yeer] FROM ts) FROM trades", "unknown part of a date 'yeer'", "did you mean 'year'?"),
    ("SELECT date_part(['yeer'], ts) FROM trades", "unknown part of a date 'yeer'", "did you mean 'year'?"),
    (
        "SELECT volume + 1 AS k FROM trades WHERE [k] > 1",
        "unknown column 'k' in 'trades'",
        "'k' is an alias; repeat its expression in WHERE",
    ),
    (
        "SELECT volume FROM trades WHERE [SUM(volume)] > 1",
        "the aggregate 'SUM' cannot stand in WHERE",
        "filter groups with HAVING",
    ),
    (
        "SELECT 1 AS x FROM trades GROUP BY [SUM(volume)]",
        "the aggregate 'SUM' cannot stand in GROUP BY",
        None,
    ),
    (
        "SELECT [SUM(volume)] AS s FROM trades GROUP BY s",
        "the aggregate 'SUM' cannot stand in GROUP BY",
        None,
    ),
    (
        "SELECT MAX([SUM(volume)]) FROM trades",
        "the aggregate 'SUM' stands inside another aggregate",
        "compute the inner one in a stream of its own",
    ),
    (
        "SELECT COUNT(*) FILTER (WHERE [SUM(volume)] > 1) FROM trades",
        "the aggregate 'SUM' stands inside another aggregate",
        "compute the inner one in a stream of its own",
    ),
    (
        "SELECT COUNT(*) FILTER (WHERE [volume]) FROM trades",
        "FILTER needs BOOLEAN, this is BIGINT",
        "compare it with something",
    ),
    (
        "SELECT [UPPER(symbol)] FILTER (WHERE open) FROM trades",
        "FILTER needs an aggregate, and 'UPPER' is none",
        None,
    ),
    ("SELECT [UPPER(DISTINCT symbol)] FROM trades", "DISTINCT needs an aggregate, and 'UPPER' is none", None),
    ("SELECT UPPER([*]) FROM trades", "'UPPER' does not take '*'", None),
    ("SELECT SUM([*]) FROM trades", "'SUM' does not take '*'", "only COUNT does"),
    ("SELECT [COUNT()] FROM trades", "'COUNT' takes one argument, not 0", "write COUNT(*)"),
    ("SELECT [SUM(volume, 1)] FROM trades", "'SUM' takes one argument, not 2", None),
    (
        "SELECT [volume], COUNT(*) FROM trades",
        "column 'volume' is neither grouped nor aggregated",
        "add it to GROUP BY, or use an aggregate such as MAX",
    ),
    (
        "SELECT symbol FROM trades GROUP BY symbol HAVING [volume] > 1",
        "column 'volume' is neither grouped nor aggregated",
        "add it to GROUP BY, or use an aggregate such as MAX",
    ),
    (
        "SELECT symbol FROM trades GROUP BY [2]",
        "GROUP BY position 2 is not in the SELECT list",
        "it has 1 column",
    ),
    (
        "SELECT symbol FROM trades GROUP BY [0]",
        "GROUP BY position 0 is not in the SELECT list",
        "it has 1 column",
    ),
    (
        "SELECT COUNT(*) FROM clockless WINDOW [TUMBLING(5m)]",
        "this window has no time column",
        "write TUMBLING(column, …), or set event_time of 'clockless'",
    ),
    (
        "SELECT COUNT(*) FROM clockless WINDOW TUMBLING([day], 5m)",
        "the time of a window is a TIMESTAMP, 'day' is DATE",
        "declare it as TIMESTAMP, or cast it in a stream of its own",
    ),
    (
        "SELECT COUNT(*) FROM trades WINDOW TUMBLING([tss], 5m)",
        "unknown column 'tss' in 'trades'",
        "did you mean 'ts'?",
    ),
    (
        "SELECT COUNT(*) FROM trades WINDOW TUMBLING([x].ts, 5m)",
        "unknown stream 'x'",
        "expected one of 'trades'",
    ),
    (
        "SELECT MAX([_window_start]) FROM trades WINDOW TUMBLING(5m)",
        "'_window_start' cannot stand inside an aggregate",
        None,
    ),
    (
        "SELECT [_window_strat] FROM trades WINDOW TUMBLING(5m)",
        "unknown column '_window_strat' in 'trades'",
        "did you mean '_window_start'?",
    ),
    (
        "SELECT COUNT(*) FROM TUMBLE(TABLE trades, DESCRIPTOR(ts), 5m) WINDOW [TUMBLING(5m)]",
        "a query has one window, and TUMBLE is one",
        None,
    ),
    (
        "CREATE STREAM [trades] AS SELECT price FROM trades",
        "stream 'trades' is read before it is created",
        "create it first, or choose another name",
    ),
    (
        "CREATE STREAM s (a INT); CREATE STREAM [S] AS SELECT price FROM trades",
        "stream 'S' is created twice",
        None,
    ),
    ("SELECT a FROM 'x/t.csv'; SELECT a FROM ['y/t.csv']", "two inputs are called 't'", "give one an alias"),
]


def _case(marked: str) -> tuple[str, int, int]:
    """The text without its marks, and where they stood; `[[]` marks the bracket itself."""
    start = marked.index("[")
    text = marked[:start] + marked[start + 1 :]
    end = text.index("]", start)
    return text[:end] + text[end + 1 :], start, end


def _refused(kind: type[SqlError], marked: str, message: str, hint: str | None) -> None:
    text, start, end = _case(marked)
    with pytest.raises(kind) as caught:
        bind(parse(text, "q.sql"), CATALOG)
    error = caught.value
    assert (error.message, error.hint) == (message, hint)
    assert error.where == Where.in_text(text, start, max(end, start + 1), "q.sql")


@pytest.mark.parametrize(("marked", "message", "hint"), SYNTAX)
def test_syntax_error_says_what_was_expected(marked: str, message: str, hint: str | None) -> None:
    _refused(ParseError, marked, message, hint)


@pytest.mark.parametrize(("marked", "message", "hint"), UNSUPPORTED)
def test_unsupported_construct_is_named(marked: str, message: str, hint: str | None) -> None:
    _refused(UnsupportedError, marked, message, hint)


@pytest.mark.parametrize(("marked", "message", "hint"), WRONG)
def test_wrong_name_or_type_is_told(marked: str, message: str, hint: str | None) -> None:
    _refused(BindError, marked, message, hint)


@pytest.mark.parametrize(
    ("text", "start", "message", "hint"),
    [
        ("SELECT a,\n  'it''s", 12, "this text does not end", "close it with '"),
        ('SELECT "a FROM t', 7, "this name does not end", 'close it with "'),
        ("SELECT a /* b", 9, "this comment does not end", "close it with */"),
    ],
)
def test_text_name_and_comment_must_end(text: str, start: int, message: str, hint: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.where == Where.in_text(text, start, len(text))


def test_ambiguous_name_asks_for_quotes() -> None:
    pair = StreamInfo("pair", pa.schema([("Ab", pa.int64()), ("aB", pa.int64())]))
    with pytest.raises(BindError) as caught:
        bind(parse("SELECT ab FROM pair"), {"pair": pair})
    assert (caught.value.message, caught.value.hint) == ("column 'ab' is ambiguous", 'write "Ab" or "aB"')


def test_all_errors_of_a_script_are_told_at_once() -> None:
    text = (
        "CREATE STREAM a AS SELECT pric, UPPER(1, 2) FROM trades WHERE volum > 1;\n"
        "SELECT anything FROM a;\n"
        "SELECT symbol FROM trades GROUP BY symbl"
    )
    with pytest.raises(Problems) as caught:
        bind(parse(text), CATALOG)
    assert [str(error.where) for error in caught.value.errors] == [
        "query:1:63",
        "query:1:27",
        "query:1:33",
        "query:3:36",
    ]


def test_syntax_errors_of_several_statements_are_told_at_once() -> None:
    with pytest.raises(Problems) as caught:
        parse("SELECT FROM t;\nSELECT a FROM t LIMIT 1;\nSELECT a FROM t;\nDROP TABLE t")
    assert [type(error) for error in caught.value.errors] == [ParseError, UnsupportedError, UnsupportedError]
    assert [str(error.where) for error in caught.value.errors] == ["query:1:8", "query:2:17", "query:4:1"]


def test_error_shows_line_and_caret() -> None:
    with pytest.raises(BindError) as caught:
        bind(parse("SELECT symbol,\n       SUM(pric) AS s\nFROM trades GROUP BY symbol", "vwap.sql"), CATALOG)
    assert caught.value.render() == (
        "vwap.sql:2:12: unknown column 'pric' in 'trades'; did you mean 'price'?\n"
        "  2 |        SUM(pric) AS s\n"
        "                 ^^^^"
    )


@pytest.mark.parametrize(
    "text", ["SELECT " + "(" * 5000 + "1", "SELECT " + "NOT " * 20000 + "open FROM trades"]
)
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedError, match="an expression nested this deep is not supported"):
        parse(text)


def test_long_chains_of_or_are_bound() -> None:
    text = "SELECT volume FROM trades WHERE " + " OR ".join(f"volume = {i}" for i in range(3000))
    predicate = bind(parse(text), CATALOG).queries[0].root.input.predicate
    assert sum(str(node).startswith("eq(volume, ") for node in predicate.walk()) == 3000


def test_long_chain_of_another_operator_is_refused() -> None:
    text = "SELECT " + " + ".join(["volume"] * 3000) + " FROM trades"
    with pytest.raises(UnsupportedError, match="an expression nested this deep is not supported"):
        bind(parse(text), CATALOG)
