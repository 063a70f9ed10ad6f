"""Input for the benchmarks: made once, the same bytes for every contender."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path

FOLDER = Path("outputs/benchmarks")
SEED = 42
START_MS = 1_700_000_000_000


def trades(records: int) -> Path:
    """NDJSON trades of 91 bytes on average, newline included: 100 symbols, 10,000 traders, 1 ms apart.

    The file of fewer records is a prefix of the file of more.
    """
    path = FOLDER / f"trades-91-{records}.ndjson"
    generator = random.Random(SEED)
    return write_lines(path, records, lambda number: _trade(generator, number))


def write_lines(path: Path, records: int, line: Callable[[int], str]) -> Path:
    """A file of `line(0)`, `line(1)`, …, each with its newline: made once, and complete when it is there."""
    if path.exists():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="ascii", buffering=1 << 20) as file:
        file.writelines(map(line, range(records)))
    partial.rename(path)
    return path


def gzipped(path: Path) -> Path:
    """`path` as one gzip member, at the level that `gzip` takes by default."""
    packed = path.with_name(f"{path.name}.gz")
    if not packed.exists():
        partial = path.with_suffix(".partial")
        with open(path, "rb") as source, gzip.open(partial, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        partial.rename(packed)
    return packed


def _trade(generator: random.Random, number: int) -> str:
    symbol, trader = generator.randrange(100), generator.randrange(10_000)
    price, quantity = generator.randrange(1_000_000, 2_000_000), generator.randrange(1, 1000)
    return (
        f'{{"symbol":"SYM{symbol:03d}","price":{price // 10_000}.{price % 10_000:04d},'
        f'"quantity":{quantity},"ts":{START_MS + number},"trader":"T{trader:07d}"}}\n'
    )
