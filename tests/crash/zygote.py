"""`python -m tests.crash.zygote`: runs jobs in forked processes, so that a start costs milliseconds.

Speaks lines of JSON with `processes.py`. `{"config": …, "fault": …, "log": PATH}` starts a process, whose
messages go to that file, and is answered with `started`, its number. Of an end `ended` tells, with a `report`
(None of a process that was killed). Its number stays its own until `{"reap": PID}`, which is answered with
`reaped` and the `status` (as `waitpid` has it). All processes end with the input.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import selectors
import signal
import sys
import traceback
from typing import Any

from velostream import faults
from velostream.cli.request import all_kinds
from velostream.config.build import from_mapping
from velostream.errors import VelostreamError
from velostream.runtime.worker import make_job

PR_SET_PDEATHSIG = 1


def run(config: dict[str, Any], fault: str) -> dict[str, Any]:
    """In the child: the report."""
    faults.arm(fault)
    job = make_job(from_mapping(config, all_kinds()).job)
    signal.signal(signal.SIGTERM, lambda *_: job.stop("SIGTERM"))
    try:
        report = job.run()
    except VelostreamError as error:
        return {"state": "refused", "error": error.render(), "rows": 0, "records": 0}
    return {
        "state": report.state,
        "error": report.error,
        "rows": report.rows_out,
        "records": report.records["in"],
    }


def start(asked: dict[str, Any]) -> tuple[int, int]:
    """A process, and the pipe by which it reports."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    code = 1
    try:
        os.close(read)
        if sys.platform == "linux":
            # Also one that is stopped ends when this zygote is killed.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        nothing, log = os.open(os.devnull, os.O_RDWR), log_of(asked["log"])
        for number, taken in ((0, nothing), (1, nothing), (2, log)):
            os.dup2(taken, number)
        logging.basicConfig(format="%(relativeCreated)d %(levelname)s %(name)s: %(message)s")
        logging.getLogger("velostream").setLevel(logging.INFO if asked["log"] else logging.WARNING)
        os.write(write, json.dumps(run(asked["config"], asked["fault"])).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def log_of(path: str) -> int:
    """A file to add to, or the standard error of now."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if path else 2


def main() -> None:
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    reports: dict[int, tuple[int, bytes]] = {}
    left: set[int] = set()
    unread = b""
    while True:
        for key, _ in selector.select():
            if key.fileobj is not sys.stdin:
                pid, report = reports.pop(key.fd)
                piece = os.read(key.fd, 1 << 16)
                if piece:
                    reports[key.fd] = pid, report + piece
                    continue
                selector.unregister(key.fd)
                os.close(key.fd)
                # Not reaped before nobody will send it a signal any more.
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                say({"ended": pid, "report": json.loads(report) if report else None})
                continue
            piece = os.read(key.fd, 1 << 16)
            if not piece:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                return
            *lines, unread = (unread + piece).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                if "reap" in asked:
                    pid, status = os.waitpid(asked["reap"], 0)
                    left.discard(pid)
                    say({"reaped": pid, "status": status})
                else:
                    pid, pipe = start(asked)
                    left.add(pid)
                    reports[pipe] = pid, b""
                    selector.register(pipe, selectors.EVENT_READ)
                    say({"started": pid})


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
