"""Bytewax: lines by the megabyte, decoded by msgspec to a declared struct, one `fold_window`, one worker.

`ordered=False` spares the sorting by time that the fold does not need. Batches of 8 KB are half as fast.
Bytewax moves its watermark on with the clock of the machine between events, so without a wait it takes some
records at a window's end for late, although they come in order.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.files import FileSink
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import windowing
from bytewax.testing import run_main

BATCH_BYTES = 1 << 20
ALIGN = datetime(2023, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WAIT = timedelta(seconds=10)


class Trade(msgspec.Struct):
    symbol: str
    price: float
    quantity: int
    ts: int


class Bar:
    """The fold's state."""

    __slots__ = ("high", "low", "n", "quantity", "total")

    def __init__(self) -> None:
        self.n = 0
        self.quantity = 0
        self.total = 0.0
        self.low = float("inf")
        self.high = float("-inf")


class Lines(StatefulSourcePartition[bytes, None]):
    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")

    def next_batch(self) -> list[bytes]:
        lines = self._file.readlines(BATCH_BYTES)
        if not lines:
            raise StopIteration
        return lines

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._file.close()


class LinesSource(FixedPartitionedSource[bytes, None]):
    def __init__(self, path: Path) -> None:
        self._path = path

    def list_parts(self) -> list[str]:
        return ["all"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Lines:
        return Lines(self._path)


def keyed(lines: list[bytes]) -> list[tuple[str, Trade]]:
    return [(trade.symbol, trade) for trade in map(DECODE, lines)]


DECODE = msgspec.json.Decoder(Trade).decode


def event_time(trade: Trade, at: Any = datetime.fromtimestamp) -> datetime:
    return at(trade.ts / 1000, UTC)


def fold(bar: Bar, trade: Trade) -> Bar:
    price = trade.price
    bar.n += 1
    bar.quantity += trade.quantity
    bar.total += price
    if price < bar.low:
        bar.low = price
    if price > bar.high:
        bar.high = price
    return bar


def merge(one: Bar, other: Bar) -> Bar:
    raise AssertionError("tumbling windows do not merge")


def row(window: tuple[str, tuple[int, Bar]]) -> tuple[str, str]:
    symbol, (number, bar) = window
    start = ALIGN + number * MINUTE
    fields = {
        "symbol": symbol,
        "_window_start": start.strftime("%Y-%m-%d %H:%M:%S"),
        "n": bar.n,
        "quantity": bar.quantity,
        "mean": bar.total / bar.n,
        "low": bar.low,
        "high": bar.high,
    }
    return symbol, json.dumps(fields)


def run(path: Path, result: Path) -> float:
    flow = Dataflow("tumble")
    trades = op.flat_map_batch("decode", op.input("lines", flow, LinesSource(path)), keyed)
    bars = windowing.fold_window(
        "minute",
        trades,
        windowing.EventClock(event_time, wait_for_system_duration=WAIT),
        windowing.TumblingWindower(length=MINUTE, align_to=ALIGN),
        Bar,
        fold,
        merge,
        ordered=False,
    )
    result.unlink(missing_ok=True)
    op.output("result", op.map("row", bars.down, row), FileSink(result))
    begun = time.perf_counter()
    run_main(flow)
    return time.perf_counter() - begun
