"""The loop of jobs: `velostream.loop`, which connectors share."""

from velostream.loop import shared_loop as shared_loop
from velostream.loop import submit as submit
