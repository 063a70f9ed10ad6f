"""`python -m tests.crash.zygote`: runs jobs in forked processes, so that a start costs milliseconds.

Reads a line of JSON for each run (`config`, `fault`) and answers with `pid`, then, when the process has
ended, with its `report` (None when it died); for one more line it gives its `status` (as `waitpid` has it).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

from velostream import faults
from velostream.cli.request import all_kinds
from velostream.config.build import from_mapping
from velostream.errors import VelostreamError
from velostream.runtime.job import Job


def run(config: dict[str, Any], fault: str, out: int) -> None:
    """In the child."""
    faults.arm(fault)
    job = Job(from_mapping(config, all_kinds()).job)
    signal.signal(signal.SIGTERM, lambda *_: job.stop("SIGTERM"))
    try:
        report = job.run()
    except VelostreamError as error:
        os.write(out, json.dumps({"state": "refused", "error": error.render(), "rows": 0}).encode())
        return
    os.write(
        out, json.dumps({"state": report.state, "error": report.error, "rows": report.rows_out}).encode()
    )


def main() -> None:
    while line := sys.stdin.readline():
        asked = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(read)
                run(asked["config"], asked["fault"], write)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write)
        print(json.dumps({"pid": pid}), flush=True)
        with os.fdopen(read, "rb") as pipe:
            report = pipe.read()
        # Not reaped before nobody will send it a signal any more.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        print(json.dumps({"report": json.loads(report) if report else None}), flush=True)
        sys.stdin.readline()
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": status}), flush=True)


if __name__ == "__main__":
    main()
