"""Files and topics in one job: as the history of a topic, and beside it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tests.crash.cases import CASES, COLUMNS, Case, trades
from tests.crash.grounds import Kafka
from tests.crash.harness import torture
from tests.crash.processes import Zygote
from tests.kafka.jobs import kafka, live, make, run, running, values, wait_for_rows
from tests.kafka.topics import Record, Topics
from velostream.config.schema import ProcessorConfig
from velostream.connectors.kafka.source import KafkaKeyConfig
from velostream.errors import VelostreamError

KILLS = 3
WINDOWS, UPDATING = CASES[1], CASES[3]
RECORDS = 6000
MANY = 30_000


def write(path: Path, lines: list[bytes]) -> dict[str, Any]:
    """A history of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return {"kind": "file", "path": str(path)}


def test_windows_over_files_and_the_topic_behind_them_are_those_of_duckdb(
    topics: Topics, tmp_path: Path
) -> None:
    made = list(trades(RECORDS, 1))
    topic = topics.create(partitions=3)
    # Times of the first live records lie within those of the last of the history.
    topics.produce(topic, [Record(line, key=symbol.encode()) for symbol, line in made[4000:]])
    history = write(tmp_path / "past" / "a.ndjson", [line for _, line in made[:1500]])
    write(tmp_path / "past" / "b.ndjson", [line for _, line in made[1500:4000]])
    history["path"] = str(tmp_path / "past")
    source = kafka(topics.address, topic, schema=COLUMNS, history=history)
    sql = """SELECT symbol, _window_start AS start, COUNT(*) AS n, SUM(price) AS total FROM t
    GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '2' SECOND)"""
    report, rows = run(sql, {"t": source}, processor=ProcessorConfig(version="v2", partitions=4))
    assert report.records["used"] == RECORDS
    with duckdb.connect() as connection:
        connection.register("t", pa.Table.from_pylist([json.loads(line) for _, line in made]))
        expected = connection.sql(
            "SELECT symbol, ts - ts % 2000 AS start, count(*), sum(price)::BIGINT FROM t GROUP BY ALL"
        ).fetchall()
    assert Counter((s, round(start.timestamp() * 1000), n, total) for s, start, n, total in rows) == Counter(
        expected
    )


def test_an_endless_topic_begins_when_its_history_has_been_read(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create(partitions=2)
    topics.produce(
        topic, [Record(value, partition=number % 2) for number, value in enumerate(values(range(5)))]
    )
    history = write(tmp_path / "past.ndjson", values(range(100, 2100)))
    group = topics.unused("group")
    job = make("SELECT id FROM t", {"t": live(topics.address, topic, history=history, group=group)})
    with running(job):
        wait_for_rows(job, 2005)
        topics.produce(topic, values([5]))
        rows = wait_for_rows(job, 2006)
    assert rows == [(id,) for id in [*range(6), *range(100, 2100)]]
    ids = job.sink("out").table()["id"].to_pylist()  # type: ignore[attr-defined]
    assert ids[:2000] == list(range(100, 2100))


def test_what_both_have_is_left_out_by_where_the_topic_begins(topics: Topics, tmp_path: Path) -> None:
    topic, noon = topics.create(), 1_700_000_000_000
    topics.produce(
        topic, [Record(value, timestamp=noon + number) for number, value in enumerate(values(range(10)))]
    )
    history = write(tmp_path / "past.ndjson", values(range(6)))
    source = kafka(topics.address, topic, history=history, start="timestamp", start_timestamp=str(noon + 6))
    assert run("SELECT id FROM t", {"t": source})[1] == [(id,) for id in range(10)]


def test_columns_of_keys_are_columns_of_the_history_and_offsets_are_not(
    topics: Topics, tmp_path: Path
) -> None:
    topic = topics.create()
    topics.produce(topic, [Record(b'{"id": 2}', key=b"b", headers=[("h", b"y")])])
    history = write(tmp_path / "past.ndjson", [b'{"id": 1, "k": "a", "h": "x"}'])
    key = KafkaKeyConfig(columns={"k": "VARCHAR"})
    source = kafka(topics.address, topic, history=history, key=key, header_columns={"h": "VARCHAR"})
    assert run("SELECT * FROM t", {"t": source})[1] == [(1, "a", "x"), (2, "b", "y")]
    with pytest.raises(VelostreamError, match="unknown column '_offset'"):
        make("SELECT _offset FROM t", {"t": source}).run()
    source.event_time = "_timestamp"
    with pytest.raises(VelostreamError, match="which records of the history do not have"):
        make("SELECT id FROM t", {"t": source}).run()


class Archived(Kafka):
    """A third of the input is in files, which are read first."""

    def begin(self, case: Case, folder: Path, records: int, seed: int) -> None:
        self.case, self.folder = case, folder
        made = list(trades(records, seed))
        cut = records // 3
        for part in range(2):
            write(
                folder / "past" / f"{part}.ndjson",
                [line for _, line in made[part * cut // 2 : (part + 1) * cut // 2]],
            )
        self._in = self._topics.create(partitions=next(self._partitions))
        self._out = self._topics.create(partitions=3)
        self._topics.produce(self._in, (Record(line, key=symbol.encode()) for symbol, line in made[cut:]))

    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        source, sink = super().ends()
        return {**source, "history": {"kind": "file", "path": str(self.folder / "past")}}, sink


@pytest.mark.parametrize("case", [WINDOWS, UPDATING], ids=lambda case: case.name)
def test_killed_jobs_with_a_history_lose_nothing_and_count_nothing_twice(
    topics: Topics, case: Case, tmp_path: Path
) -> None:
    with Zygote() as zygote:
        tally = torture(zygote, Archived(topics), case, tmp_path, kills=KILLS, seed=2, records=20_000)
    assert tally.exact, tally
    assert tally.kills >= KILLS


def test_a_file_beside_a_topic_commits_with_it(topics: Topics, tmp_path: Path) -> None:
    """Killed at steps of a commit, with other lanes at each start: no output lacks a row or has one twice."""
    made = list(trades(MANY, 5))
    topic, out = topics.create(partitions=2), topics.create()
    topics.produce(topic, [Record(line, key=symbol.encode()) for symbol, line in made])
    write(tmp_path / "names.ndjson", [b'{"symbol": "S%d", "n": %d}' % (n % 40, n) for n in range(MANY)])
    at = {"kind": "kafka", "brokers": topics.address}
    names = {"kind": "file", "path": str(tmp_path / "names.ndjson")}
    config = {
        "name": f"beside-{out}",
        "sql": """CREATE STREAM dear AS SELECT id FROM trades WHERE price >= 500;
        CREATE TABLE names_of AS SELECT symbol, COUNT(*) AS n, SUM(n) AS total FROM names GROUP BY symbol""",
        "sources": {
            "trades": {**at, "topic": topic, "start": "earliest", "until": "latest", "schema": COLUMNS},
            "names": {**names, "schema": {"symbol": "VARCHAR", "n": "BIGINT"}},
        },
        "sinks": {
            "dear": {**at, "topic": out},
            "names_of": {"kind": "file", "path": str(tmp_path / "out.ndjson")},
        },
        "delivery": {"guarantee": "exactly_once", "interval": "10ms"},
        "state": {"path": str(tmp_path / "state")},
    }
    kills = 0
    with Zygote() as zygote:
        for lanes, point in enumerate(
            ["epoch.prepared:1", "epoch.decided:1", "state.before_manifest:1", "epoch.published:1", ""], 1
        ):
            processor = {"version": "v2", "partitions": lanes, "block_size": "4KiB"}
            ended = zygote.run({**config, "processor": processor}, point)
            kills += ended.killed
            if not ended.killed:
                break
    assert kills >= 3
    assert ended.report is not None and ended.report["state"] == "completed"
    dear = [json.loads(record.value or b"")["id"] for record in topics.consume(out)]
    expected = [row["id"] for row in (json.loads(line) for _, line in made) if row["price"] >= 500]
    assert sorted(dear) == expected
    rows = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert sorted((row["symbol"], row["n"], row["total"]) for row in rows) == sorted(
        (f"S{s}", MANY // 40, sum(range(s, MANY, 40))) for s in range(40)
    )
