"""Commits, sources and sinks that fail: what is tried again, what is said of it, and what is never lost."""

from __future__ import annotations

import json
import random
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from velostream.config.schema import DeliveryConfig, FailureConfig, JobConfig, ProcessorConfig, StateConfig
from velostream.connectors.base import sinks
from velostream.errors import ConnectorError, StateError
from velostream.runtime.failures.base import FailedRecord, failures
from velostream.runtime.failures.dead_letters import DeadLetterFile, read_dead_letters
from velostream.runtime.job import Job
from velostream.runtime.report import Report
from velostream.state import durable
from velostream.state.manifest import Epoch
from velostream.state.store import StateStore
from velostream.testing.scripted import SILENCE, ScriptedSinkConfig, ScriptedSourceConfig

COUNTS = "CREATE STREAM out AS SELECT k, COUNT(*) AS n FROM t GROUP BY k EMIT FINAL"
SCHEMA = {"k": "BIGINT"}
RETRIES = FailureConfig("retry_with_backoff", max_retries=1000, backoff="1ms", max_backoff="2ms")


class Fails:
    """Raises at the calls numbered `first` to `last`, from 1; `then` is called by each."""

    def __init__(self, first: int, last: int, then: Callable[[], None] = lambda: None) -> None:
        self.calls = 0
        self._range = range(first, last + 1)
        self._then = then

    def __call__(self, *arguments: Any) -> None:
        self.calls += 1
        if self.calls in self._range:
            self._then()
            raise ConnectorError("not now")


def make_job(
    folder: Path,
    steps: Iterable[Any],
    sink: Any,
    *,
    sql: str = COUNTS,
    failure: FailureConfig | None = None,
    bounded: bool = True,
    mode: str = "v1",
    interval: str = "1ms",
    memory_limit: str = "",
) -> Job:
    return Job(
        JobConfig(
            name="job",
            sql=sql,
            sources={"t": ScriptedSourceConfig(partitions={"p": steps}, schema=SCHEMA, bounded=bounded)},
            sinks={"out": sink},
            processor=ProcessorConfig(mode, partitions=None if mode == "v1" else 3),
            failure=failure or FailureConfig(),
            delivery=DeliveryConfig(interval=interval),
            state=StateConfig(path=str(folder / "state"), memory_limit=memory_limit),
        )
    )


def blocks(count: int, keys: int = 7) -> list[list[dict[str, int]]]:
    """Blocks of one row."""
    return [[{"k": n % keys}] for n in range(count)]


def silent_until(event: threading.Event, before: Iterable[Any], after: Iterable[Any] = ()) -> Iterator[Any]:
    """Steps of a source that has nothing to say until something has happened."""
    yield from before
    while not event.is_set():
        yield SILENCE
    yield from after


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.001)


def run(job: Job) -> Report:
    job.start()
    assert job.wait(30), "the job does not end"
    return job.report()


def lines(path: Path) -> list[Any]:
    return sorted(tuple(json.loads(line).values()) for line in path.read_text().splitlines())


def file_sink(folder: Path) -> Any:
    return sinks["file"].Config(path=str(folder / "out.ndjson"))  # type: ignore[call-arg]


def committed(folder: Path) -> int:
    """The number of the last commit; 0: there is none."""
    store = StateStore(folder / "state", "job")
    try:
        manifest = store.open()
        return 0 if manifest is None else manifest.number
    finally:
        store.close()


# --- commits --------------------------------------------------------------------------------------


def test_no_commit_follows_one_that_failed(tmp_path: Path) -> None:
    """Its changes were taken from the operators: a later commit would be without them, and look whole."""
    published, begun, stopped = threading.Event(), threading.Event(), threading.Event()

    def fail() -> None:
        begun.set()
        assert stopped.wait(30)

    rows = blocks(30)
    steps = silent_until(published, rows[:10], silent_until(threading.Event(), rows[10:20]))
    fails = Fails(2, 2, fail)
    job = make_job(tmp_path, steps, ScriptedSinkConfig(on_prepare=fails, on_publish=published.set))
    job.start()
    assert begun.wait(30)
    job.stop()
    until(lambda: job.state == "stopping")
    stopped.set()
    assert job.wait(30)
    assert (job.report().state, job.report().error, fails.calls) == ("failed", "not now", 2)
    assert committed(tmp_path) == 1
    resumed = make_job(tmp_path, rows, ScriptedSinkConfig())
    assert run(resumed).state == "completed"
    sink: Any = resumed.sink("out")
    assert sorted((row["k"], row["n"]) for row in sink.rows) == [
        (0, 5),
        (1, 5),
        *((k, 4) for k in range(2, 7)),
    ]


@pytest.mark.parametrize("step", ["on_cut", "on_prepare", "on_publish"])
@pytest.mark.parametrize("mode", ["v1", "v2"])
def test_a_job_whose_last_commit_fails_ends_as_failed(tmp_path: Path, step: str, mode: str) -> None:
    sink = ScriptedSinkConfig(**{step: Fails(1, 1)})  # type: ignore[arg-type]
    report = run(make_job(tmp_path, blocks(20), sink, mode=mode, interval="1h"))
    assert (report.state, report.error) == ("failed", "not now")
    assert committed(tmp_path) == (1 if step == "on_publish" else 0)


def test_a_commit_is_not_made_of_what_a_failed_write_has_left(tmp_path: Path) -> None:
    """Records go by, and commits with them: none may have a position behind the row that was not written."""
    sql = "CREATE STREAM out AS SELECT k FROM t"
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        sink = ScriptedSinkConfig(on_write=Fails(100, 100))
        job = make_job(folder, blocks(300), sink, sql=sql, mode="v2")
        assert run(job).state == "failed"
        store = StateStore(folder / "state", "job")
        manifest = store.open()
        store.close()
        position = 0 if manifest is None else manifest.positions.get("t", {}).get("p", 0)
        assert position <= 99


@pytest.mark.parametrize("step", ["on_prepare", "on_publish"])
def test_a_step_of_a_commit_is_tried_again(tmp_path: Path, step: str) -> None:
    fails = Fails(1, 3)
    sink = ScriptedSinkConfig(**{step: fails})  # type: ignore[arg-type]
    job = make_job(tmp_path, blocks(50), sink, failure=RETRIES, interval="1h")
    report = run(job)
    scripted: Any = job.sink("out")
    assert (report.state, report.troubles, fails.calls) == ("completed", [], 4)
    assert sorted((row["k"], row["n"]) for row in scripted.rows) == [(0, 8), *((k, 7) for k in range(1, 7))]


def test_a_sink_that_does_not_close_is_tried_again_where_all_is_committed(tmp_path: Path) -> None:
    fails = Fails(1, 3)
    job = make_job(tmp_path, blocks(5), ScriptedSinkConfig(on_close=fails), failure=RETRIES)
    assert (run(job).state, fails.calls) == ("completed", 4)
    # Without a commit nobody knows what is left of the rows after the first try.
    fails = Fails(1, 3)
    source = ScriptedSourceConfig(partitions={"p": blocks(5)}, schema=SCHEMA)
    sinks = {"out": ScriptedSinkConfig(on_close=fails)}
    job = Job(JobConfig(sql=COUNTS, sources={"t": source}, sinks=sinks, failure=RETRIES))
    report = run(job)
    assert (report.state, report.error, fails.calls) == ("failed", "not now", 1)
    sink: Any = job.sink("out")
    assert sink.closed is False


@pytest.mark.parametrize("seed", range(4))
def test_calls_that_fail_at_random_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Over two runs, the first of which is stopped half-way."""
    rng = random.Random(seed)

    def fail(*arguments: Any) -> None:
        if rng.random() < 0.3:
            raise ConnectorError("not now")

    # What is not a commit is not tried again: to open the state's folder, and to forget all at the end.
    committing = threading.Event()
    commit_whole = StateStore.commit

    def commit(store: StateStore, epoch: Epoch) -> None:
        committing.set()
        try:
            commit_whole(store, epoch)
        finally:
            committing.clear()

    def at_random(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if committing.is_set() and rng.random() < 0.1:
                raise StateError("not now")
            result = function(*arguments)
            # It is done, and nobody hears of it.
            if committing.is_set() and rng.random() < 0.1:
                raise StateError("not now")
            return result

        return call

    rows = blocks(400, 11)
    first, second = (ScriptedSinkConfig(on_write=fail, on_prepare=fail, on_publish=fail) for _ in range(2))
    monkeypatch.setattr(StateStore, "commit", commit)
    for step in ("write_new", "rename", "remove", "sync_folder"):
        monkeypatch.setattr(durable, step, at_random(getattr(durable, step)))
    half = silent_until(threading.Event(), rows[:200])
    job = make_job(tmp_path, half, first, failure=RETRIES, mode="v2")
    job.start()
    until(lambda: job.report().epochs > 0)
    job.drain(200)
    job.stop()
    # A stop ends retries: what fails then fails the job, which has its last commit.
    assert job.wait(30) and job.state in ("interrupted", "failed")
    resumed = make_job(tmp_path, rows, second, failure=RETRIES, mode="v2")
    report = run(resumed)
    assert report.state == "completed", report.error
    sink: Any = resumed.sink("out")
    counts = {row["k"]: row["n"] for row in sink.rows}
    assert len(sink.rows) == 11 and counts == {k: 37 if k < 4 else 36 for k in range(11)}


# --- what is said of it, and what waits -----------------------------------------------------------


def test_a_job_says_which_sink_fails_and_since_when_and_reads_nothing_meanwhile(tmp_path: Path) -> None:
    given = 0
    seen = threading.Event()
    stood: list[int] = []

    def endless() -> Iterator[Any]:
        nonlocal given
        while True:
            given += 1
            yield [{"k": given}]

    def fail() -> None:
        stood.append(given)
        # Not before somebody has looked.
        if len(stood) > 50 and seen.is_set():
            sink.on_prepare = None
        raise ConnectorError("not now")

    sql = "CREATE STREAM out AS SELECT k FROM t"
    sink = ScriptedSinkConfig()
    job = make_job(tmp_path, endless(), sink, sql=sql, failure=RETRIES, bounded=False)
    begun = time.time()
    job.start()
    job.drain(10)
    sink.on_prepare = fail
    until(lambda: len(stood) > 40)
    (trouble,) = job.progress().troubles
    assert (trouble.what, trouble.error, trouble.given_up) == ("sink 'out'", "not now", False)
    assert begun <= trouble.since <= time.time() and trouble.tries >= 40
    assert job.report().troubles[0]["what"] == "sink 'out'"
    # A block of one row is 8 bytes: without end they would all fit. What Faust has in its buffer may come.
    assert stood[-1] - stood[5] <= 100
    stopped_at = stood[-1]
    seen.set()
    until(lambda: not job.progress().troubles and given > stopped_at + 200)
    job.stop()
    assert job.wait(30)
    scripted: Any = job.sink("out")
    written = [row["k"] for row in scripted.rows]
    assert job.report().state == "interrupted" and written == list(range(1, len(written) + 1))


def test_a_source_that_cannot_be_read_is_named_and_the_job_ends() -> None:
    source = ScriptedSourceConfig(partitions={"p": [ConnectorError("gone")] * 9}, schema=SCHEMA)
    failure = FailureConfig("retry_with_backoff", max_retries=3, backoff="1ms", max_backoff="1ms")
    config = JobConfig(
        sql=COUNTS, sources={"t": source}, sinks={"out": ScriptedSinkConfig()}, failure=failure
    )
    report = run(Job(config))
    assert (report.state, report.error) == ("failed", "gone")
    (trouble,) = report.troubles
    assert (trouble["what"], trouble["tries"], trouble["given_up"]) == ("source 't'", 4, True)


def test_what_does_not_answer_is_named_and_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("velostream.runtime.failures.base.LONG_SECONDS", 0.0)
    begun, answered = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        assert answered.wait(30)

    rows = blocks(400)
    steps = silent_until(begun, rows[:1], silent_until(answered, rows[1:]))
    job = make_job(tmp_path, steps, ScriptedSinkConfig(on_prepare=hang))
    job.start()
    until(lambda: job.progress().records == 400)
    sought = [trouble for trouble in job.progress().troubles if trouble.what == "sink 'out'"]
    assert [(trouble.tries, trouble.error) for trouble in sought] == [(0, "it has not answered yet")]
    assert sought[0].since <= time.time()
    answered.set()
    assert job.wait(30)
    assert (job.report().state, job.report().troubles) == ("completed", [])


def test_a_call_that_cannot_be_repeated_is_made_once() -> None:
    calls, fails = strategy(max_retries=9, max_backoff="1ms"), Fails(1, 9)
    with pytest.raises(ConnectorError, match="not now"):
        calls.call("the transaction", fails, repeat=False)
    assert fails.calls == 1
    assert [(trouble.tries, trouble.given_up) for trouble in calls.troubles] == [(1, True)]


def strategy(**keys: Any) -> Any:
    return failures["retry_with_backoff"](FailureConfig("retry_with_backoff", backoff="1ms", **keys), "")


def test_what_was_given_up_is_not_tried_by_others() -> None:
    calls = strategy(max_retries=1, max_backoff="1ms")
    fails = Fails(1, 9)
    with pytest.raises(ConnectorError, match="not now"):
        calls.call("sink 'a'", fails)
    with pytest.raises(ConnectorError, match="not now"):
        calls.call("sink 'a'", fails)
    assert fails.calls == 2
    assert calls.call("sink 'b'", lambda: 7) == 7
    assert [(trouble.what, trouble.tries) for trouble in calls.troubles] == [("sink 'a'", 2)]


def test_an_error_that_would_come_again_is_not_tried_again() -> None:
    calls, made = strategy(max_retries=9, max_backoff="1ms"), []

    def write() -> None:
        made.append(1)
        raise ConnectorError("not now" if len(made) == 1 else "not allowed", final=len(made) > 1)

    with pytest.raises(ConnectorError, match="not allowed"):
        calls.call("sink 'a'", write)
    assert [(trouble.tries, trouble.given_up) for trouble in calls.troubles] == [(2, True)]


def test_a_call_that_succeeds_leaves_the_trouble_of_another() -> None:
    calls = strategy(max_retries=100_000, max_backoff="1ms")
    failed, done = threading.Event(), threading.Event()

    def read() -> None:
        if not done.is_set():
            failed.set()
            raise ConnectorError("not now")

    thread = threading.Thread(target=calls.call, args=("source 't'", read))
    thread.start()
    assert failed.wait(30)
    until(lambda: len(calls.troubles) == 1)
    assert calls.call("source 't'", lambda: 1) == 1
    assert [trouble.what for trouble in calls.troubles] == ["source 't'"]
    done.set()
    thread.join()
    assert calls.troubles == []


def test_errors_of_the_state_are_tried_again_and_defects_are_not() -> None:
    calls = strategy(max_retries=5, max_backoff="1ms")
    left = [StateError("the disk is full"), StateError("the disk is full")]

    def commit() -> str:
        if left:
            raise left.pop()
        return "done"

    assert calls.call("the state", commit) == "done"

    def defect() -> None:
        left.append(StateError("once"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        calls.call("the state", defect)
    assert len(left) == 1 and calls.troubles == []


# --- a full disk ----------------------------------------------------------------------------------


@pytest.fixture
def limit() -> Iterator[Callable[[int | None], None]]:
    """Sets how large a file may become, in bytes; None: as large as before. Above it, writing fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def set_limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield set_limit
    set_limit(None)


@pytest.mark.parametrize("sql", [COUNTS, "CREATE STREAM out AS SELECT k, k + 1 AS n FROM t"])
def test_a_job_waits_while_the_disk_is_full(
    tmp_path: Path, sql: str, limit: Callable[[int | None], None]
) -> None:
    """The state's files do not fit, or those of the sink."""
    lifted = threading.Event()
    block = [{"k": n} for n in range(20_000)]
    steps = silent_until(lifted, [block], [[{"k": -1}]])
    job = make_job(tmp_path, steps, file_sink(tmp_path), sql=sql, failure=RETRIES)
    limit(20_000)
    job.start()
    until(lambda: any(trouble.tries > 3 for trouble in job.progress().troubles))
    (trouble,) = job.progress().troubles
    assert trouble.what == ("the state" if sql == COUNTS else "sink 'out'")
    limit(None)
    until(lambda: not job.progress().troubles)
    lifted.set()
    assert job.wait(30)
    assert job.report().state == "completed"
    second = 1 if sql == COUNTS else 0
    rows = [(k, 1 if second else k + 1) for k in range(-1, 20_000)]
    assert lines(tmp_path / "out.ndjson") == rows


@pytest.mark.parametrize("sql", [COUNTS, "CREATE STREAM out AS SELECT k, 1 AS n FROM t"])
def test_a_job_fails_when_the_disk_is_full_and_goes_on_where_there_is_room(
    tmp_path: Path, sql: str, limit: Callable[[int | None], None]
) -> None:
    never = threading.Event()
    block = [{"k": n} for n in range(20_000)]
    limit(20_000)
    failed = make_job(tmp_path, silent_until(never, [[{"k": -1}], block]), file_sink(tmp_path), sql=sql)
    report = run(failed)
    limit(None)
    assert report.state == "failed" and report.error is not None
    assert "file too large" in report.error.lower() and str(tmp_path.name) in report.error
    assert [(trouble["tries"], trouble["given_up"]) for trouble in report.troubles] == [(1, True)]
    assert run(make_job(tmp_path, [[{"k": -1}], block], file_sink(tmp_path), sql=sql)).state == "completed"
    assert lines(tmp_path / "out.ndjson") == [(k, 1) for k in range(-1, 20_000)]


def test_failed_records_are_kept_all_or_none(tmp_path: Path, limit: Callable[[int | None], None]) -> None:
    file = DeadLetterFile(tmp_path / "dlq.ndjson")
    records = [FailedRecord("t", "p", at, b"x" * 100, "code", "reason") for at in range(40)]
    file.write(records[:5])
    limit(2_000)
    with pytest.raises(ConnectorError, match="File too large"):
        file.write(records[5:])
    assert list(read_dead_letters(file.path)) == records[:5]
    limit(None)
    file.write(records[5:])
    file.close()
    assert list(read_dead_letters(file.path)) == records and file.count == 40
