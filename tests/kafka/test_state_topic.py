"""The topic that has a job's state."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from tests.kafka.jobs import live
from tests.kafka.topics import Record, Topics
from velostream.config.schema import JobConfig, ProcessorConfig, StateConfig
from velostream.connectors.kafka.settings import client_settings
from velostream.connectors.kafka.sink import KafkaSinkConfig
from velostream.connectors.kafka.transaction import KafkaTransaction
from velostream.runtime.prepare import prepare
from velostream.runtime.worker import make_job


def test_the_topic_of_the_state_is_there_and_empty_before_the_first_commit(
    topics: Topics, tmp_path: Path
) -> None:
    job = topics.unused("job")
    settings = client_settings(topics.address, {}, "sinks.out", "sink")
    transaction = KafkaTransaction(settings, job)
    assert transaction.open(str(tmp_path)) is None
    try:
        assert topics.partitions(f"velostream-{job}-state") == 1
        assert list(transaction.saved()) == []
    finally:
        transaction.close(complete=False)
        topics.delete(f"velostream-{job}-state")


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_job_goes_on_by_the_topic_when_brokers_have_forgotten_its_offsets(
    topics: Topics, tmp_path: Path, tasks: int
) -> None:
    source, out = topics.create(2), topics.create()
    job = topics.unused("job")

    def run(count: int, folder: str) -> tuple[list[int], bool]:
        """The counts that are written, and whether a saved state was gone on from."""
        topics.produce(source, [Record(b'{"id": %d}' % n, partition=n % 2) for n in range(10)])
        config = JobConfig(
            name=job,
            sql="SELECT id, COUNT(*) AS n FROM t GROUP BY id EMIT CHANGES",
            sources={"t": live(topics.address, source)},
            sinks={"out": KafkaSinkConfig(brokers=topics.address, topic=out)},
            processor=ProcessorConfig(version="v1", tasks=tasks),
            state=StateConfig(path=str(tmp_path / folder)),
        )
        worker = make_job(config, prepare(config))
        thread = threading.Thread(target=worker.run)
        thread.start()
        rows = [json.loads(record.value or b"") for record in topics.consume(out, count)]
        worker.stop()
        thread.join(30)
        report = worker.report()
        assert report.error is None
        return sorted(row["n"] for row in rows), report.resumed_epoch > 0

    assert run(10, "first") == ([1] * 10, False)
    groups = [f"velostream-{job}", *(f"velostream-{job}-{task}" for task in range(tasks))]
    for future in topics.admin.delete_consumer_groups(groups).values():
        with suppress(KafkaException):  # of a whole job or of tasks: some are not there
            future.result(30)
    assert run(20, "second") == ([1] * 10 + [2] * 10, True)


def test_saving_imports_no_pandas() -> None:
    program = (
        "import sys\n"
        "from velostream.connectors.kafka.state_topic import StateTopic\n"
        "[(partition, data, records, _)] = StateTopic('state', None)._batch([('name/0', b'content')])\n"
        "assert (partition, records) == (0, 1) and b'name/0' in data and b'content' in data\n"
        "assert 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
