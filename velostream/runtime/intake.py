"""From Faust's events to the lanes: admits blocks, deals them out, and has them worked on.

A block may be decoded by any lane: one with the fewest queued bytes gets it. So a source with fewer
partitions than lanes (a single gzip file) still uses all of them. Blocks that must be loaded in order are not
bound to the lanes that they are dealt to: a lane takes the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from velostream.connectors.base import TIMES, Block, Content, ExchangedBlock, Source
from velostream.formats.base import Decoded, Decoder
from velostream.formats.file_range import FileRange
from velostream.formats.messages import Messages
from velostream.kernels import native
from velostream.operators.arrays import int64s
from velostream.operators.batch import Batch
from velostream.plan.nodes import Plan
from velostream.runtime.admission import Admission
from velostream.runtime.dataflow import Dataflow, Delivery, PartitionState
from velostream.runtime.epochs import Gathering
from velostream.runtime.failures.base import FailureStrategy
from velostream.runtime.failures.dead_letters import DeadLetterFile
from velostream.runtime.lane import Lane, LaneThread
from velostream.runtime.rejects import Rejects
from velostream.runtime.sequencer import Sequencer
from velostream.runtime.ticket import Ticket
from velostream.runtime.transport import EndOfPartition, IdlePartition, ReadFailed
from velostream.runtime.watermarks import END, IDLE, Watermarks

# Rows that a decoder hands over at once: the columns of a 32 MiB range of small records, and no more.
SLICE_ROWS = 524_288
# Up to so many blocks in flight each one is acknowledged at once; of more, those done by then so often.
FEW_BLOCKS = 3
SWEEP_SECONDS = 0.002


@dataclass(slots=True)
class _Done:
    """A block that a lane has worked on, waiting for its turn; or END or IDLE, said of the partition; or an
    epoch's marker."""

    slices: list[tuple[list[Delivery], Rejects]]
    ticket: Ticket
    watermark: int | None = None
    file: FileRange | None = None
    next_offset: int | None = None
    heard: Sequence[tuple[int, int]] = ()
    marker: Gathering | None = None


class _Partition:
    def __init__(
        self, state: PartitionState, source: Source, columns: Sequence[str], deliver: Callable[..., None]
    ) -> None:
        self.state = state
        self.source = source
        self.columns = columns
        self.sequencer: Sequencer[_Done, Lane] = Sequencer(partial(deliver, self))
        self.admitted = 0
        # Where to read on behind the blocks that were delivered; None: where reading began.
        self.position: int | None = None
        # Blocks to be loaded in order, with turn and ticket, and the lock under which they are.
        self.dealt: deque[tuple[Block, int, Ticket]] = deque()
        self.loading = Lock()
        # One for all lanes of a thread: what it has read last is in that CPU's caches.
        self.decoders: dict[LaneThread, Decoder] = {}


class Intake:
    """Owned by the event loop (`submit`); the work on blocks runs in lanes.

    `on_idle` is called on the loop whenever nothing is in flight any more; `on_error` by lanes.
    """

    def __init__(
        self,
        plan: Plan,
        sources: Mapping[str, Source],
        dataflow: Dataflow,
        lanes: Sequence[Lane],
        admission: Admission,
        strategy: FailureStrategy,
        late_file: DeadLetterFile | None,
        clock: Callable[[], int],
        on_idle: Callable[[], None],
        exchanges: Mapping[str, Source] = MappingProxyType({}),
        tasks: int = 1,
    ) -> None:
        self._dataflow = dataflow
        self._lanes = lanes
        self._admission = admission
        self._strategy = strategy
        self._late_file = late_file
        self._clock = clock
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._tickets = 0
        # Blocks that are done and not acknowledged; appended to by lanes.
        self._gone: deque[tuple[Callable[[], None], Any, int]] = deque()
        self._sweeping = False
        # What lanes have open. Its methods are atomic.
        self._files: set[FileRange] = set()
        self.in_flight = 0
        # How many messages were taken, markers aside.
        self.turns = 0
        self.bytes_read = 0
        # When the first message came (time.perf_counter); 0 until then.
        self.begun = 0.0
        self.partitions: dict[tuple[str, int], _Partition] = {}
        for scan in plan.scans:
            source = sources[scan.source]
            for number, name in enumerate(source.partitions()):
                timed = number >= source.history_partitions or bool(source.config.out_of_orderness)
                state = PartitionState(scan.source, number, name, timed)
                self.partitions[scan.source, number] = _Partition(state, source, scan.columns, self._deliver)
        for name, source in exchanges.items():
            (partition,) = source.partitions()
            state = PartitionState(name, 0, partition, heard=Watermarks(tasks))
            self.partitions[name, 0] = _Partition(state, source, (), self._deliver)
        self.open_partitions = len(self.partitions)

    def leave_out_ended(self) -> None:
        """Wait for no end of exchanges that had ended when they were saved: nobody will say so again."""
        states = [partition.state for partition in self.partitions.values()]
        self.open_partitions -= sum(state.ended and state.heard is not None for state in states)

    async def submit(self, source: str, number: int, content: Any, acknowledge: Callable[[], None]) -> None:
        """Take one message of a partition; returns when it is admitted. `acknowledge` runs when it is done.

        Raises what the transport met while reading.
        """
        self.begun = self.begun or time.perf_counter()
        size = content.size if isinstance(content, Block) else 0
        await self._admission.enter(size)
        if isinstance(content, ReadFailed):
            # Only now: a job that was asked to stop does not fail by what it would have read next.
            raise content.error
        partition = self.partitions[source, number]
        ticket = Ticket(self._tickets, size, partial(self._left, acknowledge, content))
        self._tickets += 1
        self.turns += 1
        self.in_flight += 1
        if self.in_flight > FEW_BLOCKS and not self._sweeping:
            self._sweeping = True
            self._loop.call_later(SWEEP_SECONDS, self._sweep)
        turn = partition.admitted
        partition.admitted += 1
        lane = min(self._lanes, key=lambda lane: (lane.thread.queued_bytes, lane.dealt))
        if isinstance(content, EndOfPartition):
            lane.put_block(partial(self._say, partition, turn, _Done([], ticket, END)), 0)
        elif isinstance(content, IdlePartition):
            lane.put_block(partial(self._say, partition, turn, _Done([], ticket, IDLE)), 0)
        elif content.in_order:
            partition.dealt.append((content, turn, ticket))
            lane.put_block(partial(self._work_on_next, partition), size)
        else:
            lane.put_block(partial(self._work, partition, content, turn, ticket), size)

    def positions(self) -> dict[tuple[str, int], int]:
        """Where to read on, for the partitions that do not begin at their start."""
        return {
            key: partition.position
            for key, partition in self.partitions.items()
            if partition.position is not None
        }

    def mark(self, gathering: Gathering) -> None:
        """End an epoch behind what every partition has been given so far."""
        for partition in self.partitions.values():
            ticket = Ticket(self._tickets, 0, partial(self._left, _nothing, None))
            self._tickets += 1
            self.in_flight += 1
            turn = partition.admitted
            partition.admitted += 1
            lane = min(self._lanes, key=lambda lane: (lane.thread.queued_bytes, lane.dealt))
            lane.put_block(partial(self._say, partition, turn, _Done([], ticket, marker=gathering)), 0)

    def _left(self, acknowledge: Callable[[], None], content: Any, ticket: Ticket) -> None:
        """The last part of a block is done (in a lane)."""
        self._gone.append((acknowledge, content, ticket.size))
        if not self._sweeping:
            self._loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        """Acknowledge the blocks that are done."""
        while self._gone:
            acknowledge, content, size = self._gone.popleft()
            self.in_flight -= 1
            if isinstance(content, Block):
                self.bytes_read += content.input_bytes
            elif isinstance(content, EndOfPartition):
                self.open_partitions -= 1
            acknowledge()
            self._admission.leave(size)
            if self.in_flight == 0:
                self._on_idle()

    def _sweep(self) -> None:
        """While many blocks are in flight the loop looks by itself for those that are done.

        A lane that wakes it at the end of a block hands it the GIL just when the lane needs it for the next.
        """
        self._leave()
        if self.in_flight > FEW_BLOCKS:
            self._loop.call_later(SWEEP_SECONDS, self._sweep)
        else:
            self._sweeping = False
            self._leave()  # what a lane left while it still saw `_sweeping`

    def _exchange_ended(self) -> None:
        """All tasks have said so; it is no message of the transport's that tells."""
        self.open_partitions -= 1
        if self.in_flight == 0:
            self._on_idle()

    def close(self) -> None:
        """Close what is still open; called when no lane runs any more."""
        for file in self._files:
            file.close()
        self._files.clear()

    # --- in a lane ------------------------------------------------------------------------------

    def _say(self, partition: _Partition, turn: int, done: _Done, lane: Lane) -> None:
        partition.sequencer.put(turn, done, lane)

    def _work_on_next(self, partition: _Partition, lane: Lane) -> None:
        """Load the partition's next block, whichever lane comes first, and work on it.

        No lane waits for a block that another has in its queue, only for one that is being loaded.
        """
        with native:
            partition.loading.acquire()
        try:
            block, turn, ticket = partition.dealt.popleft()
            data = self._load(partition, block, lane)
        finally:
            partition.loading.release()
        self._run(partition, block, data, turn, ticket, lane)

    def _work(self, partition: _Partition, block: Block, turn: int, ticket: Ticket, lane: Lane) -> None:
        self._run(partition, block, self._load(partition, block, lane), turn, ticket, lane)

    def _load(self, partition: _Partition, block: Block, lane: Lane) -> Content:
        begun = time.perf_counter()
        data = self._strategy.call(f"source '{partition.state.source}'", block.load)
        if isinstance(data, FileRange):
            self._files.add(data)
        lane.spend("read", begun)
        return data

    def _run(
        self,
        partition: _Partition,
        block: Block,
        data: Content,
        turn: int,
        ticket: Ticket,
        lane: Lane,
    ) -> None:
        slices = []
        heard: Sequence[tuple[int, int]] = ()
        if partition.state.heard is not None:
            assert isinstance(block, ExchangedBlock) and isinstance(data, pa.RecordBatch)
            heard = block.heard
            slices.append(self._exchanged(partition, data, lane))
        elif isinstance(data, pa.RecordBatch):
            for start in range(0, data.num_rows, SLICE_ROWS):
                batch = data.slice(start, SLICE_ROWS).select(partition.columns)
                slices.append(self._columns(partition, block.origin + start, batch, lane))
        else:
            position = 0
            while position < len(data):
                piece, position = self._bytes(partition, block.origin, data, position, lane)
                slices.append(piece)
        file = data if isinstance(data, FileRange) else None
        done = _Done(slices, ticket, file=file, next_offset=block.next_offset, heard=heard)
        partition.sequencer.put(turn, done, lane)

    def _columns(
        self, partition: _Partition, offset: int, batch: pa.RecordBatch, lane: Lane
    ) -> tuple[list[Delivery], Rejects]:
        state = partition.state
        rows = np.arange(batch.num_rows, dtype=np.int64)
        rejects = Rejects(state.source, state.name, offset, None, batch, rows, rows)
        lane.records += batch.num_rows
        return self._dataflow.run(state.source, batch, rejects, lane, self._clock()), rejects

    def _exchanged(
        self, partition: _Partition, batch: pa.RecordBatch, lane: Lane
    ) -> tuple[list[Delivery], Rejects]:
        """Rows of other tasks, which are no input of the job."""
        state = partition.state
        times = None
        if TIMES in batch.schema.names:
            times = int64s(batch.column(TIMES))
            batch = batch.drop_columns([TIMES])
        rows = np.arange(batch.num_rows, dtype=np.int64)
        rejects = Rejects(state.source, state.name, 0, None, batch, rows, rows)
        return self._dataflow.run_exchanged(state.source, Batch(batch, times=times), lane), rejects

    def _bytes(
        self,
        partition: _Partition,
        offset: int,
        data: memoryview | FileRange | Messages,
        position: int,
        lane: Lane,
    ) -> tuple[tuple[list[Delivery], Rejects], int]:
        state = partition.state
        decoder = partition.decoders.get(lane.thread)
        if decoder is None:
            made = partition.source.decoder(state.number, partition.columns)
            assert made is not None
            decoder = partition.decoders[lane.thread] = made
        begun = time.perf_counter()
        if isinstance(data, FileRange):
            read = partial(decoder.decode_file, data, position, SLICE_ROWS)
            decoded: Decoded = self._strategy.call(f"source '{state.source}'", read)
        elif isinstance(data, Messages):
            decoded = decoder.decode_messages(data, position, SLICE_ROWS)
        else:
            decoded = decoder.decode(data, position, SLICE_ROWS)
        lane.spend("decode", begun)
        rejects = Rejects(state.source, state.name, offset, data, decoded.batch, decoded.starts, decoded.ends)
        lane.records += decoded.records
        if decoded.errors:
            rejects.undecodable(decoded.errors)
            # Every query that reads the source has lost these records.
            for stage in self._dataflow.stages.roots[state.source].inline:
                counters = lane.count(stage.stage.query)
                counters.in_ += len(decoded.errors)
                counters.failed += len(decoded.errors)
        deliveries: list[Delivery] = []
        if decoded.batch.num_rows:
            deliveries = self._dataflow.run(state.source, decoded.batch, rejects, lane, self._clock())
        return (deliveries, rejects), decoded.next

    def _deliver(self, partition: _Partition, done: _Done, lane: Lane) -> None:
        """A block's turn has come."""
        for deliveries, rejects in done.slices:
            if rejects.failed:
                # Those that a decoder refused and those that an expression did, in the order of the input.
                self._strategy.records(sorted(rejects.failed, key=lambda record: record.offset))
            self._dataflow.deliver(deliveries, partition.state, done.ticket, lane)
            if rejects.late and self._late_file is not None:
                self._late_file.write(rejects.late)
        if done.next_offset is not None:
            partition.position = done.next_offset
        if done.heard and self._dataflow.hear(partition.state, done.heard, done.ticket, lane):
            self._loop.call_soon_threadsafe(self._exchange_ended)
        if done.watermark is not None:
            self._dataflow.advance(partition.state, done.watermark, done.ticket, lane)
        if done.marker is not None:
            fingerprint = self._strategy.call(
                f"source '{partition.state.source}'",
                partial(partition.source.fingerprint, partition.state.number),
            )
            self._dataflow.mark(partition.state, partition.position, fingerprint, done.marker, done.ticket)
        if done.file is not None:
            self._files.discard(done.file)
            done.file.close()
        done.ticket.release()


def _nothing() -> None:
    """A marker is no event of Faust's: nobody waits for its acknowledgement."""
