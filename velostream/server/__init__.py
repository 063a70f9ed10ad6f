"""`StreamJobServer`: deploys, pauses, resumes and stops jobs in one process, and connects them by streams.

Nothing of running one job is here. Read `stream_job_server.py` first.
"""

from velostream.server.deployed import JobStatus, JobSummary
from velostream.server.stream_job_server import StreamJobServer

__all__ = ["JobStatus", "JobSummary", "StreamJobServer"]
