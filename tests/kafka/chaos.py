"""Jobs in processes of their own on topics that are written meanwhile, and a network that fails them."""

from __future__ import annotations

import asyncio
import atexit
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.crash.cases import COLUMNS, trades
from tests.crash.processes import Zygote
from tests.kafka.topics import Record, Topics
from velostream.connectors.kafka.client import admin, client_settings
from velostream.connectors.kafka.group_messages import Given, Said
from velostream.errors import ConnectorError
from velostream.loop import submit

SECONDS = 60.0
SQL = """
CREATE STREAM out AS SELECT id, symbol, price FROM trades WHERE price % 3 = 0;
CREATE TABLE sums AS SELECT symbol, COUNT(*) AS n, SUM(price) AS total, MAX(id) AS high
FROM trades GROUP BY symbol EMIT CHANGES
"""


def wait_for(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


def shares(address: str, group: str) -> dict[int, frozenset[int]]:
    """The tasks that each member of a job's group was given last, by the member's process."""
    settings = client_settings(address, {}, "sinks.out", "sink")

    async def describe() -> Any:
        # librdkafka shows members of consumers' groups only.
        async with admin(settings) as client:
            return await client.describe_consumer_groups([group])

    try:
        (described,) = [entry for response in submit(describe()).result(SECONDS) for entry in response.groups]
    except ConnectorError:
        # The first group of a broker has no coordinator yet.
        return {}
    *_, members = described[:6]
    found = {}
    for member, _, _, said, given in members:
        if not said:
            # It is about to join.
            continue
        # "process 42 on …"
        process = int(Said.decode(said).what.split()[1])
        # What its predecessor was given is not its own yet.
        own = given and Given.decode(given).member == member
        found[process] = Given.decode(given).tasks if own else frozenset()
    return found


@cache
def _zygote() -> Zygote:
    """The one of all workers: to import what they need takes longer than most of them run."""
    zygote = Zygote()
    atexit.register(zygote.close)
    return zygote


class Worker:
    """A process that runs a job, and tells a file of it. Ends with the context, by force if need be."""

    def __init__(self, config: dict[str, Any], log: Path | None = None) -> None:
        self._process = _zygote().start(config, log=log)
        self.pid = self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self.ended:
            self._process.kill()
        self._process.end()

    @property
    def ended(self) -> bool:
        return self._process.ended

    def send(self, signal: int) -> None:
        self._process.send(signal)

    def report(self) -> dict[str, Any]:
        """What the job says once it has ended; waits for it."""
        assert self._process.wait(SECONDS), "the job does not end"
        assert self._process.report is not None, "the process died"
        return self._process.report

    def stop(self) -> None:
        """End the job as a person would."""
        self.send(signal.SIGTERM)
        report = self.report()
        assert report["state"] == "interrupted", report


class Trades:
    """An endless job from trades to two topics, and what must be in them: the rows that a filter passes, each
    once, and sums by symbol, of which the last one counts."""

    def __init__(self, topics: Topics, seed: int = 1, partitions: int = 4) -> None:
        self.topics = topics
        self.name = topics.unused("job")
        self.source = topics.create(partitions)
        self.out, self.sums = topics.create(3), topics.create(3)
        self._trades = trades(1_000_000, seed)
        self._rows: Counter[bytes] = Counter()
        self._sums: dict[str, tuple[int, int, int]] = {}

    def feed(self, records: int) -> None:
        """Write the next trades to the source."""
        given = [next(self._trades) for _ in range(records)]
        for symbol, line in given:
            trade = json.loads(line)
            count, total, _ = self._sums.get(symbol, (0, 0, 0))
            self._sums[symbol] = (count + 1, total + trade["price"], trade["id"])
            if trade["price"] % 3 == 0:
                self._rows[_row(trade)] += 1
        self.topics.produce(self.source, (Record(line, key=symbol.encode()) for symbol, line in given))

    def config(self, state: Path, address: str = "", **options: Any) -> dict[str, Any]:
        """The job with its state in a folder, and its brokers at an address; options for Kafka's clients of
        its sinks."""
        at = {"kind": "kafka", "brokers": address or self.topics.address}
        sink = {**at, "options": {"request.timeout.ms": 3000, **dotted(options)}}
        return {
            "name": self.name,
            "sql": SQL,
            "sources": {
                "trades": {
                    **at,
                    "topic": self.source,
                    "start": "earliest",
                    "schema": COLUMNS,
                    "options": {"request.timeout.ms": 3000},
                }
            },
            "sinks": {"out": {**sink, "topic": self.out}, "sums": {**sink, "topic": self.sums}},
            "processor": {"version": "v2", "partitions": 2, "block_size": "16KiB"},
            "delivery": {"guarantee": "exactly_once", "interval": "50ms"},
            "state": {"path": str(state)},
        }

    def written(self) -> int:
        """How many rows of the filter are committed. Fails when one is wrong, or there twice."""
        found = Counter(_row(json.loads(record.value or b"")) for record in self.topics.consume(self.out))
        assert not found - self._rows, f"wrong or twice: {(found - self._rows).most_common(3)}"
        return found.total()

    def wait_for(self, rows: int) -> None:
        """Until so many rows are committed."""
        wait_for(lambda: self.written() >= rows, f"{rows} rows")

    def wait_for_all(self) -> None:
        """Until the output is that of all trades."""
        self.wait_for(self._rows.total())
        wait_for(lambda: self._last_sums() == self._sums, "the sums")

    def _last_sums(self) -> dict[str, tuple[int, int, int]]:
        rows = (json.loads(record.value or b"") for record in self.topics.consume(self.sums))
        return {row["symbol"]: (row["n"], row["total"], row["high"]) for row in rows}


def _row(row: dict[str, Any]) -> bytes:
    return b"%d %s %d" % (row["id"], row["symbol"].encode(), row["price"])


def dotted(options: dict[str, Any]) -> dict[str, Any]:
    """Settings of Kafka's clients, given with `_` for `.`."""
    return {name.replace("_", "."): value for name, value in options.items()}


class Proxy:
    """A TCP proxy on loopback that delays what goes through it, and cuts connections, both at random.

    `delay` is the longest delay of a piece (seconds); a connection is cut behind a number of bytes drawn up
    to `cut_bytes`, mostly within a request or a response; 0: never.
    """

    def __init__(self, port: int, target: int, seed: int = 1) -> None:
        self.address = f"127.0.0.1:{port}"
        self.delay = 0.0
        self.cut_bytes = 0
        self.cuts = 0
        self._port, self._target = port, target
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._started.wait(SECONDS)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()

    def hang_up(self) -> None:
        """Cut all connections, so that those that come have the delays and cuts of now."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._started.set()
        await self._done.wait()
        server.close()
        self._cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        other: asyncio.StreamWriter | None = None
        try:
            other_reader, other = await asyncio.open_connection("127.0.0.1", self._target)
            left = [self._random.randrange(1, self.cut_bytes)] if self.cut_bytes else []
            both = [
                asyncio.ensure_future(self._pump(reader, other, left)),
                asyncio.ensure_future(self._pump(other_reader, writer, left)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in both:
                    pump.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, other):
                if end is not None:
                    # At once: what was not sent yet is lost, as by a cut cable.
                    end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]
    ) -> None:
        """Pass on until one end is closed, or no byte is left of those that may go through."""
        while data := await reader.read(1 << 16):
            if self.delay:
                await asyncio.sleep(self._random.uniform(0, self.delay))
            if left and self.cut_bytes:
                data = data[: left[0]]
                left[0] -= len(data)
            writer.write(data)
            await writer.drain()
            if left and left[0] == 0 and self.cut_bytes:
                self.cuts += 1
                return
