"""Processes that run jobs, to be killed, paused and waited for."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 120.0
LINES = 40


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended; `report` is None when it had nothing to say any more."""

    killed: bool
    report: dict[str, Any] | None

    @property
    def state(self) -> str:
        return self.report["state"] if self.report is not None else "killed" if self.killed else "died"


class Process:
    """A process that runs a job. Its number is no other's until `end`, so that signals hit none but it."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self.pid = pid
        self.report: dict[str, Any] | None = None
        self.status: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.over = threading.Event()
        self.log: Path | None = None
        self._zygote = zygote

    @property
    def ended(self) -> bool:
        return self.over.is_set()

    def send(self, number: int) -> None:
        """Send it a signal; may be called when it has ended, and not behind `end`."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def wait(self, seconds: float = SECONDS) -> bool:
        """Until it has ended; False when it does not in time."""
        return self.over.wait(seconds)

    def said(self) -> str:
        """The last of what it has to say."""
        return "\n".join(self.log.read_text().splitlines()[-LINES:]) if self.log is not None else ""

    def end(self, seconds: float = SECONDS) -> Run:
        """How it ended; waits for it, and raises AssertionError when that does not come. Called once."""
        assert self.wait(seconds), f"process {self.pid} does not end"
        self._zygote.ask({"reap": self.pid})
        status = self.status.get()
        return Run(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, self.report)


class Zygote:
    """Forks processes that run jobs (`zygote.py`). What still runs at its end is killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started: queue.SimpleQueue[Process] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._lock = threading.RLock()
        self._reader.start()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._reader.join()
        self._process.stdout.close()
        self._process.wait()

    def start(self, config: dict[str, Any], fault: str = "", log: Path | None = None) -> Process:
        """A process that runs a job, dies at a fault point, and adds its messages to a file."""
        with self._lock:
            self.ask({"config": config, "fault": fault, "log": str(log or "")})
            process = self._started.get(timeout=SECONDS)
            process.log = log
            return process

    def run(self, config: dict[str, Any], fault: str = "") -> Run:
        """Run a job to its end, or to its death at a fault point."""
        return self.start(config, fault).end()

    def ask(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        processes: dict[int, Process] = {}
        for line in self._process.stdout:
            told = json.loads(line)
            if "started" in told:
                process = Process(self, told["started"])
                processes[process.pid] = process
                self._started.put(process)
            elif "ended" in told:
                process = processes[told["ended"]]
                process.report = told["report"]
                process.over.set()
            else:
                processes.pop(told["reaped"]).status.put(told["status"])
