"""Lanes: shares of the keyed state; and the threads that work for them, with their queues."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from velostream.kernels import kernel_seconds
from velostream.runtime.counters import Counters

logger = logging.getLogger("velostream.lane")

# macOS has no call that pins a thread; lanes run unpinned there, and the command line says so.
CAN_PIN = hasattr(os, "sched_setaffinity")

Task = Callable[["Lane"], None]


class Lane:
    """A share of the keyed state, and what was done for it. Its tasks run on its thread, one by one.

    `number` counts from 0. What it counts is written by its thread alone and read elsewhere for display.
    """

    def __init__(self, number: int, thread: LaneThread) -> None:
        self.number = number
        self.thread = thread
        self.cpus_seen: set[int] = set()
        self.blocks = 0
        self.records = 0
        self.busy_seconds = 0.0
        self.cpu_seconds = 0.0
        # Of the busy seconds those without the GIL: in kernels, reading, writing.
        self.native_seconds = 0.0
        self.seconds: dict[str, float] = {}
        # The longest that a commit has kept it from anything else.
        self.longest_snapshot_seconds = 0.0
        self.counters: dict[str, Counters] = {}
        self.dealt = 0

    def spend(self, what: str, begun: float) -> None:
        """Note the time since `begun` (of `time.perf_counter`) for the kind of work `what`."""
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - begun

    def snapshot(self, begun: float) -> None:
        """`spend` for the work that a commit asks of a lane: taking the changes of a stage."""
        self.longest_snapshot_seconds = max(self.longest_snapshot_seconds, time.perf_counter() - begun)
        self.spend("snapshot", begun)

    def count(self, query: str) -> Counters:
        """This lane's part of a query's counters."""
        counters = self.counters.get(query)
        if counters is None:
            counters = self.counters[query] = Counters()
        return counters

    def put_block(self, task: Task, size: int) -> None:
        """Queue work on a new block of `size` bytes."""
        self.dealt += 1
        self.thread.put_block(self, task, size)

    def put_batch(self, task: Task) -> None:
        """Queue work on a batch that a lane has made; it goes before new blocks."""
        self.thread.put_batch(self, task)


class LaneThread:
    """Runs the tasks of one lane, or of several: batches from other lanes first, new blocks after them.

    The queue is not bounded here: the bytes in flight are bounded where blocks are admitted
    (`Admission`), so a lane never waits for another and no cycle of full queues can lock up.

    `cpu` is the CPU to pin to, or None. `on_error` is called with what a task raises.
    """

    def __init__(self, name: str, cpu: int | None, on_error: Callable[[BaseException], None]) -> None:
        self.cpu = cpu
        self.queued_bytes = 0
        self._on_error = on_error
        self._batches: deque[tuple[Lane, Task]] = deque()
        self._blocks: deque[tuple[Lane, Task, int]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put_block(self, lane: Lane, task: Task, size: int) -> None:
        with self._wake:
            self._blocks.append((lane, task, size))
            self.queued_bytes += size
            self._wake.notify()

    def put_batch(self, lane: Lane, task: Task) -> None:
        with self._wake:
            self._batches.append((lane, task))
            self._wake.notify()

    def stop(self) -> None:
        """End the thread after the task that it runs; what is still queued is dropped. May be repeated."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        if self.cpu is not None:
            try:
                # Only this thread: pid 0 means the calling thread on Linux.
                os.sched_setaffinity(0, {self.cpu})
            except OSError as error:  # the CPU was taken away from this process meanwhile
                logger.warning("a lane runs unpinned: CPU %d: %s", self.cpu, error.strerror)
        while True:
            with self._wake:
                while not (self._batches or self._blocks or self._stopping):
                    self._wake.wait()
                if self._stopping:
                    return
                if self._batches:
                    lane, task = self._batches.popleft()
                    size = 0
                else:
                    lane, task, size = self._blocks.popleft()
            begun, begun_cpu, begun_native = time.perf_counter(), time.thread_time(), kernel_seconds()
            try:
                task(lane)
            except BaseException as error:  # the thread must survive to be joined; the job fails
                self._on_error(error)
            # A frame kept alive would keep a block's memory until the next task.
            del task
            lane.busy_seconds += time.perf_counter() - begun
            lane.cpu_seconds += time.thread_time() - begun_cpu
            lane.native_seconds += kernel_seconds() - begun_native
            if size:
                with self._wake:
                    self.queued_bytes -= size
                lane.blocks += 1
                lane.cpus_seen.add(current_cpu())


def make_lanes(
    job: str, number: int, cpus: Sequence[int], pinned: bool, on_error: Callable[[BaseException], None]
) -> list[Lane]:
    """So many lanes, each with a thread of its own while there are as many CPUs; more lanes share them.

    More threads than CPUs only get into each other's way: one that is put off its CPU while it has the GIL
    stops all the others for as long.
    """
    threads = [
        LaneThread(f"{job}/lane/{index}", cpu if pinned else None, on_error)
        for index, cpu in enumerate(cpus[:number])
    ]
    return [Lane(index, threads[index % len(threads)]) for index in range(number)]


def _load_getcpu() -> Callable[[], int] | None:
    try:
        function = ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError):
        return None
    function.restype = ctypes.c_int
    return function


_GETCPU = _load_getcpu()


def current_cpu() -> int:
    """The CPU that the calling thread runs on; -1 where the system does not tell."""
    return _GETCPU() if _GETCPU is not None else -1


def usable_cpus() -> list[int]:
    """CPUs that this process may run on, by its affinity mask and its cgroup's limit (v2, then v1).

    The limit is a bandwidth, not a set: it shortens the list. At least one.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
    else:
        cpus = list(range(os.cpu_count() or 1))
    limit = _cgroup_cpus()
    return cpus[: max(1, int(limit))] if limit is not None else cpus


def _cgroup_cpus() -> float | None:
    """CPUs by bandwidth: `cpu.max` (quota and period in µs), see the kernel's cgroup-v2 document."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
            quota_us = int(file.read())
        with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
            period_us = int(file.read())
        return quota_us / period_us if quota_us > 0 else None
    except (OSError, ValueError):
        return None
