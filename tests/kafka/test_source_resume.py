"""Jobs on topics that are stopped and started again: each record counts once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.jobs import kafka, live, running, values
from tests.kafka.topics import Record, Topics
from velostream.config.schema import DeliveryConfig, JobConfig, ProcessorConfig, StateConfig
from velostream.connectors.file.sink import FileSinkConfig
from velostream.runtime.job import Job

SECONDS = 30


class Runs:
    """Runs of one job that writes to one file and keeps its state beside it."""

    def __init__(self, folder: Path, source: Any, sql: str = "SELECT id FROM t") -> None:
        self._folder = folder
        self._source = source
        self._sql = sql

    def job(self, lanes: int = 1) -> Job:
        return Job(
            JobConfig(
                name="resumed",
                sql=self._sql,
                sources={"t": self._source},
                sinks={"out": FileSinkConfig(path=str(self._folder / "out.ndjson"), format="ndjson")},
                processor=ProcessorConfig(version="v2", partitions=lanes),
                state=StateConfig(path=str(self._folder / "state")),
                delivery=DeliveryConfig(interval="20ms"),
            )
        )

    @property
    def written(self) -> list[int]:
        """The only column of all rows so far, sorted."""
        try:
            lines = (self._folder / "out.ndjson").read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return sorted(value for row in rows for value in row.values())

    def wait_for(self, job: Job, count: int) -> list[int]:
        deadline = time.monotonic() + SECONDS
        while len(written := self.written) < count:
            assert not job.state.ended, job.failure().render()
            assert time.monotonic() < deadline, written
            job.wait(0.01)
        return written


def wait_for_start(job: Job) -> None:
    """Until it is settled where the job's topics begin."""
    deadline = time.monotonic() + SECONDS
    while job._prepared is None or job._prepared.sources["t"].fingerprint(0) is None:
        assert time.monotonic() < deadline
        job.wait(0.01)


def placed(numbers: range | list[int], partition: int) -> list[Record]:
    return [Record(value, partition=partition) for value in values(numbers)]


def test_a_stopped_job_goes_on_behind_the_last_record(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create(partitions=3)
    group = topics.unused("group")
    runs = Runs(tmp_path, live(topics.address, topic, group=group))
    for number in range(4):
        for partition in range(3):
            topics.produce(topic, placed([10 * number + partition, 10 * number + 5 + partition], partition))
        job = runs.job(lanes=1 + number % 2)
        with running(job):
            written = runs.wait_for(job, 6 * number + 6)
        assert written == sorted(10 * n + k for n in range(number + 1) for k in (0, 1, 2, 5, 6, 7))
    # The last commit was told to the group.
    assert topics.committed(group, topic) == [8, 8, 8]


@pytest.mark.parametrize("start", ["latest", "earliest"])
def test_a_partition_that_nothing_was_read_of_begins_where_it_would_have(
    topics: Topics, tmp_path: Path, start: str
) -> None:
    topic = topics.create(partitions=2)
    if start == "latest":
        topics.produce(topic, placed([1, 2], 1))
    runs = Runs(tmp_path, live(topics.address, topic, start=start))
    job = runs.job()
    with running(job):
        wait_for_start(job)
        topics.produce(topic, placed([3], 0))
        runs.wait_for(job, 1)
    # While no job runs.
    topics.produce(topic, placed([4], 1))
    again = runs.job()
    with running(again):
        assert runs.wait_for(again, 2) == [3, 4]


def test_a_partition_that_is_new_is_read_from_its_first_record(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create()
    runs = Runs(tmp_path, live(topics.address, topic, start="latest"))
    job = runs.job()
    with running(job):
        wait_for_start(job)
        topics.produce(topic, values([1]))
        runs.wait_for(job, 1)
    topics.grow(topic, 2)
    topics.produce(topic, placed([2], 1))
    again = runs.job()
    with running(again):
        assert runs.wait_for(again, 2) == [1, 2]


def test_open_windows_of_a_topic_go_on(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create(partitions=2)
    sql = "SELECT SUM(id) AS total FROM t WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"
    schema = {"id": "BIGINT", "ts": "TIMESTAMP"}
    runs = Runs(tmp_path, live(topics.address, topic, out_of_orderness="0s", schema=schema), sql)
    for lanes, seconds in ((1, range(40)), (4, range(40, 90)), (2, range(90, 125))):
        job = runs.job(lanes)
        with running(job):
            topics.produce(
                topic,
                [
                    Record(b'{"id": %d, "ts": %d}' % (second, 1000 * second), partition=second % 2)
                    for second in seconds
                ],
            )
            job.drain(len(seconds))
    assert runs.written == [sum(range(0, 60)), sum(range(60, 120))]


def test_a_bounded_run_goes_on_where_it_was_interrupted(topics: Topics, tmp_path: Path) -> None:
    topic = topics.create()
    topics.produce(topic, values(range(5)))
    runs = Runs(tmp_path, kafka(topics.address, topic, until="offsets", until_offsets={"0": 8}))
    job = runs.job()
    with running(job):
        job.drain(5)
    topics.produce(topic, values(range(5, 20)))
    assert runs.job().run().state == "completed"
    assert runs.written == list(range(8))
