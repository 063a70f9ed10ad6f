"""Deployments: several jobs for one server, in a YAML or TOML file.

jobs:
  - job: flights                  # an option of the group `job`, or the path of a .yaml file
    processor: "v2:8:affinity"    # as text, or a mapping of processor keys
    overrides: ["failure=fail_batch"]
  - {job: trades.yaml, name: trades-again}
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from velostream.config.build import Composed, Tree
from velostream.config.compose import Composer
from velostream.config.fit import fit
from velostream.config.locate import Layer, Origins
from velostream.config.paths import shown
from velostream.config.processor_text import parse_processor
from velostream.config.schema import ProcessorConfig
from velostream.errors import ConfigError, Problems, VelostreamError, Where, raise_all, unknown


@dataclass
class DeployedJob:
    """One entry of a deployment."""

    job: str = "???"
    # Unique in the deployment; empty: the job's own.
    name: str = ""
    # As text, or a mapping of ProcessorConfig's keys; null: the job's own.
    processor: Any = None
    # As on the command line; paths in them are relative to the deployment's file.
    overrides: list[str] = field(default_factory=list)


@dataclass
class Deployment:
    """A file of the group `deployment`."""

    name: str = ""
    jobs: list[DeployedJob] = field(default_factory=list)


class DeploymentFile:
    """A deployment that was read and fits its dataclasses. `locate` finds its keys in the file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._origins = Origins()
        tree = self._read_toml() if file.suffix == ".toml" else self._read_yaml()
        errors: list[VelostreamError] = []
        self.deployment = cast(Deployment, fit(tree, Deployment, (), errors))
        self.deployment.name = self.deployment.name or file.stem
        if not errors and not self.deployment.jobs:
            errors.append(ConfigError("the deployment has no jobs", where=Where(file=shown(file))))
        for at, job in enumerate(self.deployment.jobs):
            errors += _processor_errors(job.processor, f"jobs[{at}].processor")
        raise_all([self.locate(error) for error in errors])

    def _read_yaml(self) -> Tree:
        layer = Layer.read(self.file)
        self._origins.layers.append(layer)
        return self._mapping(yaml.safe_load(layer.text))

    def _read_toml(self) -> Tree:
        try:
            return tomllib.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read '{shown(self.file)}': {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"not valid TOML: {error}", where=Where(file=shown(self.file))) from error

    def _mapping(self, content: Any) -> Tree:
        if not isinstance(content, dict):
            raise ConfigError("a deployment is a mapping with 'jobs'", where=Where(file=shown(self.file)))
        return content

    def locate(self, error: VelostreamError) -> VelostreamError:
        """The error, its key looked up in the file: line and column in YAML, the key path in TOML."""
        if error.where is None or not error.where.key or error.where.file is not None:
            return error
        if self._origins.layers:
            return self._origins.locate(error)
        error.where = Where(file=f"{shown(self.file)}: {error.where.key}")
        return error

    def compose(
        self,
        composer: Composer,
        more: Sequence[str],
        run_dir: Callable[[str], Path],
        state_dir: Callable[[str], Path] | None = None,
    ) -> list[Composed]:
        """All its jobs, `more` overrides applied to each. Raises Problems with those of every job."""
        composed: list[Composed] = []
        errors: list[VelostreamError] = []
        names: set[str] = set()
        for at, job in enumerate(self.deployment.jobs):
            try:
                made = self._compose(composer, at, job, more, run_dir, state_dir)
            except VelostreamError as error:
                errors.append(error)
                continue
            if made.job.name in names:
                message = f"two jobs are named '{made.job.name}'"
                where = Where(key=f"jobs[{at}]")
                errors.append(self.locate(ConfigError(message, where=where, hint="give one a 'name'")))
            names.add(made.job.name)
            composed.append(made)
        raise_all(errors)
        return composed

    def _compose(
        self,
        composer: Composer,
        at: int,
        job: DeployedJob,
        more: Sequence[str],
        run_dir: Callable[[str], Path],
        state_dir: Callable[[str], Path] | None,
    ) -> Composed:
        given = self._overrides(composer, at, job)
        folder = self.file.resolve().parent
        try:
            return composer.compose([*given, *more], run_dir=run_dir, state_dir=state_dir, base=folder)
        except VelostreamError as error:
            for found in error.errors if isinstance(error, Problems) else (error,):
                override = found.where.key if found.where is not None else None
                key = next((key for text, key in given.items() if override == f"override '{text}'"), None)
                if key is not None and found.where is not None and found.where.file is None:
                    found.where = Where(key=key)
                    self.locate(found)
            raise

    def _overrides(self, composer: Composer, at: int, job: DeployedJob) -> dict[str, str]:
        """The overrides that the entry amounts to, and the key that each comes from."""
        beside = self.file.parent / job.job
        is_file = beside.is_file() or beside.with_name(f"{beside.name}.yaml").is_file()
        is_option = job.job in composer.options("job")
        found = {f"job={beside if is_file and not is_option else job.job}": f"jobs[{at}].job"}
        if job.name:
            found[f"name={job.name}"] = f"jobs[{at}].name"
        key = f"jobs[{at}].processor"
        keys = parse_processor(job.processor) if isinstance(job.processor, str) else dict(job.processor or {})
        if "version" in keys:
            found[f"processor={keys.pop('version')}"] = key
        for name, value in keys.items():
            text = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
            found[f"processor.{name}={text}"] = f"{key}.{name}" if isinstance(job.processor, Mapping) else key
        for number, text in enumerate(job.overrides):
            found[text] = f"jobs[{at}].overrides[{number}]"
        return found


def _processor_errors(processor: Any, key: str) -> Iterator[VelostreamError]:
    if isinstance(processor, str):
        try:
            parse_processor(processor)
        except ConfigError as error:
            yield ConfigError(error.message, where=Where(key=key), hint=error.hint)
    elif processor is not None:
        errors: list[VelostreamError] = []
        path = tuple(re.sub(r"\[", ".[", key).split("."))
        fit(processor, ProcessorConfig, path, errors)
        yield from errors


def find_deployment(name: str, folders: Sequence[Path]) -> DeploymentFile:
    """The deployment of that name in the groups' folders, or at that path. Raises ConfigError."""
    for folder in folders:
        for suffix in (".yaml", ".toml"):
            file = folder / "deployment" / f"{name}{suffix}"
            if file.is_file():
                return DeploymentFile(file)
    path = Path(name).expanduser()
    if path.is_file():
        return DeploymentFile(path)
    where = Where(key=f"override 'deployment={name}'")
    if path.suffix in (".yaml", ".yml", ".toml"):
        raise ConfigError(f"there is no file '{name}'", where=where)
    options = {
        file.stem
        for folder in folders
        for file in (folder / "deployment").glob("*")
        if file.suffix in (".yaml", ".toml")
    }
    message, hint = unknown("deployment", name, options)
    raise ConfigError(message, where=where, hint=f"{hint} (or the path of a .yaml or .toml file)")
