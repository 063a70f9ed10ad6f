"""What the configuration of a Kafka source may say, checked before any broker is asked."""

from __future__ import annotations

from typing import Any

import pytest

from velostream.connectors.kafka.positions import Place, check_offsets, milliseconds_of, read_place
from velostream.connectors.kafka.source import KafkaSource, KafkaSourceConfig
from velostream.errors import VelostreamError

NOWHERE = "127.0.0.1:1"
PARTITIONS = [("trades", 0), ("trades", 1)]


def source(**keys: Any) -> KafkaSource:
    keys.setdefault("topic", "trades")
    return KafkaSource("t", KafkaSourceConfig(**{"brokers": NOWHERE, **keys}))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"topic": ""}, "sources.t.topic: no topic is given; set one of topic, topics, topic_pattern"),
        ({"topics": ["a"]}, "sources.t.topic: topics are given in more than one way"),
        ({"topic": "", "topic_pattern": "a("}, "sources.t.topic_pattern: 'a(' is no regular expression"),
        ({"brokers": ""}, "sources.t.brokers: no brokers are given"),
        ({"options": {"fetch.max.byte": 1}}, "sources.t.options.fetch.max.byte: unknown"),
        ({"options": {"linger.ms": 1}}, "sources.t.options.linger.ms: 'linger.ms' is a setting of producers"),
        (
            {"options": {"auto.offset.reset": "ealiest"}},
            "sources.t.options.auto.offset.reset: 'auto.offset.reset' is 'ealiest'",
        ),
        ({"group": "a", "options": {"group.id": "b"}}, "sources.t.group: the group is given twice"),
        ({"start": "comitted"}, "sources.t.start: 'start' cannot be 'comitted'; did you mean 'committed'?"),
        ({"start": "committed"}, "sources.t.start: start=committed needs a group; set group"),
        ({"until": "committed"}, "sources.t.until: until=committed needs a group; set group"),
        ({"start": "timestamp"}, "sources.t.start: start=timestamp needs start_timestamp"),
        ({"start_timestamp": "2026-01-01"}, "sources.t.start_timestamp: start_timestamp says nothing with"),
        (
            {"start": "timestamp", "start_timestamp": "noon"},
            "sources.t.start_timestamp: 'noon' is not a time after 1970; write 2026-01-31T12:00:00Z",
        ),
        ({"until_offsets": {"0": 1}}, "sources.t.until: 'until' cannot be ''"),
        (
            {"until": "offsets", "until_offsets": {"0": -1}},
            "sources.t.until_offsets.0: offset -1 is below 0",
        ),
        ({"tombstones": "ignore"}, "sources.t.tombstones: unknown value of tombstones 'ignore'"),
        ({"max_outage": "5"}, "sources.t.max_outage: '5' is not a duration"),
        ({"format": "jsn"}, "sources.t.format: unknown format 'jsn'"),
    ],
)
def test_a_mistake_is_told_before_any_broker_is_asked(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(VelostreamError) as caught:
        source(**keys).partitions()
    assert caught.value.render().startswith(said)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(VelostreamError) as caught:
        source(tombstones="no", start="now", max_outage="", options={"x": 1}).partitions()
    lines = caught.value.render().splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "sources.t.options.x",
        "sources.t.start",
        "sources.t.max_outage",
        "sources.t.tombstones",
    ]


def test_a_source_is_bounded_by_where_it_ends() -> None:
    assert source(until="latest").bounded
    assert not source().bounded


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("0", "UTC", 0),
        ("1700000000123", "UTC", 1_700_000_000_123),
        ("1970-01-02", "UTC", 86_400_000),
        ("1970-01-02", "Europe/Paris", 82_800_000),
        ("1970-01-02T00:00:00.5+01:00", "Asia/Tokyo", 82_800_500),
    ],
)
def test_a_time_is_read_as_milliseconds(text: str, zone: str, expected: int) -> None:
    assert milliseconds_of(text, zone) == expected


@pytest.mark.parametrize("text", ["", "x", "1969-12-31", "-5"])
def test_what_is_no_time_after_1970_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        milliseconds_of(text, "UTC")


def test_offsets_go_by_number_or_by_the_name_of_the_partition() -> None:
    place, errors = read_place("sources.t", "start", "offsets", "", {"0": 5, "trades-1": 6}, "UTC")
    assert not errors
    assert not list(check_offsets("sources.t", "start", place, PARTITIONS))


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ({"0": 1}, "sources.t.start_offsets: start_offsets says nothing of 'trades-1'"),
        ({"0": 1, "1": 1, "2": 1}, "sources.t.start_offsets.2: unknown partition '2'"),
        (
            {"0": 1, "trade-1": 1},
            "sources.t.start_offsets.trade-1: unknown partition 'trade-1'; did you mean",
        ),
    ],
)
def test_offsets_of_wrong_partitions_are_told(offsets: dict[str, int], said: str) -> None:
    problems = check_offsets("sources.t", "start", Place("offsets", 0, offsets), PARTITIONS)
    assert next(iter(problems)).render().startswith(said)
