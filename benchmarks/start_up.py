"""Start-up: from the start of the process `python run.py` to the first block read."""

from __future__ import annotations

from benchmarks.data import trades
from benchmarks.harness import Contender, Figure, Target, compare, entry
from benchmarks.process import job_command, last_report, watch
from benchmarks.tumble import result_path

TITLE = "process start to first block read"
CONTENDERS = (
    Contender("python run.py, v1", "v1"),
    Contender("python run.py, v2, 2 partitions", "v2:2"),
)
TARGETS = tuple(
    Target(f"{processor} ≤ 0.9 s", processor, figure="start_up", at_most=0.9) for processor in ("v1", "v2:2")
)


def main(records: int) -> None:
    trades(records)
    compare(
        "start_up",
        TITLE,
        records,
        CONTENDERS,
        targets=TARGETS,
        figures=(Figure("start_up", "s to first block", 3), Figure("process", "s of the whole process", 3)),
    )


def run(argument: str, records: int) -> dict[str, float]:
    """Seconds to the first block (the job's own stamp, by the system's clock), and to the exit."""
    result = result_path("start_up", argument, records)
    ended = watch(job_command("tumble", trades(records), result, argument))
    return {"start_up": last_report()["begun_at"] - ended.begun_at, "process": ended.seconds}


if __name__ == "__main__":
    entry(run, main, 100_000)
