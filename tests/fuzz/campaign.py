"""`python -m tests.fuzz.campaign [--seconds N] [--quiet N] [--planted] [TARGET…]`: fuzz targets on the debug
build.

Each has a process of its own, as many at a time as there are CPUs (`make fuzz`, `make fuzz-planted`). With
`--quiet N` a target ends once N seconds of its CPU time have brought no new edge, however long that takes.
Ends with a table, and with exit code 1 when a target found something. With `--planted` the kernels have an
over-read for certain inputs (`cython_ext/planted.h`), and a target fails unless it reports it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

TARGETS = sorted(
    path.stem for path in (Path(__file__).parent / "targets").glob("*.py") if path.stem != "__init__"
)
DEBUG = Path("build/debug")
LOGS = Path("build/fuzz")
# How often a running target is looked at.
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a target did: inputs run, edges of native code covered, seconds of CPU time in all and since the
    last new edge, and whether that is well."""

    target: str
    runs: int
    edges: int
    seconds: float
    quiet: float
    well: bool
    words: str


def environment(planted: bool) -> dict[str, str]:
    """That of a fuzzing process: the debug kernels, the sanitizer, no allocator that hides an over-read."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: `pip install 'velostream[fuzz]'`, or run `make fuzz`")
    runtime = Path(atheris.path()) / "asan_with_fuzzer.so"
    if not runtime.exists():
        sys.exit(f"atheris has no {runtime.name}: install its wheel for Linux instead of building it")
    return {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": f"{DEBUG}{os.pathsep}.",
        "PYTHONMALLOC": "malloc",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:malloc_context_size=8:quarantine_size_mb=64",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "LD_PRELOAD": str(runtime),
        **({"VELOSTREAM_PLANT_OVERREAD": "1"} if planted else {}),
    }


def run(target: str, seconds: int, quiet: int, planted: bool, env: dict[str, str]) -> Outcome:
    """Fuzz one target; its output goes to build/fuzz/TARGET.log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{target}{'-planted' if planted else ''}.log"
    folder = LOGS / "planted" if planted else LOGS
    folder.mkdir(exist_ok=True)
    stop = LOGS / f"{target}.stop"
    stop.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.fuzz", target, str(folder), f"-stop_file={stop}"]
    if not quiet:
        command.append(f"-max_total_time={seconds}")
    runs = edges = 0
    used = last_new = 0.0
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
        code = None
        while code is None:
            code = process.poll()
            used = _cpu_seconds(process.pid) or used
            text = log.read_text(errors="replace")
            lines = re.findall(r"^#(\d+)\t\S+ +cov: (\d+)", text, re.MULTILINE)
            before = edges
            runs, edges = (int(number) for number in lines[-1]) if lines else (0, 0)
            if edges != before:
                last_new = used
            elif quiet and used - last_new > quiet:
                stop.touch()
            if code is None:
                time.sleep(LOOK_SECONDS)
    stop.unlink(missing_ok=True)
    if planted:
        well = code != 0 and "heap-buffer-overflow" in text and "in plant_overread" in text
        words = "found the planted over-read" if well else f"did not find the planted over-read: {log}"
    else:
        well = code == 0
        words = "clean" if well else f"FOUND SOMETHING: {log}"
    return Outcome(target, runs, edges, used, used - last_new, well, words)


def _cpu_seconds(pid: int) -> float:
    """What a process has used; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--quiet", type=int, default=0, help="seconds of CPU time without a new edge")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET")
    asked = parser.parse_args()
    env = environment(asked.planted)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fuzz = partial(run, seconds=asked.seconds, quiet=asked.quiet, planted=asked.planted, env=env)
        outcomes = list(pool.map(fuzz, asked.targets or TARGETS))
    print(f"{'target':14}{'inputs':>10}{'edges':>8}{'CPU s':>8}{'quiet s':>8}")
    for outcome in outcomes:
        print(
            f"{outcome.target:14}{outcome.runs:>10,}{outcome.edges:>8,}{outcome.seconds:>8,.0f}"
            f"{outcome.quiet:>8,.0f}  {outcome.words}"
        )
    return 0 if all(outcome.well for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
