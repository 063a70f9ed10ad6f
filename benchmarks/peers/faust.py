"""Stock Faust, the "before": a plain agent that takes one event a record, decodes its JSON, updates a table.

Its transport is velostream's own, over the same file, with each block unpacked to one message a record. So
what is measured is Faust's way of working, with no broker in it. The store is memory, the changelog goes
nowhere, and orjson is installed, which Faust takes for its JSON.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faust
from faust.transport.drivers import TRANSPORTS

from velostream.connectors.base import Block, Limits
from velostream.connectors.file import FileSource, FileSourceConfig
from velostream.connectors.file.ranges import RANGE_BLOCKS
from velostream.formats.file_range import FileRange
from velostream.runtime import transport

# As many records as a fetch from a broker gives or so: blocks only fill Faust's buffer here.
BLOCK_BYTES = (64 << 10) // RANGE_BLOCKS


def lines_of(block: Block) -> list[bytes]:
    data = block.load()
    if not isinstance(data, FileRange):
        return []  # no record begins in the block
    with closing(data):
        return bytes(data).splitlines()


class Consumer(transport.Consumer):
    """Gives every line of a block as a message of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._records = 0

    async def _getmany(self, active_partitions: Any, timeout: float) -> dict[Any, list[Any]]:  # noqa: ASYNC109
        messages: dict[Any, list[Any]] = {}
        for tp, blocks in (await super()._getmany(active_partitions, timeout)).items():
            lines = [line for _, block in blocks if isinstance(block, Block) for line in lines_of(block)]
            messages[tp] = list(enumerate(lines, self._records))
            self._records += len(lines)
        return messages


class Producer(transport.Producer):
    """Takes changelog records and drops them."""

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        pass


class Transport(transport.Transport):
    Consumer = Consumer
    Producer = Producer


def run(path: Path, result: Path, records: int) -> float:
    return asyncio.run(_run(path, result, records))


async def _run(path: Path, result: Path, records: int) -> float:
    TRANSPORTS.aliases["records"] = f"{__name__}:Transport"
    app = faust.App(
        "tumble",
        broker="records://",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        datadir="",
    )
    source = FileSource("trades", FileSourceConfig(path=str(path)))
    app.inputs = transport.Inputs(
        {"trades": source}, Limits(BLOCK_BYTES), 1, {}, {}, lambda: 0, lambda what, call: call()
    )
    bars = app.Table("bars", default=lambda: (0, 0, 0.0, float("inf"), float("-inf")))
    begun = ended = 0.0
    done = asyncio.Event()

    @app.agent(app.topic("trades", value_serializer="json"))
    async def aggregate(trades: Any) -> None:
        nonlocal begun, ended
        count = 0
        async for trade in trades:
            begun = begun or time.perf_counter()
            key = trade["symbol"], trade["ts"] // 60_000
            n, quantity, total, low, high = bars[key]
            price = trade["price"]
            bars[key] = n + 1, quantity + trade["quantity"], total + price, min(low, price), max(high, price)
            count += 1
            if count == records:
                _write(bars, result)
                ended = time.perf_counter()
                done.set()

    await app.start()
    await done.wait()
    await app.stop()
    return ended - begun


def _write(bars: Any, result: Path) -> None:
    with open(result, "w", encoding="utf-8") as file:
        for (symbol, minute), (n, quantity, total, low, high) in bars.items():
            row = {
                "symbol": symbol,
                "_window_start": datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%d %H:%M:%S"),
                "n": n,
                "quantity": quantity,
                "mean": total / n,
                "low": low,
                "high": high,
            }
            file.write(json.dumps(row) + "\n")
