from velostream.runtime.failures.base import FailureStrategy, failures


@failures.register("log_and_continue")
class LogAndContinue(FailureStrategy):
    """Counts failed records, logs the first few, and goes on; a failed source or sink fails the job."""
