"""`processor=v1_transactional` on topics: a batch that fails is an aborted transaction, and no state."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.kafka.jobs import kafka, live
from tests.kafka.topics import Topics
from velostream.config.schema import DeliveryConfig, FailureConfig, JobConfig, ProcessorConfig, StateConfig
from velostream.connectors.kafka.sink import KafkaSinkConfig
from velostream.connectors.kafka.source import KafkaSourceConfig
from velostream.runtime.job import Job

SECONDS = 60
ROWS = "SELECT id, id * 2 AS n FROM t"
# The last row of each remainder says how often it was seen.
COUNTS = "SELECT id % 3 AS id, COUNT(*) AS n FROM t GROUP BY id % 3 EMIT CHANGES"
BAD = b'{"id":oops}'


def lines(ids: range) -> list[bytes]:
    return [b'{"id":%d}' % id for id in ids]


def make_job(
    folder: Path, topics: Topics, out: str, source: KafkaSourceConfig, sql: str, failure: str
) -> Job:
    return Job(
        JobConfig(
            name=f"transactional-{out}",
            sql=sql,
            sources={"t": source},
            sinks={"out": KafkaSinkConfig(brokers=topics.address, topic=out)},
            processor=ProcessorConfig("v1_transactional"),
            failure=FailureConfig(failure),
            delivery=DeliveryConfig(interval="50ms"),
            state=StateConfig(path=str(folder / "state")),
        )
    )


def values(topics: Topics, topic: str, count: int | None = None) -> list[dict[str, int]]:
    return [json.loads(record.value or b"") for record in topics.consume(topic, count)]


def last(rows: list[dict[str, int]]) -> dict[int, int]:
    return {row["id"]: row["n"] for row in rows}


def records_of(rows: list[dict[str, int]], sql: str) -> int:
    """How many records have come to count in these rows."""
    return len(rows) if sql == ROWS else sum(last(rows).values())


@pytest.mark.parametrize("sql", [ROWS, COUNTS])
def test_a_failed_batch_is_aborted_and_its_records_count_once_later(
    topics: Topics, tmp_path: Path, sql: str
) -> None:
    given, out = topics.create(), topics.create()
    topics.produce(given, lines(range(30)))
    job = make_job(tmp_path, topics, out, live(topics.address, given), sql, "fail_batch")
    job.start()
    deadline = time.monotonic() + SECONDS
    while records_of(before := values(topics, out), sql) < 30:
        assert not job.wait(0.01) and time.monotonic() < deadline
    topics.produce(given, [*lines(range(30, 60)), BAD, *lines(range(60, 70))])
    assert job.wait(SECONDS)
    assert job.state == "failed" and "record failed" in job.failure().message
    # The record is in the batch that failed, and with it those behind it; those before it may be in one that
    # was committed already.
    seen = values(topics, out)
    assert seen[: len(before)] == before
    read = records_of(seen, sql)
    assert 30 <= read <= 60
    if sql == ROWS:
        assert seen == [{"id": id, "n": id * 2} for id in range(read)]
    # No transaction is left open: who reads what is committed gets what comes behind it.
    topics.produce(out, [b'{"id":-1,"n":-1}'])
    assert values(topics, out) == [*seen, {"id": -1, "n": -1}]
    resumed = make_job(tmp_path, topics, out, kafka(topics.address, given), sql, "log_and_continue")
    report = resumed.run()
    assert (report.state, report.records["failed"]) == ("completed", 1), report.error
    rows = [row for row in values(topics, out) if row["id"] != -1]
    if sql == ROWS:
        assert rows == [{"id": id, "n": id * 2} for id in range(70)]
    else:
        assert last(rows) == {0: 24, 1: 23, 2: 23}
