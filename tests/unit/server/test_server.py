"""The job server: checks, true statuses, stopping, pausing, and what it says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from threading import Barrier, Thread
from typing import Any

import pyarrow as pa
import pytest

from velostream.config.schema import FailureConfig, JobConfig
from velostream.connectors.memory import MemorySinkConfig, MemorySourceConfig
from velostream.errors import BindError, ConfigError, ConnectorError, VelostreamError
from velostream.processors import JobProcessorConfig
from velostream.server import JobStatus, JobSummary, StreamJobServer
from velostream.testing.scripted import ScriptedSinkConfig, ScriptedSourceConfig

ROWS = pa.table({"a": ["x", "y", "x"], "v": [1, 2, 3]})
QUERY = "SELECT a, v FROM t"


def server(max_jobs: int = 10) -> StreamJobServer:
    made = StreamJobServer.new("localhost:9092", "group", max_jobs)
    return made.with_processor_config(JobProcessorConfig.V2(2))


def table() -> dict[str, Any]:
    return {"t": MemorySourceConfig(data=ROWS)}


def endless() -> dict[str, Any]:
    def steps() -> Iterator[list[dict[str, Any]]]:
        number = 0
        while True:
            number += 1
            yield [{"a": "x", "v": number}]

    schema = {"a": "VARCHAR", "v": "BIGINT"}
    return {"t": ScriptedSourceConfig(partitions={"p": steps()}, schema=schema, bounded=False)}


def until(condition: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        waited.wait(0.001)
    raise AssertionError("it does not come")


@pytest.fixture
def running() -> Iterator[StreamJobServer]:
    """A server with an endless job 'forever' that has begun to work."""
    made = server()
    made.deploy_job("forever", "1", QUERY, "out", sources=endless())
    until(lambda: status(made, "forever").stats.get("rows_out", 0) > 0)
    yield made
    made.graceful_shutdown()


def status(server: StreamJobServer, name: str) -> JobSummary:
    return server.get_job_status(name)


def test_the_status_says_which_sink_fails_and_since_when() -> None:
    works = threading.Event()

    def fail(batch: Any) -> None:
        if not works.is_set():
            raise ConnectorError("not now")

    failure = FailureConfig("retry_with_backoff", max_retries=100_000, backoff="1ms", max_backoff="1ms")
    made = server()
    config = JobConfig(failure=failure)
    sinks = {"out": ScriptedSinkConfig(on_write=fail)}
    made.deploy_job("job", "1", QUERY, "topic", sources=table(), sinks=sinks, config=config)
    until(lambda: bool(status(made, "job").stats.get("troubles")))
    [trouble] = status(made, "job").stats["troubles"]
    assert (trouble["what"], trouble["error"], trouble["given_up"]) == ("sink 'out'", "not now", False)
    assert status(made, "job").created_at <= trouble["since"] and trouble["tries"] >= 1
    works.set()
    made.wait_job("job", 30)
    assert (status(made, "job").status, status(made, "job").stats["troubles"]) == (JobStatus.COMPLETED, [])


# --- checks ---------------------------------------------------------------------------------------


def test_no_more_jobs_than_there_is_room_for(running: StreamJobServer) -> None:
    running.max_jobs = 1
    with pytest.raises(ConfigError) as caught:
        running.deploy_job("second", "1", QUERY, "second", sources=table())
    assert caught.value.message == "Maximum jobs limit reached (1)"
    running.stop_job("forever")
    running.deploy_job("second", "1", QUERY, "second", sources=table())


def test_capacity_is_checked_before_the_name(running: StreamJobServer) -> None:
    running.max_jobs = 1
    with pytest.raises(ConfigError, match="Maximum jobs limit reached"):
        running.deploy_job("forever", "1", QUERY, "out", sources=table())


def test_a_name_in_use_is_refused_and_free_again_when_its_job_has_ended(running: StreamJobServer) -> None:
    with pytest.raises(ConfigError) as caught:
        running.deploy_job("forever", "2", QUERY, "other", sources=table())
    assert caught.value.message == "Job 'forever' already exists"
    running.stop_job("forever")
    running.deploy_job("forever", "2", QUERY, "out", sources=table())
    running.wait_job("forever")
    assert [(job.name, job.version, job.status) for job in running.list_jobs()] == [
        ("forever", "2", JobStatus.COMPLETED)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((" ", "1", QUERY, "out"), "job name cannot be empty"),
        (("j", "\t", QUERY, "out"), "job version cannot be empty"),
        (("j", "1", " \n", "out"), "query cannot be empty"),
        (("j", "1", QUERY, ""), "topic cannot be empty"),
        (("", "", "", ""), "job name cannot be empty"),
    ],
)
def test_nothing_may_be_empty(arguments: tuple[str, str, str, str], message: str) -> None:
    made = server()
    with pytest.raises(ConfigError) as caught:
        made.deploy_job(*arguments, sources=table())
    assert caught.value.message == message
    assert made.list_jobs() == []


def test_a_wrong_query_is_refused_with_its_place_and_deploys_nothing() -> None:
    made = server()
    with pytest.raises(BindError) as caught:
        made.deploy_job("j", "1", "SELECT vv FROM t", "out", sources=table())
    assert "did you mean 'v'" in str(caught.value) and "^^" in str(caught.value)
    assert made.list_jobs() == []


def test_an_unknown_job_is_named_with_the_nearest_one(running: StreamJobServer) -> None:
    for call in (running.get_job_status, running.stop_job, running.pause_job, running.resume_job):
        with pytest.raises(ConfigError) as caught:
            call("forevr")
        assert str(caught.value) == "unknown job 'forevr'; did you mean 'forever'?"


def test_a_server_needs_room_for_one_job() -> None:
    with pytest.raises(ConfigError, match="max_jobs is 0, expected at least 1"):
        server(0)


@pytest.mark.parametrize(
    ("observability", "message"),
    [
        ({"log_levl": "INFO"}, "did you mean 'log_level'"),
        ({"log_level": ["INFO"]}, "observability.log_level"),
    ],
)
def test_wrong_observability_is_refused(observability: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StreamJobServer.new_with_observability("b", "g", 1, observability)


def test_concurrent_deployments_under_one_name_let_one_pass() -> None:
    made = server()
    outcomes = at_once(8, lambda n: made.deploy_job("same", "1", QUERY, f"out{n}", sources=endless()))
    assert outcomes.count("ok") == 1
    assert outcomes.count("Job 'same' already exists") == 7
    assert len(made.list_jobs()) == 1
    made.graceful_shutdown()


def test_concurrent_deployments_do_not_pass_the_limit() -> None:
    made = server(max_jobs=3)
    outcomes = at_once(8, lambda n: made.deploy_job(f"j{n}", "1", QUERY, f"out{n}", sources=endless()))
    assert outcomes.count("ok") == 3
    assert outcomes.count("Maximum jobs limit reached (3)") == 5
    made.graceful_shutdown()


def at_once(threads: int, call: Callable[[int], None]) -> list[str]:
    outcomes: list[str] = []
    barrier = Barrier(threads)

    def run(number: int) -> None:
        barrier.wait()
        try:
            call(number)
            outcomes.append("ok")
        except VelostreamError as error:
            outcomes.append(error.message)

    started = [Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return outcomes


# --- statuses -------------------------------------------------------------------------------------


def test_a_job_at_the_end_of_its_input_is_completed() -> None:
    made = server()
    made.deploy_job("j", "7", QUERY, "out", sources=table(), sinks={"m": MemorySinkConfig()})
    report = made.wait_job("j")
    assert report is not None and report.state == "completed"
    summary = status(made, "j")
    assert (summary.name, summary.version, summary.topic, summary.status, summary.error) == (
        "j",
        "7",
        "out",
        JobStatus.COMPLETED,
        None,
    )
    assert summary.stats["records"]["used"] == 3
    assert summary.created_at > 1.7e9


def test_a_job_that_is_starting_says_so() -> None:
    """Its sink does not open before the test has looked."""
    made = server()
    opening, looked = threading.Event(), threading.Event()

    def open_slowly() -> None:
        opening.set()
        looked.wait(30)

    sinks = {"m": ScriptedSinkConfig(on_open=open_slowly)}
    made.deploy_job("j", "1", QUERY, "out", sources=table(), sinks=sinks)
    assert opening.wait(30)
    assert status(made, "j").status is JobStatus.STARTING
    assert status(made, "j").stats == {}
    with pytest.raises(ConfigError, match="Job 'j' is Starting: only a running job can be paused"):
        made.pause_job("j")
    looked.set()
    made.wait_job("j")
    assert status(made, "j").status is JobStatus.COMPLETED


def test_pause_and_resume_show_in_the_status(running: StreamJobServer) -> None:
    assert status(running, "forever").status is JobStatus.RUNNING
    running.pause_job("forever")
    assert status(running, "forever").status is JobStatus.PAUSED
    with pytest.raises(ConfigError, match="Job 'forever' is Paused: only a running job can be paused"):
        running.pause_job("forever")
    rows = status(running, "forever").stats["rows_out"]
    running.resume_job("forever")
    assert status(running, "forever").status is JobStatus.RUNNING
    until(lambda: status(running, "forever").stats["rows_out"] > rows + 100)
    with pytest.raises(ConfigError, match="Job 'forever' is Running: only a paused job can be resumed"):
        running.resume_job("forever")


def test_a_stopped_job_is_stopped_and_not_completed(running: StreamJobServer) -> None:
    running.stop_job("forever")
    summary = status(running, "forever")
    assert summary.status is JobStatus.STOPPED and summary.error is None
    records = summary.stats["records"]
    assert records["in"] == records["used"] == summary.stats["rows_out"], "blocks begun are finished"
    running.stop_job("forever")
    for call in (running.pause_job, running.resume_job):
        with pytest.raises(ConfigError, match="Job 'forever' is Stopped"):
            call("forever")


def test_a_paused_job_can_be_stopped(running: StreamJobServer) -> None:
    running.pause_job("forever")
    running.stop_job("forever")
    assert status(running, "forever").status is JobStatus.STOPPED


def test_a_failed_job_says_why(caplog: pytest.LogCaptureFixture) -> None:
    made = server()

    def fail(batch: Any) -> None:
        raise ConnectorError("disk is full", hint="delete something")

    with caplog.at_level(logging.ERROR, "velostream.server"):
        made.deploy_job(
            "j", "1", QUERY, "out", sources=table(), sinks={"m": ScriptedSinkConfig(on_write=fail)}
        )
        made.wait_job("j")
    summary = status(made, "j")
    assert summary.status is JobStatus.FAILED
    assert summary.error == "disk is full; delete something"
    assert caplog.messages == ["Job 'j' failed: disk is full; delete something"]


def test_a_defect_fails_the_job_and_not_the_server() -> None:
    made = server()

    def break_down(batch: Any) -> None:
        raise ZeroDivisionError("by zero")

    sinks = {"m": ScriptedSinkConfig(on_write=break_down)}
    made.deploy_job("j", "1", QUERY, "out", sources=table(), sinks=sinks)
    made.wait_job("j")
    assert status(made, "j").status is JobStatus.FAILED
    assert status(made, "j").error == "internal error: ZeroDivisionError: by zero"
    made.deploy_job("k", "1", QUERY, "out", sources=table())
    report = made.wait_job("k")
    assert report is not None and report.state == "completed"


def test_a_job_that_cannot_start_is_failed_with_the_reason() -> None:
    """Whether a sink can be opened is found when the job starts."""

    def refuse() -> None:
        raise ConnectorError("no room in the sink")

    made = server()
    sinks = {"s": ScriptedSinkConfig(on_open=refuse)}
    made.deploy_job("j", "1", QUERY, "out", sources=table(), sinks=sinks)
    report = made.wait_job("j")
    assert report is not None and report.state == "failed"
    assert "no room in the sink" in str(status(made, "j").error)


def test_a_job_that_does_not_stop_in_time_is_ended_and_counts_as_failed() -> None:
    made = server()
    entered, release = threading.Event(), threading.Event()

    def hold(batch: Any) -> None:
        entered.set()
        release.wait(30)

    sinks = {"m": ScriptedSinkConfig(on_write=hold)}
    made.deploy_job("slow", "1", QUERY, "out", sources=endless(), sinks=sinks)
    assert entered.wait(30)
    unblock = threading.Timer(0.3, release.set)
    unblock.start()
    made.stop_job_with_timeout("slow", 0.05)
    summary = status(made, "slow")
    assert summary.status is JobStatus.FAILED
    assert summary.error == "job 'slow' did not stop within 0.05 s: blocks in flight were dropped"
    unblock.join()


def test_jobs_are_listed_in_the_order_of_their_deployment(running: StreamJobServer) -> None:
    for name in ("b", "a"):
        running.deploy_job(name, "1", QUERY, name, sources=table())
        running.wait_job(name)
    running.deploy_job("b", "2", QUERY, "b", sources=table())
    running.wait_job("b")
    assert [(job.name, job.version) for job in running.list_jobs()] == [
        ("forever", "1"),
        ("a", "1"),
        ("b", "2"),
    ]


def test_wait_gives_nothing_before_the_end(running: StreamJobServer) -> None:
    assert running.wait_job("forever", 0.01) is None


def test_shutdown_stops_all_and_lets_no_more_in(running: StreamJobServer) -> None:
    running.deploy_job("other", "1", QUERY, "other", sources=endless())
    running.pause_job("forever")
    running.graceful_shutdown()
    assert [job.status for job in running.list_jobs()] == [JobStatus.STOPPED, JobStatus.STOPPED]
    with pytest.raises(ConfigError, match=r"the server stops \(shutdown\) and takes no more jobs"):
        running.deploy_job("late", "1", QUERY, "late", sources=table())


# --- settings -------------------------------------------------------------------------------------


def test_performance_metrics_are_given_with_monitoring_only() -> None:
    for monitored in (True, False):
        made = StreamJobServer.new_with_monitoring("b", "g", 5, monitored)
        made.deploy_job("j", "1", QUERY, "out", sources=table(), processor=JobProcessorConfig.V1)
        made.wait_job("j")
        metrics = made.get_performance_metrics()
        if monitored:
            assert metrics is not None and metrics["j"]["records"]["in"] == 3
        else:
            assert metrics is None


def test_a_job_may_name_its_own_processor() -> None:
    made = server()
    made.deploy_job("j", "1", QUERY, "out", sources=table(), processor=JobProcessorConfig.V1)
    report = made.wait_job("j")
    assert report is not None and report.processor == "v1"
    made.deploy_job("k", "1", QUERY, "out", sources=table())
    report = made.wait_job("k")
    assert report is not None and report.processor == "v2:2"


def test_the_configuration_gives_what_the_arguments_do_not() -> None:
    made = server()
    config = JobConfig(sources=table(), sinks={"m": MemorySinkConfig()})
    made.deploy_job("j", "1", QUERY, "out", config=config)
    report = made.wait_job("j")
    assert report is not None
    assert [sink["name"] for sink in report.sinks] == ["m", "stream out"]
    # The stream's rows count once, however many sinks take them.
    assert report.rows_out == 3
