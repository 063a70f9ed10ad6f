"""The headline query when one symbol has half of the records: does a second lane still help?"""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.data import FOLDER, SEED, START_MS
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
    if path.exists():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    generator = random.Random(SEED)
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="ascii", buffering=1 << 20) as file:
        for start in range(0, records, 10_000):
            numbers = range(start, min(start + 10_000, records))
            file.writelines(_trade(generator, number) for number in numbers)
    partial.rename(path)
    return path


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
    path, result = skewed_trades(records), result_path("skewed_keys", argument, records)
    engine, _, threads = argument.partition(":")
    if engine == "duckdb":
        from benchmarks.peers import duckdb

        return duckdb.run(path, result, int(threads))
    from benchmarks.peers import velostream

    return velostream.run(path, result, argument).seconds


if __name__ == "__main__":
    entry(run, main, 10_000_000)
