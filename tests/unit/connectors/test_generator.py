"""Generated records depend on the seed and their number, and on nothing else."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.connectors.base import Limits
from velostream.connectors.generator import GeneratorSource, GeneratorSourceConfig
from velostream.connectors.generator.draws import Draws
from velostream.errors import ConfigError, ConnectorError, Problems

TRADES: dict[str, Any] = {
    "schema": {
        "symbol": "VARCHAR",
        "price": "DECIMAL(10, 2)",
        "quantity": "SMALLINT",
        "ts": "TIMESTAMP",
        "change": "DOUBLE",
        "buy": "BOOLEAN",
    },
    "columns": {
        "symbol": {"distribution": "cycle", "pattern": "SYM{:03d}", "count": 100},
        "price": {"distribution": "uniform", "low": "0.50", "high": 500},
        "quantity": {"distribution": "uniform", "low": 1, "high": 1000, "nulls": 0.25},
        "ts": {"distribution": "sequence", "start": "2024-01-01T00:00:00Z", "step": "1ms", "jitter": "5ms"},
        "change": {"distribution": "normal", "mean": 1.0, "deviation": 0.5},
        "buy": {"distribution": "choice", "values": [True, False], "weights": [3, 1]},
    },
    "count": 1000,
}


def generator(**settings: Any) -> GeneratorSource:
    return GeneratorSource("trades", GeneratorSourceConfig(**{**TRADES, **settings}))


def one(type_name: str, column: dict[str, Any], **settings: Any) -> pa.ChunkedArray:
    made = generator(schema={"x": type_name}, columns={"x": column}, **settings)
    return table(made)["x"]


def table(made: GeneratorSource, limits: Limits = Limits(), partition: int = 0) -> pa.Table:  # noqa: B008
    reader = made.reader(partition, limits)
    batches = [block.load() for block in iter(reader.read, None)]
    return pa.Table.from_batches(batches, schema=made.schema.arrow())


@given(st.integers(1, 200), st.integers(1, 8000), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_any_block_size_and_start_gives_the_same_records(records: int, max_bytes: int, offset: int) -> None:
    made = generator(count=150)
    expected = table(made)
    assert expected.num_rows == 150
    assert table(made, Limits(records=records)).equals(expected)
    assert table(made, Limits(max_bytes=max_bytes)).equals(expected)
    reader = made.reader(0, Limits(records=records), offset)
    rest = pa.Table.from_batches([block.load() for block in iter(reader.read, None)])
    assert rest.equals(expected.slice(offset))


@pytest.mark.parametrize("partitions", [2, 3, 7])
def test_partitions_deal_out_the_same_records_in_turn(partitions: int) -> None:
    expected = table(generator()).to_pylist()
    made = generator(partitions=partitions)
    parts = [table(made, Limits(records=9), partition).to_pylist() for partition in range(partitions)]
    assert len(made.partitions()) == partitions
    for partition, part in enumerate(parts):
        assert part == expected[partition::partitions]


def test_another_seed_gives_other_records_and_the_same_seed_the_same() -> None:
    assert table(generator(seed=1)).equals(table(generator(seed=1)))
    assert not table(generator(seed=1))["price"].equals(table(generator(seed=2))["price"])


def test_a_column_does_not_depend_on_the_others() -> None:
    alone = generator(schema={"price": "DECIMAL(10, 2)"}, columns={"price": TRADES["columns"]["price"]})
    assert table(alone)["price"].equals(table(generator())["price"])


def test_records_of_a_seed_are_the_same_in_every_version() -> None:
    assert Draws(7, "price").bits(np.arange(3, dtype=np.uint64)).tolist() == [
        8693209182496981721,
        17250706664726107935,
        12672521895178945051,
    ]
    first = table(generator(count=2, seed=7)).to_pylist()
    assert [str(row["price"]) for row in first] == ["327.93", "245.68"]


def test_values_keep_to_their_distribution() -> None:
    made = table(generator(count=20_000))
    assert made["symbol"].to_pylist()[98:102] == ["SYM098", "SYM099", "SYM000", "SYM001"]
    extremes = pc.min_max(made["price"]).as_py()
    assert Decimal("0.50") <= extremes["min"] < Decimal("1.50")
    assert Decimal(499) < extremes["max"] <= Decimal(500)
    assert abs(made["quantity"].null_count / 20_000 - 0.25) < 0.02
    assert pc.min_max(made["quantity"]).as_py() == {"min": 1, "max": 1000}
    assert abs(pc.mean(made["change"]).as_py() - 1.0) < 0.02
    assert abs(pc.stddev(made["change"]).as_py() - 0.5) < 0.02
    assert abs(pc.sum(made["buy"]).as_py() / 20_000 - 0.75) < 0.02


def test_jitter_puts_times_out_of_order_within_its_bounds() -> None:
    made = table(generator(count=5000))["ts"].cast(pa.int64()).to_numpy()
    distance = made - (1_704_067_200_000_000 + 1000 * np.arange(5000))
    assert distance.min() >= -5000 and distance.max() <= 5000
    assert distance.min() < -4900 and distance.max() > 4900
    assert (np.diff(made) < 0).any()


def test_zipf_makes_the_first_values_the_most_frequent() -> None:
    column = {"distribution": "zipf", "values": ["a", "b", "c", "d"], "exponent": 1.0}
    counts = Counter(one("VARCHAR", column, count=25_000).to_pylist())
    for rank, value in enumerate("abcd", 1):
        assert abs(counts[value] / 25_000 - 12 / 25 / rank) < 0.02


@pytest.mark.parametrize(
    ("type_name", "column", "expected"),
    [
        ("BIGINT", {"distribution": "sequence"}, [0, 1, 2]),
        ("DOUBLE", {"distribution": "sequence", "start": 0.5, "step": 0.25}, [0.5, 0.75, 1.0]),
        (
            "DATE",
            {"distribution": "sequence", "start": "2024-02-28", "step": "1d"},
            ["2024-02-28", "2024-02-29"],
        ),
        (
            "DECIMAL(5, 2)",
            {"distribution": "sequence", "start": "-0.01", "step": 0.01},
            ["-0.01", "0.00", "0.01"],
        ),
        ("VARCHAR", {"distribution": "constant", "value": "x"}, ["x", "x", "x"]),
        ("BIGINT", {"distribution": "constant"}, [None, None]),
        ("INTEGER", {"distribution": "cycle", "values": [7, None]}, [7, None, 7]),
        ("DECIMAL(5, 2)", {"distribution": "cycle", "values": ["1.5", 2]}, ["1.50", "2.00"]),
        ("TIMESTAMP", {"distribution": "cycle", "values": ["1970-01-01T00:00:00"]}, ["1970-01-01 00:00:00"]),
        ("BOOLEAN", {"distribution": "constant", "value": True, "nulls": 1.0}, [None]),
        ("BIGINT", {"distribution": "uniform", "low": 5, "high": 5}, [5, 5]),
        ("DOUBLE", {"distribution": "uniform", "low": 1, "high": 2, "digits": 0}, None),
    ],
)
def test_each_type_has_its_values(type_name: str, column: dict[str, Any], expected: list[Any] | None) -> None:
    found = one(type_name, column, count=3 if expected is None else len(expected)).to_pylist()
    if expected is None:
        assert set(found) <= {1.0, 2.0}
    else:
        plain = [value if isinstance(value, int | float | None) else str(value) for value in found]
        assert plain == expected


def test_the_whole_range_of_bigint_is_drawn_from() -> None:
    column = {"distribution": "uniform", "low": -(2**63), "high": 2**63 - 1}
    drawn = one("BIGINT", column, count=1000).to_pylist()
    assert min(drawn) < -(2**62) and max(drawn) > 2**62


def test_naive_times_are_in_the_zone_of_the_source() -> None:
    column = {"distribution": "constant", "value": "2024-07-01T12:00:00"}
    (value,) = one("TIMESTAMP", column, count=1, timezone="Europe/Paris").to_pylist()
    assert str(value) == "2024-07-01 10:00:00"


def test_without_a_count_it_has_no_end_and_is_unbounded() -> None:
    made = generator(count=0)
    assert not made.bounded and made.total_bytes() is None
    reader = made.reader(0, Limits(records=10))
    assert [block.next_offset for block in (reader.read() for _ in range(3)) if block] == [10, 20, 30]


def test_a_rate_holds_records_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", sleep)
    made = generator(rate=1000.0, count=5000)
    reader, given = made.reader(0, Limits()), 0
    while now[0] < 101.0:
        block = reader.read()
        assert block is not None
        given += block.next_offset - block.offset
        assert given <= (now[0] - 100.0) * 1000 + 1
    assert given >= 950
    assert max(slept) <= 0.05


def test_sizes_add_up_to_the_total() -> None:
    made = generator(count=5000)
    blocks = list(iter(made.reader(0, Limits(10_000)).read, None))
    assert sum(block.input_bytes for block in blocks) == made.total_bytes()


def test_all_mistakes_are_told_at_once_with_the_nearest_name() -> None:
    columns = {
        "symbol": {"distribution": "zip"},
        "price": {"distribution": "uniform", "lo": 1},
        "quantity": {"distribution": "uniform", "low": 1, "high": 100_000},
        "ts": {"distribution": "sequence", "start": "soon"},
        "change": {"distribution": "normal", "deviation": "wide"},
        "buy": {"distribution": "uniform"},
        "chang": {},
    }
    with pytest.raises(Problems) as caught:
        generator(columns=columns).columns  # noqa: B018
    assert [error.render() for error in caught.value.errors] == [
        "sources.trades.columns.chang: unknown column 'chang'; did you mean 'change'?",
        "sources.trades.columns.symbol.distribution: unknown distribution 'zip'; did you mean 'zipf'?",
        "sources.trades.columns.price.lo: unknown key 'lo' in 'sources.trades.columns.price'; "
        "did you mean 'low'?",
        "sources.trades.columns.quantity: '100000' is not a value of SMALLINT",
        "sources.trades.columns.ts: 'soon' is not a value of TIMESTAMP",
        "sources.trades.columns.change.deviation: 'sources.trades.columns.change.deviation' is 'wide', "
        "expected a number",
        "sources.trades.columns.buy: distribution 'uniform' makes no BOOLEAN; "
        "use constant, cycle, choice or zipf",
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({}, "unknown distribution ''"),
        ({"distribution": "cycle"}, "give either values, or pattern and count"),
        ({"distribution": "cycle", "pattern": "a{", "count": 3}, "'a{' is not a pattern"),
        ({"distribution": "cycle", "pattern": "a{}"}, "set count to 1 or more"),
        ({"distribution": "choice", "values": ["a"], "weights": [1, 2]}, "2 weights for 1 values"),
        ({"distribution": "choice", "values": ["a"], "weights": [-1]}, "weights are numbers from 0 on"),
        ({"distribution": "constant", "value": "x", "nulls": 2}, "give a probability from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(column: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        one("VARCHAR", column)
    assert message in caught.value.render()
    assert caught.value.render().startswith("sources.trades.columns.x")


def test_a_sequence_that_leaves_its_type_is_an_error_where_it_does() -> None:
    with pytest.raises(ConnectorError, match="records from 0 on: Integer value 128 not in range"):
        one("TINYINT", {"distribution": "sequence"}, count=300)
    with pytest.raises(ConnectorError, match=r"records from 0 on: more digits than DECIMAL\(3, 1\) has"):
        one("DECIMAL(3, 1)", {"distribution": "sequence", "start": 99}, count=3)
    with pytest.raises(ConnectorError, match="leaves 64 bits"):
        one("BIGINT", {"distribution": "sequence", "start": 2**63 - 10}, count=20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schema": {}}, "a generator needs a schema; declare the types of its columns"),
        ({"count": -1}, "sources.trades.count: count is -1; give 0 or more"),
        ({"partitions": 0}, "sources.trades.partitions: partitions is 0; give 1 or more"),
        ({"rate": -0.5}, "sources.trades.rate: rate is -0.5; give 0 or more"),
    ],
)
def test_a_wrong_configuration_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        generator(**settings).schema  # noqa: B018
    assert message in caught.value.render()
