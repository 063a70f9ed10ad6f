"""What the scenarios on Kafka make of the broker's tools, of stamps and of results, and when none counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.kafka import consumed, produced, text_of
from benchmarks.latency import covered, percentiles
from benchmarks.restart import AGAIN, same_totals

CONSUMER = """\
start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, \
fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
2026-11-24 12:00:00:000, 2026-11-24 12:00:04:500, 260.4, 57.9, 3000100, 666688.9, 500, 4000, 65.1, 750025.0
"""
PRODUCER = """\
900000 records sent, 180000.0 records/sec (15.00 MB/sec), 20.0 ms avg latency, 90.0 ms max latency.
1500000 records sent, 250000.0 records/sec (20.80 MB/sec), 15.0 ms avg latency, 90.0 ms max, 9 ms 50th.
"""


def test_the_perf_consumer_counts_what_it_fetches_without_joining_its_group() -> None:
    figures = consumed(CONSUMER, 3_000_000)
    assert figures["records"] / figures["seconds"] == 750_025.0


def test_a_perf_consumer_that_has_read_less_does_not_count() -> None:
    with pytest.raises(SystemExit, match="did not read 3000101 records"):
        consumed(CONSUMER, 3_000_101)


def test_the_perf_producer_counts_by_its_last_line() -> None:
    assert produced(PRODUCER, 1_500_000) == {"seconds": 6.0, "records": 1_500_000}


def test_a_perf_producer_that_has_written_less_does_not_count() -> None:
    with pytest.raises(SystemExit, match="did not write 1500001 records"):
        produced(PRODUCER, 1_500_001)


def test_settings_stand_in_a_title_by_their_names() -> None:
    assert text_of({"acks": "all", "linger.ms": 5}) == "acks=all linger.ms=5"


def lines_of(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def result(symbol: str, written: int) -> bytes:
    return json.dumps({"symbol": symbol, "written": written}).encode() + b"\n"


def test_a_line_ends_with_the_first_result_that_covers_it(tmp_path: Path) -> None:
    ticks = [{"symbol": "A", "written": 0}, {"symbol": "A", "written": 1}, {"symbol": "B", "written": 0}]
    path = lines_of(tmp_path / "ticks", *ticks)
    # The second result of A covers both of its lines, the first one none that counts.
    looks = [(2_000_000, result("A", -1)), (6_000_000, result("A", 1) + result("B", 0)[:5])]
    assert percentiles(path, covered([*looks, (8_000_000, result("B", 0)[5:])]))["p50_ms"] == 6.0
    with pytest.raises(SystemExit, match="B have no result"):
        percentiles(path, covered(looks))


def test_results_after_a_restart_are_those_of_both_runs(tmp_path: Path) -> None:
    rows = [{"key": number % AGAIN, "value": number} for number in range(2 * AGAIN)]
    path = lines_of(tmp_path / "numbers", *rows)
    both = [{"key": key, "n": 2, "total": 2 * key + AGAIN} for key in range(AGAIN)]
    same_totals([json.dumps(row).encode() for row in reversed(both)], path, AGAIN)
    for wrong in (both[1:], [*both[1:], both[0] | {"n": 1}], [*both, both[0]]):
        with pytest.raises(SystemExit, match="not those of both runs"):
            same_totals([json.dumps(row).encode() for row in wrong], path, AGAIN)
