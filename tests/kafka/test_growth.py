"""Topics that get more partitions while a job reads them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.kafka.jobs import live
from tests.kafka.topics import Record, Topics
from velostream.config.schema import JobConfig, ProcessorConfig, StateConfig
from velostream.connectors.kafka.sink import KafkaSinkConfig
from velostream.runtime.prepare import prepare
from velostream.runtime.worker import Worker, make_job


def _record(number: int, partition: int) -> Record:
    value = {"id": number, "symbol": f"S{number % 3}"}
    return Record(json.dumps(value).encode(), partition=partition)


def _config(topics: Topics, source: str, out: str, tasks: int, state: Path, **keys: object) -> JobConfig:
    columns = {"id": "BIGINT", "symbol": "VARCHAR"}
    options = {"metadata.max.age.ms": 200}
    return JobConfig(
        name=topics.unused("job"),
        sql="SELECT symbol, COUNT(*) AS n FROM t GROUP BY symbol EMIT CHANGES",
        sources={"t": live(topics.address, source, schema=columns, options=options, **keys)},
        sinks={"out": KafkaSinkConfig(brokers=topics.address, topic=out)},
        processor=ProcessorConfig(version="v1", tasks=tasks),
        state=StateConfig(path=str(state)),
    )


def _running(config: JobConfig) -> tuple[Worker, threading.Thread]:
    job = make_job(config, prepare(config))
    assert isinstance(job, Worker)
    thread = threading.Thread(target=job.run)
    thread.start()
    return job, thread


def _counts(topics: Topics, out: str, total: int) -> dict[str, int]:
    """The last count of each symbol, once they add up to `total`."""
    while True:
        rows = [json.loads(record.value or b"") for record in topics.consume(out)]
        last = {row["symbol"]: row["n"] for row in rows}
        if sum(last.values()) >= total:
            return last


@pytest.mark.parametrize("tasks", [1, 2])
def test_new_partitions_are_read_while_the_job_runs(topics: Topics, tmp_path: Path, tasks: int) -> None:
    source, out = topics.create(2), topics.create()
    topics.produce(source, [_record(number, number % 2) for number in range(30)])
    job, thread = _running(_config(topics, source, out, tasks, tmp_path))
    assert _counts(topics, out, 30) == {"S0": 10, "S1": 10, "S2": 10}
    topics.grow(source, 5)
    topics.produce(source, [_record(number, number % 5) for number in range(30)])
    assert _counts(topics, out, 60) == {"S0": 20, "S1": 20, "S2": 20}
    job.stop()
    thread.join(30)
    report = job.report()
    assert (report.state, report.error, report.records["used"]) == ("interrupted", None, 60)


def test_keys_that_may_be_in_other_partitions_now_end_the_job(topics: Topics, tmp_path: Path) -> None:
    source, out = topics.create(2), topics.create()
    topics.produce(source, [_record(number, number % 3 % 2) for number in range(30)])
    config = _config(topics, source, out, 2, tmp_path, partitioned_by=["symbol"])
    job, thread = _running(config)
    assert _counts(topics, out, 30) == {"S0": 10, "S1": 10, "S2": 10}
    topics.grow(source, 3)
    thread.join(30)
    report = job.report()
    assert report.state == "failed"
    assert report.error is not None
    assert "t  partitions  2  →  3" in report.error
