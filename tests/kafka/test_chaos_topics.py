"""What becomes of a job whose output topic is deleted, or is read slowly."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.kafka.chaos import Trades, Worker
from tests.kafka.topics import Topics


def test_a_job_whose_output_topic_is_deleted_fails_and_names_it(topics: Topics, tmp_path: Path) -> None:
    job = Trades(topics)
    with Worker(job.config(tmp_path / "state")) as worker:
        job.feed(2000)
        job.wait_for(100)
        topics.delete(job.out)
        job.feed(2000)
        report = worker.report()
    assert report["state"] == "failed"
    # Who notices first: the broker that is written to, or the client that looks at its topics.
    assert f"topic '{job.out}'" in report["error"], report
    assert "was deleted" in report["error"], report


def test_a_reader_that_is_slow_holds_nothing_up_and_sees_every_row_once(
    topics: Topics, tmp_path: Path
) -> None:
    job = Trades(topics)
    settings = {"bootstrap.servers": topics.address, "group.id": topics.unused(), "log_level": 2}
    reader = Consumer(
        {
            **settings,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            # A few records at a time.
            "fetch.message.max.bytes": 1000,
            "queued.min.messages": 1,
        }
    )
    reader.assign([TopicPartition(job.out, partition, OFFSET_BEGINNING) for partition in range(3)])
    seen: list[bytes | None] = []
    with Worker(job.config(tmp_path / "state")) as worker:
        for _ in range(3):
            job.feed(500)
            # One record for hundreds that come.
            message = reader.poll(30)
            assert message is not None
            assert message.error() is None
            seen.append(message.value())
            job.wait_for_all()
        worker.stop()
    written = [record.value for record in topics.consume(job.out)]
    while len(seen) < len(written):
        message = reader.poll(30)
        assert message is not None
        assert message.error() is None
        seen.append(message.value())
    reader.close()
    assert sorted(map(str, seen)) == sorted(map(str, written))
