"""The same queries over files as over the tables that pyarrow makes of them: CSV, NDJSON, zip."""

from __future__ import annotations

import json
from pathlib import Path

import data
import pytest

import velostream
from velostream.testing import oracle, run_query

CSV_QUERIES = {
    "planes": "SELECT manufacturer, COUNT(*), AVG(seats), MIN(year) FROM planes GROUP BY manufacturer",
    "airports": "SELECT faa, name, lat, alt FROM airports WHERE alt > 5000 AND name LIKE '%Air%'",
    "airlines": "SELECT * FROM airlines",
    "weather": "SELECT origin, _window_start, MAX(temp), COUNT(wind_gust) FROM weather"
    " GROUP BY origin WINDOW TUMBLING(time_hour, INTERVAL '1' DAY)",
}


@pytest.mark.parametrize("name", CSV_QUERIES)
@pytest.mark.parametrize("processor", ["v1", "v2:4"])
def test_csv_file_answers_as_its_table(name: str, processor: str) -> None:
    source = velostream.csv(data.nycflights_folder() / f"{name}.csv", nulls=["NA"])
    table = data.whole(name)
    got, report = run_query(CSV_QUERIES[name], processor, block_size="64KiB", tables={name: source})
    expected = oracle.answer(CSV_QUERIES[name], {name: table}, got.schema.types)
    assert (problem := oracle.difference(got, expected, exact=False)) is None, problem
    assert report.records["in"] == table.num_rows
    assert report.records["failed"] == 0


def test_zip_of_all_flights_answers_as_its_table() -> None:
    source = velostream.csv(data.nycflights_folder() / "flights.csv.zip", nulls=["NA"])
    sql = (
        "SELECT origin, _window_start, COUNT(*), COUNT(dep_delay), AVG(dep_delay), MAX(distance) FROM flights"
        " GROUP BY origin WINDOW TUMBLING(time_hour, INTERVAL '1' DAY)"
    )
    got, report = run_query(sql, "v2:2", tables={"flights": source})
    expected = oracle.answer(sql, {"flights": data.table("flights_full")}, got.schema.types)
    assert (problem := oracle.difference(got, expected, exact=False)) is None, problem
    assert report.records["in"] == report.records["used"] == 336_776


@pytest.mark.parametrize("processor", ["v1", "v2:4"])
@pytest.mark.parametrize("block_size", ["4KiB", "1MiB"])
def test_ndjson_file_answers_as_its_table(tmp_path: Path, processor: str, block_size: str) -> None:
    # Words with escapes, quotes and characters of four bytes, and every column with NULLs.
    rows = (
        data.words().append_column("event", data.events()["ts"].slice(0, data.words().num_rows)).to_pylist()
    )
    path = tmp_path / "words.ndjson"
    lines = [
        json.dumps({**row, "event": row["event"].isoformat()}, ensure_ascii=row["id"] % 2 == 0)
        for row in rows
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    schema = {"id": "BIGINT", "w": "VARCHAR", "n": "BIGINT", "event": "TIMESTAMP"}
    sql = "SELECT id, w, LENGTH(w), n, event FROM words WHERE n IS NOT NULL OR w LIKE '%a%'"
    got, report = run_query(
        sql, processor, block_size=block_size, tables={"words": velostream.ndjson(path, schema=schema)}
    )
    table = data.words().append_column("event", data.events()["ts"].slice(0, data.words().num_rows))
    expected = oracle.answer(sql, {"words": table}, got.schema.types)
    assert (problem := oracle.difference(got, expected)) is None, problem
    assert report.records["in"] == len(rows)
