from collections.abc import Sequence

from velostream.errors import RecordFailure
from velostream.runtime.failures.base import FailedRecord, FailureStrategy, failures


@failures.register("fail_batch")
class FailBatch(FailureStrategy):
    """Stops the job at the first batch with a failed record."""

    def records(self, failed: Sequence[FailedRecord]) -> None:
        self._log(failed)
        raise RecordFailure(
            f"record failed: {failed[0]}",
            hint="failure=log_and_continue counts such records, failure=send_to_dlq keeps them",
        )
