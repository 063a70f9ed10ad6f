"""A followed file at 50,000 records/s: from a line written to its result line written.

Three processes: one writes lines a millisecond apart in groups of 50, each line stamped just before; the job,
one lane; and this one, which looks at the sink's file every 0.2 ms. A line's latency ends when a look finds
the first result line of its symbol that covers its stamp, so it is too long by up to the time between two
looks, given as its 99th percentile. Every input line must be covered, or the run does not count.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.data import FOLDER
from benchmarks.harness import Contender, Figure, Target, compare, entry
from benchmarks.process import job_command

TITLE = "followed file, 50,000 records/s, line written to result line written"
CONTENDERS = (
    Contender("stateless, v1", "ticks_stateless"),
    Contender("EMIT CHANGES, v1", "ticks_changes"),
)
FIGURES = (
    Figure("p50_ms", "ms p50", 2),
    Figure("p99_ms", "ms p99", 2),
    Figure("observer_ms", "ms between looks, p99", 2),
)
TARGETS = tuple(
    Target(f"{each.name}: {name} ≤ {most} ms", each.argument, figure=f"{name}_ms", at_most=most)
    for each in CONTENDERS
    for name, most in (("p50", 5), ("p99", 20))
)
GROUP = 50
GROUP_SECONDS = 0.001
LOOK_SECONDS = 0.0002
SYMBOLS = 100
PATIENCE_SECONDS = 20.0


def main(records: int) -> None:
    compare("latency", TITLE, records, CONTENDERS, targets=TARGETS, figures=FIGURES)


def run(argument: str, records: int) -> dict[str, float]:
    if argument == "write":
        write(records)
        return {}
    path, result = FOLDER / "latency-ticks.ndjson", FOLDER / "latency-result.ndjson"
    FOLDER.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)
    path.write_bytes(b"")
    job = subprocess.Popen(
        job_command(argument, path, result, "v1"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        _wait_for(result, job)
        command = [sys.executable, "-m", "benchmarks.latency", "write", str(records)]
        writer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        looks, gaps = observe(result, writer)
    finally:
        job.send_signal(signal.SIGINT)
        job.communicate()
    if writer.returncode:
        raise SystemExit("the writer failed")
    return figures(path, looks, gaps)


def write(records: int) -> None:
    """Append the lines in time; a group that is late is written at once, the pace is kept."""
    with open(FOLDER / "latency-ticks.ndjson", "ab", buffering=0) as file:
        begun = time.monotonic()
        for group in range(records // GROUP):
            pause = begun + group * GROUP_SECONDS - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            first = group * GROUP
            # Nanoseconds of the system's clock; within a group one apart, so that no two lines are alike.
            now = time.monotonic_ns()
            lines = [
                f'{{"symbol":"SYM{(first + i) * 7 % SYMBOLS:03d}","quantity":{i + 1},"written":{now + i}}}\n'
                for i in range(GROUP)
            ]
            file.write("".join(lines).encode())


def observe(result: Path, writer: subprocess.Popen[bytes]) -> tuple[list[tuple[int, bytes]], list[int]]:
    """What each look found, with the time after it (ns), and the times between looks (ns).

    Ends when nothing has come for half a second after the writer has ended.
    """
    looks: list[tuple[int, bytes]] = []
    gaps: list[int] = []
    last = time.monotonic_ns()
    heard = last
    with open(result, "rb", buffering=0) as file:
        while True:
            data = file.read(1 << 20)
            now = time.monotonic_ns()
            gaps.append(now - last)
            last = now
            if data:
                looks.append((now, data))
                heard = now
            elif writer.poll() is not None and now - heard > 500_000_000:
                return looks, gaps
            time.sleep(LOOK_SECONDS)


def figures(path: Path, looks: list[tuple[int, bytes]], gaps: list[int]) -> dict[str, float]:
    """Percentiles over all input lines, in ms. Raises SystemExit when a line has no result."""
    import numpy as np

    return percentiles(path, covered(looks)) | {"observer_ms": float(np.percentile(gaps, 99)) / 1e6}


def covered(looks: list[tuple[int, bytes]]) -> dict[str, list[tuple[int, int]]]:
    """By symbol: the stamps that result lines cover, each with the time of the look that found it (ns)."""
    found: dict[str, list[tuple[int, int]]] = {}
    rest = b""
    for at, data in looks:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            row = json.loads(line)
            found.setdefault(row["symbol"], []).append((row["written"], at))
    return found


def percentiles(path: Path, covered: dict[str, list[tuple[int, int]]]) -> dict[str, float]:
    """p50 and p99, in ms, of the time from a line's stamp to the first result that covers it.

    `path` has all lines. Raises SystemExit when a line has no result.
    """
    import numpy as np

    written: dict[str, list[int]] = {}
    with open(path, "rb") as file:
        for line in file:
            tick = json.loads(line)
            written.setdefault(tick["symbol"], []).append(tick["written"])
    latencies = []
    for symbol, stamps in written.items():
        rows = np.array(covered.get(symbol, []), dtype=np.int64).reshape(-1, 2)
        found = np.searchsorted(rows[:, 0], stamps)
        if not len(rows) or found[-1] == len(rows):
            raise SystemExit(f"the last lines of {symbol} have no result")
        latencies.append(rows[found, 1] - np.array(stamps))
    p50, p99 = np.percentile(np.concatenate(latencies), [50, 99]) / 1e6
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _wait_for(result: Path, job: subprocess.Popen[bytes]) -> None:
    """The sink opens its file when the job begins."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not result.exists():
        if job.poll() is not None or time.monotonic() > deadline:
            output = job.communicate()[0] if job.poll() is not None else b"no sink was opened"
            raise SystemExit(output.decode(errors="replace"))
        time.sleep(0.05)


if __name__ == "__main__":
    entry(run, main, 1_000_000)
