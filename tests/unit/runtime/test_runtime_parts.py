"""The small parts of the runtime: watermarks, sequencer, admission, ticket, lane."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.kernels import native
from velostream.runtime.admission import Admission
from velostream.runtime.lane import Lane, LaneThread, make_lanes, usable_cpus
from velostream.runtime.sequencer import Sequencer
from velostream.runtime.ticket import Ticket
from velostream.runtime.watermarks import END, IDLE, START, Watermarks

# --- watermarks -----------------------------------------------------------------------------------


def test_the_minimum_over_senders_counts() -> None:
    watermarks = Watermarks(3)
    assert watermarks.current == START
    assert not watermarks.advance(0, 10)
    assert not watermarks.advance(1, 20)
    assert watermarks.advance(2, 5) and watermarks.current == 5
    assert not watermarks.advance(1, 30)
    assert watermarks.advance(2, 50) and watermarks.current == 10


def test_a_watermark_never_goes_back() -> None:
    watermarks = Watermarks(1)
    watermarks.advance(0, 10)
    assert not watermarks.advance(0, 5)
    assert watermarks.current == 10


def test_an_ended_sender_holds_nothing_back() -> None:
    watermarks = Watermarks(2)
    watermarks.advance(0, 10)
    assert watermarks.advance(1, END) and watermarks.current == 10
    assert watermarks.advance(0, END) and watermarks.current == END


def test_a_silent_sender_holds_nothing_back_until_it_speaks() -> None:
    watermarks = Watermarks(2)
    watermarks.advance(0, 10)
    watermarks.advance(1, 5)
    assert watermarks.advance(1, IDLE) and watermarks.current == 10
    assert watermarks.advance(0, 20) and watermarks.current == 20
    assert not watermarks.advance(1, 7), "it is behind, and time does not go back"
    assert not watermarks.advance(0, 30), "it counts again"
    assert watermarks.advance(1, 25) and watermarks.current == 25


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_when_all_are_silent_the_furthest_counts_whichever_fell_silent_first(order: tuple[int, int]) -> None:
    watermarks = Watermarks(2)
    watermarks.advance(0, 10)
    watermarks.advance(1, 3)
    for sender in order:
        watermarks.advance(sender, IDLE)
    assert watermarks.current == 10


def test_silence_from_the_start_says_nothing() -> None:
    watermarks = Watermarks(2)
    assert not watermarks.advance(0, IDLE)
    assert not watermarks.advance(1, IDLE)
    assert watermarks.current == START


def test_the_input_has_not_ended_while_a_silent_sender_may_speak() -> None:
    watermarks = Watermarks(2)
    watermarks.advance(0, 10)
    watermarks.advance(1, 10)
    watermarks.advance(1, IDLE)
    assert not watermarks.advance(0, END)
    assert watermarks.current == 10
    assert watermarks.advance(1, 30) and watermarks.current == 30
    assert watermarks.advance(1, END) and watermarks.current == END


EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-50, 50) | st.sampled_from([IDLE, END])), max_size=40
)


@given(EVENTS)
def test_watermarks_are_what_a_naive_count_says(events: list[tuple[int, int]]) -> None:
    watermarks = Watermarks(3)
    said = [START] * 3
    idle = [False] * 3
    current = START
    for sender, watermark in events:
        if said[sender] == END:
            continue  # nothing follows an end
        if watermark == IDLE:
            idle[sender] = True
        else:
            idle[sender] = False
            said[sender] = max(said[sender], watermark)
        awake = [w for w, silent in zip(said, idle, strict=True) if not silent]
        lowest = min(awake, default=END)
        if lowest == END and any(idle):
            lowest = max(w for w, silent in zip(said, idle, strict=True) if silent)
        rises = lowest > current
        current = max(current, lowest)
        assert watermarks.advance(sender, watermark) == rises
        assert watermarks.current == current


# --- sequencer ------------------------------------------------------------------------------------


@given(st.permutations(range(12)))
def test_any_order_of_arrival_is_delivered_in_order(arrival: list[int]) -> None:
    delivered: list[int] = []
    sequencer: Sequencer[int, None] = Sequencer(lambda result, _: delivered.append(result))
    for at, number in enumerate(arrival):
        sequencer.put(number, number, None)
        come = set(arrival[: at + 1])
        expected = next(n for n in range(13) if n not in come)
        assert delivered == list(range(expected)), "at once, as soon as those before it are there"


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(60)), st.integers(2, 5))
def test_threads_deliver_in_order_one_at_a_time(arrival: list[int], threads: int) -> None:
    delivered: list[int] = []
    inside = threading.Lock()

    def deliver(result: int, carrier: int) -> None:
        assert inside.acquire(blocking=False), "two deliver at the same time"
        delivered.append(result)
        inside.release()

    sequencer: Sequencer[int, int] = Sequencer(deliver)
    failures: list[BaseException] = []

    def carry(mine: int) -> None:
        try:
            for number in arrival[mine::threads]:
                sequencer.put(number, number, mine)
        except BaseException as error:
            failures.append(error)

    started = [Thread(target=carry, args=(mine,)) for mine in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert failures == []
    assert delivered == list(range(60))


def test_a_carrier_that_comes_meanwhile_does_not_wait() -> None:
    """While 0 is being delivered, 1 is left behind for its carrier."""
    inside, release = threading.Event(), threading.Event()
    carriers: list[tuple[int, str]] = []

    def deliver(result: int, carrier: str) -> None:
        carriers.append((result, carrier))
        if result == 0:
            inside.set()
            release.wait(30)

    sequencer: Sequencer[int, str] = Sequencer(deliver)
    thread = Thread(target=sequencer.put, args=(0, 0, "slow"))
    thread.start()
    assert inside.wait(30)
    sequencer.put(1, 1, "quick")
    assert carriers == [(0, "slow")]
    release.set()
    thread.join()
    assert carriers == [(0, "slow"), (1, "slow")]


def test_nothing_is_delivered_after_a_failure() -> None:
    delivered: list[int] = []

    def deliver(result: int, carrier: None) -> None:
        if result == 1:
            raise ValueError("broken")
        delivered.append(result)

    sequencer: Sequencer[int, None] = Sequencer(deliver)
    sequencer.put(2, 2, None)
    sequencer.put(0, 0, None)
    with pytest.raises(ValueError, match="broken"):
        sequencer.put(1, 1, None)
    sequencer.put(3, 3, None)
    assert delivered == [0]


# --- admission ------------------------------------------------------------------------------------


def on_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


async def turns() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_bytes_in_flight_are_bounded_and_let_in_by_arrival() -> None:
    async def run() -> None:
        admission = Admission(100)
        entered: list[int] = []

        async def enter(number: int, size: int) -> None:
            await admission.enter(size)
            entered.append(number)

        tasks = [asyncio.ensure_future(enter(n, size)) for n, size in enumerate((60, 40, 30, 1))]
        await turns()
        assert entered == [0, 1], "3 would fit, and waits behind 2"
        assert admission.used_bytes == 100
        admission.leave(40)
        await turns()
        assert entered == [0, 1, 2, 3]
        assert (admission.used_bytes, admission.peak_bytes) == (91, 100)
        await asyncio.gather(*tasks)

    on_loop(run())


def test_a_block_larger_than_the_budget_is_let_in_alone() -> None:
    async def run() -> None:
        admission = Admission(10)
        await admission.enter(5)
        large = asyncio.ensure_future(admission.enter(50))
        await turns()
        assert not large.done()
        admission.leave(5)
        await turns()
        assert large.done() and admission.used_bytes == 50
        small = asyncio.ensure_future(admission.enter(1))
        await turns()
        assert not small.done()
        admission.leave(50)
        await small

    on_loop(run())


def test_nothing_is_let_in_while_paused() -> None:
    async def run() -> None:
        admission = Admission(100)
        await admission.enter(1)
        admission.pause()
        waiting = asyncio.ensure_future(admission.enter(1))
        await turns()
        admission.leave(1)
        await turns()
        assert not waiting.done()
        admission.resume()
        await waiting

    on_loop(run())


def test_a_cancelled_wait_takes_no_bytes() -> None:
    async def run() -> None:
        admission = Admission(10)
        await admission.enter(10)
        gone = asyncio.ensure_future(admission.enter(10))
        behind = asyncio.ensure_future(admission.enter(10))
        await turns()
        gone.cancel()
        await turns()
        admission.leave(10)
        await behind
        assert admission.used_bytes == 10

    on_loop(run())


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 50))
def test_never_more_than_the_budget_unless_one_block_is(sizes: list[int], limit: int) -> None:
    async def run() -> None:
        admission = Admission(limit)
        inside: list[int] = []

        async def enter(size: int) -> None:
            await admission.enter(size)
            inside.append(size)
            assert sum(inside) <= limit or sum(1 for other in inside if other) == 1

        tasks = [asyncio.ensure_future(enter(size)) for size in sizes]
        await turns()
        while inside:
            admission.leave(inside.pop(0))
            await turns()
        await asyncio.gather(*tasks)
        assert admission.used_bytes == 0

    on_loop(run())


# --- ticket ---------------------------------------------------------------------------------------


def test_a_ticket_is_done_once_at_its_last_release() -> None:
    done: list[int] = []
    ticket = Ticket(7, 100, lambda ticket: done.append(ticket.number))
    ticket.hold(2)
    ticket.release()
    ticket.release()
    assert done == []
    ticket.release()
    assert done == [7]


def test_parts_released_by_many_threads_are_done_once() -> None:
    done: list[int] = []
    ticket = Ticket(1, 1, lambda ticket: done.append(ticket.number))
    ticket.hold(400)
    threads = [Thread(target=lambda: [ticket.release() for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == []
    ticket.release()
    assert done == [1]


# --- lane -----------------------------------------------------------------------------------------


def new_lane(cpu: int | None = None, errors: list[BaseException] | None = None) -> Lane:
    return Lane(0, LaneThread("job/lane/0", cpu, (errors if errors is not None else []).append))


def run_in(lane: Lane, task: Callable[[Lane], None]) -> None:
    """Run a task in the lane, and wait for it."""
    done = threading.Event()

    def both(lane: Lane) -> None:
        task(lane)
        done.set()

    lane.put_batch(both)
    assert done.wait(30)


def test_batches_go_before_blocks() -> None:
    lane, order = new_lane(), []
    for number in range(3):
        lane.put_block(lambda lane, number=number: order.append(f"block {number}"), 10)  # type: ignore[misc]
        lane.put_batch(lambda lane, number=number: order.append(f"batch {number}"))  # type: ignore[misc]
    assert lane.thread.queued_bytes == 30
    last = threading.Event()
    lane.put_block(lambda lane: last.set(), 1)
    lane.thread.start()
    assert last.wait(30)
    lane.thread.stop()
    assert order == [f"{kind} {number}" for kind in ("batch", "block") for number in range(3)]
    assert (lane.thread.queued_bytes, lane.blocks) == (0, 4)


def test_a_lane_tells_the_longest_of_its_snapshots_beside_the_time_of_all() -> None:
    lane, now = new_lane(), time.perf_counter()
    lane.snapshot(now - 20)
    lane.snapshot(now - 10)
    assert 20 <= lane.longest_snapshot_seconds < 30 <= lane.seconds["snapshot"]


def test_a_lane_survives_an_error_to_be_joined() -> None:
    errors: list[BaseException] = []
    lane = new_lane(errors=errors)
    lane.thread.start()

    def fail(lane: Lane) -> None:
        raise ValueError("broken")

    lane.put_batch(fail)
    run_in(lane, lambda lane: None)
    lane.thread.stop()
    lane.thread.stop()
    assert [str(error) for error in errors] == ["broken"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin threads")
def test_a_pinned_lane_runs_on_its_cpu_and_leaves_the_others_alone() -> None:
    cpu = usable_cpus()[-1]
    before = os.sched_getaffinity(0)
    lane, seen = new_lane(cpu), []
    lane.thread.start()
    run_in(lane, lambda lane: seen.append(os.sched_getaffinity(0)))
    done = threading.Event()
    lane.put_block(lambda lane: None, 1)
    lane.put_block(lambda lane: done.set(), 1)
    assert done.wait(30)
    lane.thread.stop()
    assert seen == [{cpu}]
    assert lane.cpus_seen == {cpu}
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("pinned", [False, True])
def test_more_lanes_than_cpus_share_their_threads(pinned: bool) -> None:
    lanes = make_lanes("job", 5, [3, 7], pinned, [].append)
    assert [lane.number for lane in lanes] == [0, 1, 2, 3, 4]
    threads = [lane.thread for lane in lanes]
    assert threads == [threads[0], threads[1], threads[0], threads[1], threads[0]]
    assert threads[0] is not threads[1]
    assert [lane.thread.cpu for lane in lanes] == ([3, 7, 3, 7, 3] if pinned else [None] * 5)


def test_lanes_up_to_the_number_of_cpus_have_threads_of_their_own() -> None:
    lanes = make_lanes("job", 2, [0, 1, 2], False, [].append)
    assert lanes[0].thread is not lanes[1].thread


def test_a_shared_thread_knows_whose_task_it_runs() -> None:
    first, second = make_lanes("job", 2, [0], False, [].append)
    first.thread.start()
    ran: list[int] = []
    run_in(second, lambda lane: ran.append(lane.number))
    run_in(first, lambda lane: ran.append(lane.number))
    first.thread.stop()
    assert ran == [1, 0]
    assert first.busy_seconds > 0 and second.busy_seconds > 0


def test_a_lanes_time_outside_of_python_is_told_apart() -> None:
    lane = new_lane()
    lane.thread.start()

    def sleep_outside(lane: Lane) -> None:
        with native, native:  # nested: the outermost counts
            threading.Event().wait(0.03)

    run_in(lane, sleep_outside)
    lane.thread.stop()
    assert 0.03 <= lane.native_seconds <= lane.busy_seconds < 2 * lane.native_seconds


def test_at_least_one_cpu_is_usable() -> None:
    cpus = usable_cpus()
    assert cpus and cpus == sorted(set(cpus))
