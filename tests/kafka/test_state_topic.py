"""The topic that has a job's state."""

from __future__ import annotations

from pathlib import Path

from tests.kafka.topics import Topics
from velostream.connectors.kafka.settings import client_settings
from velostream.connectors.kafka.transaction import KafkaTransaction


def test_the_topic_of_the_state_is_there_and_empty_before_the_first_commit(
    topics: Topics, tmp_path: Path
) -> None:
    job = topics.unused("job")
    settings = client_settings(topics.address, {}, "sinks.out", "sink")
    transaction = KafkaTransaction(settings, job, topics.create())
    assert transaction.open(str(tmp_path)) is None
    try:
        assert topics.partitions(f"velostream-{job}-state") == 1
        assert list(transaction.saved()) == []
    finally:
        transaction.close(complete=False)
        topics.delete(f"velostream-{job}-state")
