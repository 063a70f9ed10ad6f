from velostream.runtime.failures.base import FailureStrategy, failures


@failures.register("retry_with_backoff")
class RetryWithBackoff(FailureStrategy):
    """Tries a failed read, write or commit again, with growing waits; counts and logs failed records."""

    retries = True
