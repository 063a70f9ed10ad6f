"""Plans of whole queries: clauses, grouping, windows."""

from __future__ import annotations

import pyarrow as pa
import pytest
from sql_plans import CATALOG, bound, plan

from velostream.sql.binder import bind
from velostream.sql.logical import WINDOW_END, WINDOW_START
from velostream.sql.parser import parse


def test_select_is_project_over_filter_over_scan() -> None:
    assert plan("SELECT volume, quantity+1 AS c FROM trades WHERE volume > 2") == [
        "project volume = volume, c = add(CAST(quantity AS int64), 1)",
        "filter gt(volume, 2)",
        "scan trades",
    ]


def test_aliases_with_and_without_as() -> None:
    assert plan('SELECT t.price p, volume "Out Put" FROM Trades AS t') == [
        "project p = price, Out Put = volume",
        "scan trades",
    ]


def test_star_is_every_column_and_may_be_qualified() -> None:
    columns = CATALOG["trades"].schema.names
    assert bound("SELECT * FROM trades").schema.names == columns
    assert bound("SELECT t.*, price AS again FROM trades t").schema.names == [*columns, "again"]


def test_quoted_name_is_exact_and_unquoted_matches_in_any_case() -> None:
    assert plan('SELECT A, "A b" FROM clockless') == ["project a = a, A b = A b", "scan clockless"]
    assert plan('SELECT a, A, "A" FROM twins') == ["project a = a, A_1 = A, A_2 = A", "scan twins"]


def test_group_by_column_expression_position_and_alias() -> None:
    aggregate = "aggregate _k0 = modulo(volume, 10), _a0 = COUNT(*)"
    for query in (
        "SELECT volume % 10 AS rest, COUNT(*) AS n FROM trades GROUP BY volume % 10",
        "SELECT volume % 10 AS rest, COUNT(*) AS n FROM trades GROUP BY 1",
        "SELECT volume % 10 AS rest, COUNT(*) AS n FROM trades GROUP BY rest",
        "SELECT volume % 10 AS rest, COUNT(*) AS n FROM trades GROUP BY Rest, 1, volume%10",
    ):
        assert plan(query) == ["project rest = _k0, n = _a0", aggregate, "scan trades"]


def test_key_is_found_inside_an_expression() -> None:
    assert plan("SELECT (volume % 10) * 2 + COUNT(*) AS x FROM trades GROUP BY volume % 10") == [
        "project x = add(multiply(_k0, 2), _a0)",
        "aggregate _k0 = modulo(volume, 10), _a0 = COUNT(*)",
        "scan trades",
    ]


def test_column_of_the_input_wins_over_an_alias_in_group_by() -> None:
    assert plan("SELECT symbol AS volume, COUNT(*) AS n FROM trades GROUP BY volume, symbol") == [
        "project volume = _k1, n = _a0",
        "aggregate _k0 = volume, _k1 = symbol, _a0 = COUNT(*)",
        "scan trades",
    ]


def test_group_by_without_aggregates() -> None:
    assert plan("SELECT symbol FROM trades GROUP BY symbol") == [
        "project symbol = _k0",
        "aggregate _k0 = symbol",
        "scan trades",
    ]


def test_aggregates_without_group_by_are_one_group() -> None:
    assert plan("SELECT MIN(price) AS low, MAX(price) - MIN(price) AS spread FROM trades") == [
        "project low = _a0, spread = subtract(_a1, _a0)",
        "aggregate _a0 = MIN(price), _a1 = MAX(price)",
        "scan trades",
    ]


def test_aggregates_with_distinct_and_filter() -> None:
    assert plan(
        "SELECT COUNT(DISTINCT symbol) AS a, SUM(quantity) FILTER (WHERE open) AS b, COUNT(symbol) AS c,"
        " SUM(DISTINCT fee) FILTER (WHERE volume > 1) AS d FROM trades"
    ) == [
        "project a = _a0, b = _a1, c = _a2, d = _a3",
        "aggregate _a0 = COUNT(DISTINCT symbol), _a1 = SUM(CAST(quantity AS int64)) FILTER open, "
        "_a2 = COUNT(symbol), _a3 = SUM(DISTINCT fee) FILTER gt(volume, 1)",
        "scan trades",
    ]


def test_types_of_aggregates() -> None:
    schema = bound(
        "SELECT COUNT(*), SUM(quantity), SUM(fee), AVG(fee), AVG(volume), MIN(day) FROM trades"
    ).schema
    assert schema.types == [
        pa.int64(),
        pa.int64(),
        pa.decimal128(38, 2),
        pa.decimal128(38, 6),
        pa.float64(),
        pa.date32(),
    ]


def test_having_takes_aliases_keys_and_aggregates_of_its_own() -> None:
    assert plan(
        "SELECT symbol s, COUNT(*) AS n FROM trades WHERE open GROUP BY symbol"
        " HAVING n > 1 AND COUNT(*) < 9 AND MAX(volume) > 5 AND s <> 'x'"
    ) == [
        "project s = _k0, n = _a0",
        "filter and(and(gt(_a0, 1), lt(_a0, 9)), and(gt(_a1, 5), ne(_k0, 'x')))",
        "aggregate _k0 = symbol, _a0 = COUNT(*), _a1 = MAX(volume)",
        "filter open",
        "scan trades",
    ]


def test_alias_hides_an_ungrouped_column_in_having_but_not_in_an_aggregate() -> None:
    assert plan("SELECT SUM(volume) AS volume FROM trades GROUP BY symbol HAVING volume > MAX(volume)") == [
        "project volume = _a0",
        "filter gt(_a0, _a1)",
        "aggregate _k0 = symbol, _a0 = SUM(volume), _a1 = MAX(volume)",
        "scan trades",
    ]


WINDOWED = [
    "project symbol = _k0, _window_start = _window_start, n = _a0",
    "aggregate _k0 = symbol, _a0 = COUNT(*) over tumble(ts, 60000000 us)",
    "scan trades",
]


@pytest.mark.parametrize(
    "window",
    [
        "TUMBLING(ts, INTERVAL '1' MINUTE)",
        "TUMBLING(trades.ts, INTERVAL '60' SECONDS)",
        "TUMBLING(INTERVAL '1 minute')",
        "TUMBLING(INTERVAL 1 MINUTE)",
        "TUMBLING(ts, 60s)",
        "TUMBLING(1m)",
        "tumbling(60000ms)",
        "TUMBLING(60000000us)",
        "TUMBLING(60000000000ns)",
    ],
)
def test_window_forms(window: str) -> None:
    select = "SELECT symbol, _window_start, COUNT(*) AS n FROM trades"
    assert plan(f"{select} GROUP BY symbol WINDOW {window}") == WINDOWED
    assert plan(f"{select} WINDOW {window} GROUP BY symbol") == WINDOWED
    assert plan(f"{select} GROUP BY _window_start, symbol, _window_end WINDOW {window}") == WINDOWED


@pytest.mark.parametrize(
    ("size", "size_us"),
    [
        ("2h", 7_200_000_000),
        ("1d", 86_400_000_000),
        ("1w", 604_800_000_000),
        ("INTERVAL '2' WEEK", 1_209_600_000_000),
    ],
)
def test_window_sizes(size: str, size_us: int) -> None:
    query = bind(parse(f"SELECT COUNT(*) FROM trades WINDOW TUMBLING({size})"), CATALOG).queries[0]
    assert query.root.input.window.size_us == size_us


@pytest.mark.parametrize("keys", ["symbol", "symbol, window_start, window_end", "w.window_start, 1"])
def test_tumble_function_groups_by_its_window(keys: str) -> None:
    tumble = "TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE) w"
    assert plan(
        f"SELECT symbol, window_start, w.window_end, COUNT(*) AS n FROM {tumble} GROUP BY {keys}"
    ) == [
        "project symbol = _k0, window_start = _window_start, window_end = _window_end, n = _a0",
        *WINDOWED[1:],
    ]


def test_window_bounds_in_expressions_and_having() -> None:
    assert plan(
        "SELECT COUNT(*) AS n FROM trades WINDOW TUMBLING(1m) HAVING _window_end > '2020-01-01' AND n > 1"
    ) == [
        "project n = _a0",
        "filter and(gt(_window_end, '2020-01-01 00:00:00'), gt(_a0, 1))",
        "aggregate _a0 = COUNT(*) over tumble(ts, 60000000 us)",
        "scan trades",
    ]


def test_window_of_a_query_over_windows_hides_the_column_of_its_name() -> None:
    first = "CREATE STREAM a AS SELECT _window_start, COUNT(*) AS n FROM trades WINDOW TUMBLING(1m);"
    second = "SELECT _window_start, a._window_start AS inner_start, SUM(n) AS n FROM a"
    grouped = "GROUP BY a._window_start WINDOW TUMBLING(_window_start, 1h)"
    assert plan(f"{first} {second} {grouped}") == [
        "project _window_start = _window_start, inner_start = _k0, n = _a0",
        "aggregate _k0 = _window_start, _a0 = SUM(n) over tumble(_window_start, 3600000000 us)",
        "scan a",
    ]


def test_internal_names_avoid_those_of_the_input() -> None:
    first = "CREATE STREAM a AS SELECT volume AS _k0, price AS _a0 FROM trades;"
    query = f"{first} SELECT _k0, MAX(_a0) AS m FROM a GROUP BY _k0"
    assert plan(query) == [
        "project _k0 = __k0, m = __a0",
        "aggregate __k0 = _k0, __a0 = MAX(_a0)",
        "scan a",
    ]
    aggregate = bound(query).input
    assert aggregate.schema.names == ["__k0", "__a0"]
    assert WINDOW_START not in aggregate.schema.names and WINDOW_END not in aggregate.schema.names


def test_emit_and_options_in_either_order() -> None:
    for tail in ("EMIT CHANGES WITH ('k' = 'v', 'n' = 1)", "WITH ('k'='v','n'=1) EMIT CHANGES"):
        query = bind(parse(f"CREATE TABLE out AS SELECT price FROM trades {tail}"), CATALOG).queries[0]
        assert (query.name, query.kind, query.emit) == ("out", "table", "changes")
        assert query.options == {"k": "v", "n": "1"}
    script = parse("CREATE STREAM out WITH ('k' = TRUE) AS SELECT price FROM trades EMIT FINAL")
    (query,) = bind(script, CATALOG).queries
    assert (query.kind, query.emit, query.options) == ("stream", "final", {"k": "true"})
    assert bind(parse("SELECT price FROM trades"), CATALOG).queries[0].emit is None


def test_later_query_reads_an_earlier_one() -> None:
    script = "CREATE STREAM Big AS SELECT symbol, volume*2 AS twice FROM trades; SELECT twice FROM big"
    first, second = bind(parse(script), CATALOG).queries
    assert second.root.schema == pa.schema([("twice", pa.int64())])
    assert second.root.input.stream == first.name == "Big"
