from __future__ import annotations

from pathlib import Path

import pytest
from connector_kinds import KINDS

from velostream.config.compose import Composer
from velostream.config.deployment import DeploymentFile, find_deployment
from velostream.config.schema import JobConfig
from velostream.errors import VelostreamError

JOB = "sql: SELECT 1\nsources:\n  t: {kind: file, path: in.csv}\nsinks:\n  out: {kind: file, path: out.csv}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text(JOB)
    return tmp_path / "own"


def _write(folder: Path, text: str, suffix: str = "yaml") -> Path:
    file = folder / f"d.{suffix}"
    file.write_text(text)
    return file


def _jobs(file: Path, *more: str) -> list[JobConfig]:
    composed = DeploymentFile(file).compose(Composer(KINDS), more, lambda name: Path("/out") / name)
    return [job.job for job in composed]


def _problems(file: Path, *more: str) -> list[str]:
    with pytest.raises(VelostreamError) as caught:
        _jobs(file, *more)
    return caught.value.render().splitlines()


YAML = """\
jobs:
  - job: mine.yaml
    processor: "v2:8:affinity"
    overrides: ["sink.path=x/y.csv", failure=fail_batch]
  - job: flights
    name: again
    processor: {version: v1}
"""
TOML = """\
[[jobs]]
job = "mine.yaml"
processor = "v2:8:affinity"
overrides = ["sink.path=x/y.csv", "failure=fail_batch"]

[[jobs]]
job = "flights"
name = "again"
processor = { version = "v1" }
"""


@pytest.mark.parametrize(("text", "suffix"), [(YAML, "yaml"), (TOML, "toml")])
def test_jobs_have_their_own_processor_and_overrides(folder: Path, text: str, suffix: str) -> None:
    mine, again = _jobs(_write(folder, text, suffix), "processor.block_size=1MiB")
    assert (mine.name, mine.output_dir) == ("mine", "/out/mine")
    assert (mine.processor.partitions, mine.processor.affinity) == (8, True)
    assert mine.failure.strategy == "fail_batch"
    assert mine.sinks["out"].path == str(folder / "x/y.csv")
    assert mine.sources["t"].path == str(folder / "in.csv")
    assert (again.name, again.processor.version, again.output_dir) == ("again", "v1", "/out/again")
    assert mine.processor.block_size == again.processor.block_size == "1MiB"


WRONG = """\
jobs:
  - jbo: flights
    processor: v25
  - job: flights
    processor: {partitons: 2}
"""


def test_wrong_keys_have_line_and_column_in_yaml(folder: Path) -> None:
    assert [line for line in _problems(_write(folder, WRONG)) if line.startswith("own")] == [
        "own/d.yaml:2:5: unknown key 'jbo' in 'jobs[0]'; did you mean 'job'?",
        "own/d.yaml:2:5: 'jobs[0].job' must be given",
        "own/d.yaml:3:5: Unknown processor config: 'v25'. Supported: 'v1', 'v2', 'v2:8', 'v2:affinity'",
        "own/d.yaml:5:17: unknown key 'partitons' in 'jobs[1].processor'; did you mean 'partitions'?",
    ]


def test_wrong_keys_have_their_key_path_in_toml(folder: Path) -> None:
    text = '[[jobs]]\njbo = "flights"\n[[jobs]]\njob = "flights"\nprocessor = {partitons = 2}\n'
    assert _problems(_write(folder, text, "toml")) == [
        "own/d.toml: jobs[0].jbo: unknown key 'jbo' in 'jobs[0]'; did you mean 'job'?",
        "own/d.toml: jobs[0]: 'jobs[0].job' must be given",
        "own/d.toml: jobs[1].processor.partitons: unknown key 'partitons' in 'jobs[1].processor'; "
        "did you mean 'partitions'?",
    ]


def test_a_wrong_override_of_a_job_has_its_place(folder: Path) -> None:
    text = """\
jobs:
  - job: fligths
  - job: mine.yaml
    overrides: ["procesor=v1"]
    processor: "v2:500"
"""
    assert [line for line in _problems(_write(folder, text)) if line.startswith("own")] == [
        "own/d.yaml:2:5: unknown job 'fligths'; did you mean 'flights'? (or the path of a .yaml file)",
        "own/d.yaml:4:17: unknown key 'procesor'; did you mean 'processor'?",
        "own/d.yaml:5:5: 500 lanes need as many key groups, and processor.key_groups is 128; "
        "raise processor.key_groups",
    ]


def test_an_override_for_all_jobs_is_said_to_be_one(folder: Path) -> None:
    text = "jobs:\n  - job: mine.yaml\n"
    assert _problems(_write(folder, text), "procesor=v1") == [
        "override 'procesor=v1': unknown key 'procesor'; did you mean 'processor'?"
    ]


def test_two_jobs_of_one_name_are_refused(folder: Path) -> None:
    text = "jobs:\n  - job: mine.yaml\n  - job: mine.yaml\n"
    assert _problems(_write(folder, text))[0] == (
        "own/d.yaml:3:5: two jobs are named 'mine'; give one a 'name'"
    )


def test_what_is_no_deployment_is_refused(folder: Path) -> None:
    assert _problems(_write(folder, "- a\n")) == ["own/d.yaml: a deployment is a mapping with 'jobs'"]
    assert _problems(_write(folder, "jobs: []\n")) == ["own/d.yaml: the deployment has no jobs"]
    assert _problems(_write(folder, "jobs = [", "toml"))[0].startswith("own/d.toml: not valid TOML: ")


def test_a_deployment_is_found_by_name_or_path(folder: Path) -> None:
    folders = Composer(KINDS).folders
    assert [job.job for job in find_deployment("example", folders).deployment.jobs] == [
        "large_trades",
        "large_trades_per_minute",
        "flights",
    ]
    _write(folder, YAML)
    assert find_deployment("own/d.yaml", folders).deployment.name == "d"
    for name, problem in {
        "exmaple": "unknown deployment 'exmaple'; did you mean 'example'? "
        "(or the path of a .yaml or .toml file)",
        "no.toml": "there is no file 'no.toml'",
    }.items():
        with pytest.raises(VelostreamError) as caught:
            find_deployment(name, folders)
        assert caught.value.render() == f"override 'deployment={name}': {problem}"
