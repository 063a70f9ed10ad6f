from __future__ import annotations

import pyarrow as pa

from velostream.api import query_job, query_result
from velostream.processors.base import JobProcessor, processors
from velostream.processors.config import JobProcessorConfig


@processors.register("v1_transactional")
class TransactionalJobProcessor(JobProcessor):
    """V1 with exactly-once delivery, and nothing less: what a commit does not have did not happen.

    A job whose sources and sinks cannot promise that is refused. A batch is what one commit takes
    (`delivery.interval`): where `failure=fail_batch` meets a record that fails, output and state go back to
    the last commit, and the next start goes on from there.
    """

    version = "V1-Transactional"
    name = "TransactionalJobProcessor"

    def __init__(self, config: JobProcessorConfig = JobProcessorConfig.V1_TRANSACTIONAL) -> None:
        super().__init__(config)

    def process_batch(
        self, records: pa.Table | pa.RecordBatch, query: str, stream: str = "records"
    ) -> pa.Table:
        """As of the base class. A batch in memory gives all of its result or an error: there is nothing to
        commit."""
        job = query_job(query, "v1", tables={stream: records})
        self.run_job(job)
        return query_result(job)
