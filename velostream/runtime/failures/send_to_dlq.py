from collections.abc import Sequence
from pathlib import Path

from velostream.config.schema import FailureConfig
from velostream.errors import ConfigError, Where
from velostream.runtime.failures.base import FailedRecord, FailureStrategy, failures
from velostream.runtime.failures.dead_letters import DeadLetterFile


@failures.register("send_to_dlq")
class SendToDlq(FailureStrategy):
    """Keeps failed records in a file, with position and reason; `command=replay` feeds them back."""

    def __init__(self, config: FailureConfig, output_dir: str) -> None:
        super().__init__(config, output_dir)
        if not config.dlq_path and not output_dir:
            raise ConfigError(
                "failure=send_to_dlq has no file to write to",
                where=Where(key="failure.dlq_path"),
                hint="set failure.dlq_path",
            )
        self.file = DeadLetterFile(Path(config.dlq_path or Path(output_dir) / "dlq.ndjson"))

    def records(self, failed: Sequence[FailedRecord]) -> None:
        self._log(failed)
        self.file.write(failed)

    def close(self) -> None:
        self.file.close()
