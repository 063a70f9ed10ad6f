"""Which columns tell the rows of a stream apart."""

from __future__ import annotations

from typing import Any

import pytest

from velostream.config.schema import JobConfig
from velostream.connectors.channel import Channel, ChannelSourceConfig
from velostream.connectors.memory import MemorySinkConfig
from velostream.errors import VelostreamError
from velostream.plan.keys import stream_key
from velostream.runtime.prepare import prepare
from velostream.sql.schemas import schema_of

SCHEMA = schema_of({"symbol": "VARCHAR", "venue": "VARCHAR", "ts": "TIMESTAMP"}, {}, "UTC").arrow()
WINDOW = "WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"


def key(sql: str, **options: Any) -> tuple[str, ...]:
    source = ChannelSourceConfig(channel=Channel("trades", SCHEMA), **options)
    job = JobConfig(sql=sql, sources={"trades": source}, sinks={"out": MemorySinkConfig()})
    plan = prepare(job).plan
    return stream_key(plan, plan.sinks["out"])


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT symbol FROM trades", ()),
        ("SELECT COUNT(*) AS n FROM trades", ()),
        ("SELECT symbol, COUNT(*) AS n FROM trades GROUP BY symbol", ("symbol",)),
        ("SELECT venue AS v, symbol AS s, COUNT(*) AS n FROM trades GROUP BY symbol, venue", ("s", "v")),
        ("SELECT UPPER(symbol) AS u, COUNT(*) AS n FROM trades GROUP BY UPPER(symbol)", ("u",)),
        # A row of which a part of the key is gone may be one of several.
        ("SELECT symbol, COUNT(*) AS n FROM trades GROUP BY symbol, venue", ()),
        (f"SELECT symbol, COUNT(*) AS n FROM trades GROUP BY symbol {WINDOW}", ("symbol",)),
        (
            f"CREATE STREAM a AS SELECT symbol AS s, COUNT(*) AS n FROM trades GROUP BY symbol {WINDOW};"
            "SELECT s AS name, n + 1 AS m FROM a WHERE n > 1",
            ("name",),
        ),
    ],
)
def test_the_key_of_a_stream_is_that_of_its_groups(sql: str, expected: tuple[str, ...]) -> None:
    assert key(sql) == expected


def test_rows_that_are_updated_are_told_apart_by_their_window_too() -> None:
    sql = f"SELECT symbol AS s, _window_start AS w, COUNT(*) AS n FROM trades GROUP BY symbol {WINDOW}"

    assert key(sql, late="update", out_of_orderness="1s", allowed_lateness="1m") == ("s", "w")
    assert key(sql) == ("s",)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT symbol PRIMARY KEY, venue FROM trades", ("symbol",)),
        ("SELECT venue AS v PRIMARY KEY, ts, UPPER(symbol) AS s PRIMARY KEY FROM trades", ("v", "s")),
        ("SELECT symbol, venue PRIMARY KEY, COUNT(*) AS n FROM trades GROUP BY symbol, venue", ("venue",)),
        ("CREATE STREAM a AS SELECT symbol PRIMARY KEY FROM trades; SELECT symbol AS s FROM a", ("s",)),
        ("CREATE STREAM a AS SELECT symbol PRIMARY KEY, venue FROM trades; SELECT venue FROM a", ()),
        ("SELECT symbol AS primary, venue key FROM trades", ()),
    ],
)
def test_a_primary_key_is_the_key_whatever_the_groups_are(sql: str, expected: tuple[str, ...]) -> None:
    assert key(sql) == expected


def test_a_star_has_no_primary_key() -> None:
    with pytest.raises(VelostreamError, match="expected FROM, found 'PRIMARY'"):
        key("SELECT * PRIMARY KEY FROM trades")
