"""The topic that has a job's state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kafka.topics import Topics
from velostream.connectors.kafka.settings import client_settings
from velostream.connectors.kafka.transaction import KafkaTransaction


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


def test_saving_imports_no_pandas() -> None:
    program = (
        "import sys\n"
        "from velostream.connectors.kafka.state_topic import StateTopic\n"
        "[(partition, data, records, _)] = StateTopic('state', None)._batch('name/0', b'content')\n"
        "assert (partition, records) == (0, 1) and b'name/0' in data and b'content' in data\n"
        "assert 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
