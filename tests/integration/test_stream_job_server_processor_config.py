"""The processor of a server: the six tests of the seed under their names, and what they leave open."""

from __future__ import annotations

import copy
import logging
import pickle
from dataclasses import FrozenInstanceError, replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velostream.connectors.memory import MemorySinkConfig, MemorySourceConfig
from velostream.errors import ConfigError
from velostream.processors import JobProcessorConfig
from velostream.runtime.lane import usable_cpus
from velostream.server import StreamJobServer

CONFIGS = st.one_of(
    st.just(JobProcessorConfig.V1),
    st.builds(JobProcessorConfig.V2, st.none() | st.integers(1, 10**6), st.booleans()),
)


def new_server() -> StreamJobServer:
    return StreamJobServer.new("localhost:9092", "test-group", 10)


# --- the six --------------------------------------------------------------------------------------


def test_stream_job_server_default_processor_config() -> None:
    for server in (
        new_server(),
        StreamJobServer.new_with_monitoring("localhost:9092", "test-group", 10, True),
        StreamJobServer.new_with_observability("localhost:9092", "test-group", 10, {"log_level": "INFO"}),
    ):
        assert server.processor_config() == JobProcessorConfig.V2(None, False) == JobProcessorConfig()
        assert server.processor_config().lanes == len(usable_cpus())


def test_stream_job_server_v1_processor_config() -> None:
    server = new_server().with_processor_config(JobProcessorConfig.V1)
    assert server.processor_config() == JobProcessorConfig.V1
    assert server.processor_config().version == "v1"
    assert server.processor_config().lanes == 1


def test_stream_job_server_v2_processor_config_with_partitions() -> None:
    server = new_server().with_processor_config(JobProcessorConfig.V2(num_partitions=8))
    config = server.processor_config()
    assert (config.version, config.num_partitions, config.enable_core_affinity) == ("v2", 8, False)
    assert config.lanes == 8


def test_stream_job_server_processor_config_description() -> None:
    cpus = len(usable_cpus())
    expected = {
        JobProcessorConfig.V1: "V1 (Single-threaded, single partition, 1x baseline)",
        JobProcessorConfig.V2(): f"V2 (Multi-partition: CPU count, {cpus}x baseline expected)",
        JobProcessorConfig.V2(8): "V2 (Multi-partition: 8, 8x baseline expected)",
        JobProcessorConfig.V2(8, True): "V2 (Multi-partition: 8 with core affinity, 8x baseline expected)",
        JobProcessorConfig.V2(None, True): (
            f"V2 (Multi-partition: CPU count with core affinity, {cpus}x baseline expected)"
        ),
    }
    for config, description in expected.items():
        assert new_server().with_processor_config(config).processor_config().description() == description


def test_stream_job_server_multiple_processor_configs() -> None:
    first = new_server().with_processor_config(JobProcessorConfig.V1)
    second = new_server().with_processor_config(JobProcessorConfig.V2(4))
    third = new_server()
    assert first.processor_config() == JobProcessorConfig.V1
    assert second.processor_config() == JobProcessorConfig.V2(4)
    assert third.processor_config() == JobProcessorConfig.V2()


def test_stream_job_server_processor_config_clone() -> None:
    config = JobProcessorConfig.V2(8, True)
    server = new_server().with_processor_config(config)
    for copied in (copy.copy(server), copy.deepcopy(server)):
        assert copied is not server
        assert copied.processor_config() == config
        assert (copied.brokers, copied.base_group_id, copied.max_jobs) == ("localhost:9092", "test-group", 10)
        copied.with_processor_config(JobProcessorConfig.V1)
        assert server.processor_config() == config
    for clone in (
        copy.copy(config),
        copy.deepcopy(config),
        replace(config),
        pickle.loads(pickle.dumps(config)),
    ):
        assert clone == config and hash(clone) == hash(config)
    assert replace(config, num_partitions=4) == JobProcessorConfig.V2(4, True)


# --- and more -------------------------------------------------------------------------------------


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        JobProcessorConfig.V1.version = "v2"  # type: ignore[misc]


def test_the_copy_of_a_server_has_no_jobs_of_the_original() -> None:
    server = new_server()
    server.deploy_job("one", "1", "SELECT a FROM t", "out", sources={"t": MemorySourceConfig(data=table())})
    server.wait_job("one")
    assert copy.copy(server).list_jobs() == []


@given(CONFIGS)
def test_text_gives_the_same_configuration_back(config: JobProcessorConfig) -> None:
    assert JobProcessorConfig.parse(str(config)) == config
    assert JobProcessorConfig.parse(f"  {str(config).upper()} ") == config


@given(CONFIGS)
def test_the_configuration_group_gives_the_same_configuration_back(config: JobProcessorConfig) -> None:
    assert JobProcessorConfig.from_config(config.to_config()) == config


@given(st.permutations(["", "affinity", "8", " "]))
def test_the_order_of_parameters_is_free_and_empty_ones_are_skipped(parameters: list[str]) -> None:
    assert JobProcessorConfig.parse(":".join(["v2", *parameters])) == JobProcessorConfig.V2(8, True)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (JobProcessorConfig.V1, "v1"),
        (JobProcessorConfig.V2(), "v2"),
        (JobProcessorConfig.V2(8), "v2:8"),
        (JobProcessorConfig.V2(None, True), "v2:affinity"),
        (JobProcessorConfig.V2(8, True), "v2:8:affinity"),
    ],
)
def test_text_form(config: JobProcessorConfig, text: str) -> None:
    assert str(config) == text
    assert repr(config) == f"JobProcessorConfig('{text}')"


@pytest.mark.parametrize("text", ["v25", "v2x", "v3", "v", "", "v1:8", "v1:", "8", "v2 8", "v2,8"])
def test_an_unknown_text_says_what_is_supported(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        JobProcessorConfig.parse(text)
    assert caught.value.message == (
        f"Unknown processor config: '{text}'. Supported: 'v1', 'v2', 'v2:8', 'v2:affinity'"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v2:0", "Invalid partition count: 0"),
        ("v2:8:0", "Invalid partition count: 0"),
        ("v2:eight", "Unknown V2 parameter: eight"),
        ("v2:-1", "Unknown V2 parameter: -1"),
        ("v2:8:Affinty", "Unknown V2 parameter: affinty"),
        ("v2:٨", "Unknown V2 parameter: ٨"),
        ("v2:" + "9" * 5000, "Unknown V2 parameter: " + "9" * 5000),
    ],
)
def test_a_wrong_parameter_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        JobProcessorConfig.parse(text)
    assert caught.value.message == message


@given(st.text(max_size=12))
def test_no_text_gives_another_error(text: str) -> None:
    try:
        config = JobProcessorConfig.parse(text)
    except ConfigError:
        return
    assert JobProcessorConfig.parse(str(config)) == config


@pytest.mark.parametrize(
    "arguments", [("v3",), ("v2", 0), ("v2", -4), ("v1", 8), ("v1", 1), ("v1", None, True)]
)
def test_what_cannot_be_is_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(ConfigError):
        JobProcessorConfig(*arguments)  # type: ignore[arg-type]


def test_setting_the_processor_logs_its_description(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "velostream.server"):
        new_server().with_processor_config(JobProcessorConfig.V2(8))
    assert caplog.messages == [
        "StreamJobServer processor configuration set to: V2 (Multi-partition: 8, 8x baseline expected)"
    ]


@pytest.mark.parametrize("config", [JobProcessorConfig.V1, JobProcessorConfig.V2(3)])
def test_deploying_logs_the_processor_and_really_runs_on_it(
    config: JobProcessorConfig, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_server().with_processor_config(config)
    with caplog.at_level(logging.INFO, "velostream.server"):
        server.deploy_job(
            "sums",
            "1",
            "SELECT a, COUNT(*) AS n FROM t GROUP BY a",
            "out",
            sources={"t": MemorySourceConfig(data=table())},
            sinks={"memory": MemorySinkConfig()},
        )
    assert f"Job 'sums' using JobProcessor architecture: {config.description()}" in caplog.messages
    report = server.wait_job("sums")
    assert report is not None
    assert report.state == "completed"
    assert report.processor == str(config)
    assert len(report.lanes) == config.lanes
    assert report.records["used"] == 3


def table() -> pa.Table:
    return pa.table({"a": ["x", "y", "x"]})
