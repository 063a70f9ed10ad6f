"""From plain data to a checked `JobConfig`, whoever made the data.

In order: interpolations are resolved, paths made absolute, every key and value fitted to its dataclass
(`fit.py`), and the rules between keys checked (`check.py`). All problems are raised together, each with its
place (`locate.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from velostream.config.check import validate
from velostream.config.fit import fit
from velostream.config.locate import Keys, Origins
from velostream.config.paths import absolute, is_path_key, package_file, shown
from velostream.config.processor_text import parse_processor
from velostream.config.schema import RESET, RESUME, JobConfig, SinkConfig, SourceConfig
from velostream.errors import ConfigError, VelostreamError, Where, did_you_mean, raise_all, unknown

Tree = dict[str, Any]
# A group of which a job has several, and the key that holds them by name.
NAMED_GROUPS = {"source": "sources", "sink": "sinks"}


@dataclass(frozen=True)
class Kinds:
    """The configuration dataclasses of all connectors, by kind."""

    sources: Mapping[str, type[SourceConfig]]
    sinks: Mapping[str, type[SinkConfig]]

    def in_yaml(self, group: str) -> dict[str, type[Any]]:
        """Those that a file can describe. One with a field of type Any holds an object (a table, a
        channel), and is made by programs only."""
        return {
            kind: config
            for kind, config in self.of(group).items()
            if Any not in get_type_hints(config).values()
        }

    def of(self, group: str) -> Mapping[str, type[SourceConfig]] | Mapping[str, type[SinkConfig]]:
        return self.sources if group == "source" else self.sinks


@dataclass(frozen=True)
class Composed:
    """A checked job. `tree` is the same as plain data with its interpolations (and so without secrets)."""

    job: JobConfig
    tree: Tree
    origins: Origins

    def locate(self, error: VelostreamError) -> VelostreamError:
        """An error found later, its place looked up when it names just a key."""
        return self.origins.locate(error)


def from_mapping(
    config: Mapping[str, Any] | DictConfig, kinds: Kinds, run_dir: Callable[[str], Path] | None = None
) -> Composed:
    """The job of a mapping with the keys that YAML gives; `processor` may also be text.

    `run_dir` gives the output folder by the job's name where the mapping sets none. Uses no Hydra, so it
    works inside a user's own Hydra application. Raises ConfigError or Problems.
    """
    plain = OmegaConf.to_container(config) if isinstance(config, DictConfig) else _copied(config)
    return build_job(cast(Tree, plain), Origins(), kinds, run_dir, [])


def _copied(value: Any) -> Any:
    """A copy of mappings and lists; what they hold is shared."""
    if isinstance(value, Mapping):
        return {str(key): _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def build_job(
    tree: Tree,
    origins: Origins,
    kinds: Kinds,
    run_dir: Callable[[str], Path] | None,
    errors: list[VelostreamError],
    state_dir: Callable[[str], Path] | None = None,
) -> Composed:
    """The job of a tree merged from `origins`; raises everything found, the `errors` before it included."""
    if isinstance(tree.get("processor"), str):
        try:
            tree["processor"] = parse_processor(tree["processor"])
        except ConfigError as error:
            error.where = Where(key="processor")
            errors.append(error)
            del tree["processor"]
    name = str(tree.get("name", JobConfig.name))
    if run_dir is not None and not tree.get("output_dir"):
        tree["output_dir"] = str(run_dir(name))
    state = tree.get("state", {})
    if state_dir is not None and isinstance(state, dict) and not state.get("path"):
        tree["state"] = {**state, "path": str(state_dir(name))}
    output = tree.get("output_dir")
    if isinstance(output, str) and "${" not in output:
        # Before it is part of other paths, which then are absolute too.
        tree["output_dir"] = absolute(output, origins.base("output_dir"))
    resolved = _resolve(tree, errors)
    _absolute_paths(resolved, tree, origins, ())
    job = _fit_job(resolved, kinds, errors)
    if tree.get("sql") or not errors:
        errors += [*validate(job), *_missing_sql(job), *_missing_savepoint(job)]
    raise_all([origins.locate(error) for error in errors])
    return Composed(job, tree, origins)


def misfits(tree: Tree, kinds: Kinds) -> list[VelostreamError]:
    """What of the tree does not fit its dataclasses."""
    errors: list[VelostreamError] = []
    _fit_job(_resolve(tree, []), kinds, errors)
    return errors


def _fit_job(tree: Tree, kinds: Kinds, errors: list[VelostreamError]) -> JobConfig:
    job = fit(tree, JobConfig, (), errors)
    built: dict[str, Tree] = {}
    for group, plural in NAMED_GROUPS.items():
        there = tree.get(plural)
        built[plural] = {
            name: _fit_named(group, (plural, str(name)), item, kinds, errors)
            for name, item in (there.items() if isinstance(there, dict) else ())
        }
    return cast(JobConfig, replace(job, **built))


def _fit_named(group: str, path: Keys, value: Any, kinds: Kinds, errors: list[VelostreamError]) -> Any:
    """A source or sink by its kind; an instance of a kind's dataclass is taken as it is."""
    if isinstance(value, (SourceConfig, SinkConfig)):
        return value
    if not isinstance(value, dict):
        return fit(value, dict[str, Any], path, errors)
    kind = value.get("kind")
    options = kinds.of(group)
    if kind in (None, "", "???"):
        hint = "add 'kind': one of " + ", ".join(f"'{name}'" for name in sorted(kinds.in_yaml(group)))
        where = Where(key=".".join(path))
        errors.append(ConfigError(f"{group} '{path[1]}' has no kind", where=where, hint=hint))
        return None
    if kind not in options:
        message, way_out = unknown(f"kind of {group}", str(kind), kinds.in_yaml(group))
        errors.append(ConfigError(message, where=Where(key=".".join((*path, "kind"))), hint=way_out))
        return None
    return fit(value, options[kind], path, errors)


def _resolve(tree: Tree, errors: list[VelostreamError]) -> Tree:
    """The tree with its interpolations resolved; a copy. One that fails is an error, and stays text."""
    if not any("${" in text for text in _texts(tree)):
        return cast(Tree, _copied(tree))
    OmegaConf.register_new_resolver("package", package_file, replace=True)
    plain, kept = _without_objects(tree)
    config = OmegaConf.create(plain)

    def walk(node: Any, source: Any, path: Keys) -> Any:
        if isinstance(source, dict):
            return {key: child(node, source, key, (*path, str(key))) for key in source}
        if isinstance(source, list):
            return [child(node, source, at, (*path, f"[{at}]")) for at in range(len(source))]
        return kept.get(path, source)

    def child(node: Any, source: Any, key: Any, path: Keys) -> Any:
        item = source[key]
        if not (isinstance(item, str) and "${" in item):
            return walk(node[key] if isinstance(item, (dict, list)) else None, item, path)
        if "${output_dir}" in item and not tree.get("output_dir"):
            where = Where(key=".".join(path))
            hint = "set output_dir, or write a path without it"
            errors.append(ConfigError(f"'{item}' needs output_dir, which is empty", where=where, hint=hint))
            return item
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            errors.append(_unresolved(error, item, path))
            return item
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    resolved = walk(config, plain, ())
    assert isinstance(resolved, dict)
    return resolved


def _without_objects(tree: Tree) -> tuple[Tree, dict[Keys, Any]]:
    """The tree with None in place of what OmegaConf cannot hold (a mapping may hold Arrow tables or
    dataclass instances), and those things by their path."""
    kept: dict[Keys, Any] = {}

    def strip(value: Any, path: Keys) -> Any:
        if isinstance(value, dict):
            return {key: strip(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [strip(item, (*path, f"[{at}]")) for at, item in enumerate(value)]
        if value is None or isinstance(value, (str, int, float, bool)):
            return value
        kept[path] = value
        return None

    return strip(tree, ()), kept


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _unresolved(error: BaseException, text: str, path: Keys) -> ConfigError:
    where = Where(key=".".join(path))
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError):
            return ConfigError(cause.message, where=where, hint=cause.hint)
        cause = cause.__cause__ or cause.__context__
    first = str(error).splitlines()[0]
    unset = re.search(r"Environment variable '([^']+)' not found", first)
    if unset is not None:
        hint = f"set it, or give a default: ${{oc.env:{unset[1]},value}}"
        return ConfigError(f"the environment variable '{unset[1]}' is not set", where=where, hint=hint)
    return ConfigError(f"cannot resolve '{text}': {first}", where=where)


def _absolute_paths(node: Any, written: Any, origins: Origins, path: Keys) -> None:
    """Make the paths in `node` absolute, in place. Those that came from an interpolation are relative to
    the working directory: no file names them."""
    if not isinstance(node, dict) or not isinstance(written, dict):
        return
    for key, value in node.items():
        inside = (*path, str(key))
        is_file = is_path_key(str(key)) or (inside == ("sql",) and is_sql_file(value))
        is_file = is_file or (inside == ("state", "start") and value not in (RESUME, RESET))
        if not is_file:
            _absolute_paths(value, written.get(key), origins, inside)
            continue
        interpolated = any("${" in text for text in _texts(written.get(key)))
        base = Path.cwd() if interpolated else origins.base(".".join(inside))
        if isinstance(value, str):
            node[key] = absolute(value, base)
        elif isinstance(value, list):
            node[key] = [absolute(item, base) if isinstance(item, str) else item for item in value]


def is_sql_file(value: Any) -> bool:
    """Whether the value of `sql` is a path and not SQL."""
    return isinstance(value, str) and value.endswith(".sql") and not re.search(r"[\n;]", value)


def _missing_sql(job: JobConfig) -> Iterator[VelostreamError]:
    if is_sql_file(job.sql) and not Path(job.sql).is_file():
        yield ConfigError(f"there is no file '{shown(job.sql)}'", where=Where(key="sql"))


def _missing_savepoint(job: JobConfig) -> Iterator[VelostreamError]:
    start = job.state.start
    if start not in (RESUME, RESET) and not Path(start).is_dir():
        hint = did_you_mean(Path(start).name, (RESUME, RESET)) or "expected 'resume', 'reset' or a savepoint"
        message = f"there is no savepoint '{shown(start)}'"
        yield ConfigError(message, where=Where(key="state.start"), hint=hint)
