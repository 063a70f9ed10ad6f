"""`python -m tests.crash [--kills N] [--seed N] [--kafka HOST:PORT | --with-kafka] [--workers N]`: kills in
numbers.

Every case gets its share of the kills: on files, and with a broker on Kafka, in jobs of one task and in jobs
of four on up to N workers. Ends with a table, and with exit code 1 when a row was lost, wrong or there twice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from tests.crash.grounds import Files, Ground, Kafka, Shared
from tests.crash.harness import Tally, torture
from tests.crash.processes import Zygote

FILES, KAFKA, SHARED = "files", "kafka", "workers"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--kills", type=int, default=200, help="on files, and as many of each kind on Kafka")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kafka", help="host:port of a broker")
    parser.add_argument("--with-kafka", action="store_true", help="start a broker")
    parser.add_argument("--workers", type=int, default=3, help="of a job, at most (default: %(default)s)")
    parser.add_argument("--on", choices=(FILES, KAFKA, SHARED), nargs="+", help="only on these")
    parser.add_argument("--case", nargs="+", help="only these")
    asked = parser.parse_args()
    table = Table("on", Column("case", no_wrap=True), *Tally("").figures(), "minutes")
    bad = False
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        zygote = stack.enter_context(Zygote())
        grounds: dict[str, tuple[Ground, int]] = {FILES: (Files(), 1)}
        address = asked.kafka
        if asked.with_kafka:
            from tests.kafka.broker import Broker

            address = stack.enter_context(Broker()).address
        if address:
            from tests.kafka.topics import Topics

            topics = stack.enter_context(Topics(address))
            grounds[KAFKA] = Kafka(topics), 1
            grounds[SHARED] = Shared(topics), asked.workers
        for name, (ground, workers) in grounds.items():
            if asked.on and name not in asked.on:
                continue
            cases = [case for case in ground.cases if not asked.case or case.name in asked.case]
            total, started = Tally("all"), time.monotonic()
            for case in cases:
                kills = -(-asked.kills // len(cases))
                begun = time.monotonic()
                place = folder / name / case.name
                tally = torture(zygote, ground, case, place, kills=kills, seed=asked.seed, workers=workers)
                print(f"{name}: {tally}", file=sys.stderr, flush=True)
                total.add(tally)
                _add(table, name, tally, time.monotonic() - begun)
            _add(table, name, total, time.monotonic() - started)
            bad |= not total.exact
    # In a file no column is cut.
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 1 if bad else 0


def _add(table: Table, name: str, tally: Tally, seconds: float) -> None:
    figures = (*tally.figures().values(), f"{seconds / 60:.1f}")
    table.add_row(name, tally.case, *map(str, figures), end_section=tally.case == "all")


if __name__ == "__main__":
    sys.exit(main())
