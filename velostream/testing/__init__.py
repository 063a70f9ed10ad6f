"""For our tests and our users': a driver to step through a job, and the oracle to compare with.

Nothing of the product depends on it. Read `driver.py` first;
`scripted.py` has sources and sinks that fail, wait and fall silent on cue.
"""

from velostream.api import run_query
from velostream.testing.driver import Change, JobDriver

__all__ = ["Change", "JobDriver", "run_query"]
