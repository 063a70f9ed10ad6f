"""`python -m tests.crash [--kills N] [--seed N] [--kafka HOST:PORT | --with-kafka]`: kills in numbers.

Every case gets its share of the kills, on files, and on Kafka when a broker is given or started. Ends with a
table, and with exit code 1 when a row was lost, wrong or there twice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.crash.grounds import Files, Ground, Kafka
from tests.crash.harness import Tally, Zygote, torture


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="on files, and as many on Kafka")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kafka", help="host:port of a broker")
    parser.add_argument("--with-kafka", action="store_true", help="start a broker")
    asked = parser.parse_args()
    table = Table("on", "case", "kills", "starts", "lost", "wrong or twice")
    bad = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        zygote = stack.enter_context(Zygote())
        grounds: dict[str, Ground] = {"files": Files()}
        address = asked.kafka
        if asked.with_kafka:
            from tests.kafka.broker import Broker

            broker = Broker()
            stack.callback(broker.close)
            broker.start()
            address = broker.address
        if address:
            from tests.kafka.topics import Topics

            grounds["Kafka"] = Kafka(stack.enter_context(Topics(address)))
        for name, ground in grounds.items():
            total = Tally("all")
            for case in ground.cases:
                kills = -(-asked.kills // len(ground.cases))
                tally = torture(zygote, ground, case, folder / name / case.name, kills=kills, seed=asked.seed)
                print(f"{name}: {tally}", file=sys.stderr, flush=True)
                for field in ("kills", "starts", "lost", "wrong"):
                    setattr(total, field, getattr(total, field) + getattr(tally, field))
                _add(table, name, tally)
            _add(table, name, total)
            bad += total.lost + total.wrong
    Console().print(table)
    return 1 if bad else 0


def _add(table: Table, name: str, tally: Tally) -> None:
    figures = (tally.kills, tally.starts, tally.lost, tally.wrong)
    table.add_row(name, tally.case, *map(str, figures), end_section=tally.case == "all")


if __name__ == "__main__":
    sys.exit(main())
