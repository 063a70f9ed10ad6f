"""How a job is run: `JobProcessor` and its kinds, v1 with one lane (also transactional) and v2 with many.

They differ in configuration only: plan, operators and kernels are the same. Read `config.py` first.
"""

from velostream.processors.base import JobProcessor, LifecycleState, ProcessorMetrics, make_processor
from velostream.processors.config import JobProcessorConfig
from velostream.processors.partitioned import PartitionedJobCoordinator
from velostream.processors.simple import SimpleJobProcessor
from velostream.processors.transactional import TransactionalJobProcessor

__all__ = [
    "JobProcessor",
    "JobProcessorConfig",
    "LifecycleState",
    "PartitionedJobCoordinator",
    "ProcessorMetrics",
    "SimpleJobProcessor",
    "TransactionalJobProcessor",
    "make_processor",
]
