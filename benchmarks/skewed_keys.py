"""The headline query when one symbol has half of the records: does a second lane still help?"""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks import peers
from benchmarks.data import FOLDER, SEED, START_MS, write_lines
from benchmarks.harness import Contender, Target, compare, entry
from benchmarks.tumble import result_path, same_rows

CONTENDERS = (
    Contender("DuckDB, 1 thread", "duckdb:1", needs="duckdb"),
    Contender("velostream v1", "v1"),
    Contender("velostream v2, 2 partitions, affinity", "v2:2:affinity"),
)
TARGETS = (Target("v2:2:affinity ≥ 1.5x v1", "v2:2:affinity", over="v1", at_least=1.5),)


def skewed_trades(records: int) -> Path:
    """As `trades`, but every other record is of the symbol SYM000, in no order."""
    path = FOLDER / f"skewed-trades-{records}.ndjson"
    generator = random.Random(SEED)
    return write_lines(path, records, lambda number: _trade(generator, number))


def _trade(generator: random.Random, number: int) -> str:
    symbol = 0 if generator.randrange(2) else generator.randrange(1, 100)
    cents, quantity = generator.randrange(10_000, 20_000), generator.randrange(1, 1000)
    return (
        f'{{"symbol":"SYM{symbol:03d}","price":{cents // 100}.{cents % 100:02d},"quantity":{quantity},'
        f'"ts":{START_MS + number},"trader":"T{generator.randrange(1000):05d}"}}\n'
    )


def main(records: int) -> None:
    skewed_trades(records)
    base = result_path("skewed_keys", CONTENDERS[0].argument, records)
    compare(
        "skewed_keys",
        "the headline query, one symbol with half of the records",
        records,
        CONTENDERS,
        lambda contender: same_rows(
            base, result_path("skewed_keys", contender.argument, records), contender.name
        ),
        targets=TARGETS,
    )


def run(argument: str, records: int) -> float:
    """Seconds from the first block read to the last row written."""
    return peers.run(argument, skewed_trades(records), result_path("skewed_keys", argument, records), records)


if __name__ == "__main__":
    entry(run, main, 10_000_000)
