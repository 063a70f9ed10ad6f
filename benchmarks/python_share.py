"""Python's share of the lanes' time under load at the default block size, as every report gives it."""

from __future__ import annotations

from benchmarks.data import trades
from benchmarks.harness import Contender, Figure, Target, compare, entry
from benchmarks.tumble import result_path, same_rows

TITLE = "Python's share of the lanes' busy time, headline query"
CONTENDERS = (
    Contender("velostream v1", "v1"),
    Contender("velostream v2, 2 partitions, affinity", "v2:2:affinity"),
    Contender("velostream v2, 8 partitions", "v2:8"),
)
TARGETS = tuple(
    Target(f"{each.argument} < 3 %", each.argument, figure="python_percent", at_most=3) for each in CONTENDERS
)


def main(records: int) -> None:
    trades(records)
    base = result_path("python_share", CONTENDERS[0].argument, records)
    compare(
        "python_share",
        TITLE,
        records,
        CONTENDERS,
        lambda contender: same_rows(
            base, result_path("python_share", contender.argument, records), contender.name
        ),
        targets=TARGETS,
        figures=(Figure("python_percent", "% in Python", 2),),
    )


def run(argument: str, records: int) -> dict[str, float]:
    """The lanes' shares, weighted by how long each was busy."""
    from benchmarks.peers import velostream

    report = velostream.run(trades(records), result_path("python_share", argument, records), argument)
    busy = sum(lane["busy_seconds"] for lane in report.lanes)
    python = sum(lane["busy_seconds"] * lane["python_share"] for lane in report.lanes)
    return {"seconds": report.seconds, "python_percent": 100 * python / busy}


if __name__ == "__main__":
    entry(run, main, 10_000_000)
