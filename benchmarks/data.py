"""Input for the benchmarks: made once, the same bytes for every contender."""

from __future__ import annotations

import random
from pathlib import Path

FOLDER = Path("outputs/benchmarks")
SEED = 42
START_MS = 1_700_000_000_000


def trades(records: int) -> Path:
    """NDJSON trades of about 91 bytes: 100 symbols, 1,000 traders, 1 ms apart."""
    path = FOLDER / f"trades-{records}.ndjson"
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
    symbol, trader = generator.randrange(100), generator.randrange(1000)
    cents, quantity = generator.randrange(10_000, 20_000), generator.randrange(1, 1000)
    return (
        f'{{"symbol":"SYM{symbol:03d}","price":{cents // 100}.{cents % 100:02d},"quantity":{quantity},'
        f'"ts":{START_MS + number},"trader":"T{trader:05d}"}}\n'
    )
