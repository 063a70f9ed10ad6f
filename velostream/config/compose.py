"""From groups, files and overrides to a checked `JobConfig`.

Hydra composes the files: the groups that a job selects, typed by the dataclasses stored as schema nodes.
Overrides are laid over its result here, so that all of them are checked at once and one source can
replace another. What comes of it goes the way of every mapping (`build.py`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from velostream.config.build import NAMED_GROUPS, Composed, Kinds, Tree, build_job, misfits
from velostream.config.locate import Keys, Layer, Origins, split_key
from velostream.config.overrides import Override, parse_overrides
from velostream.config.paths import conf_dir, shown
from velostream.config.processor_text import parse_processor
from velostream.config.schema import (
    DeliveryConfig,
    FailureConfig,
    JobConfig,
    ObservabilityConfig,
    ProcessorConfig,
    SinkConfig,
    SourceConfig,
)
from velostream.errors import ConfigError, VelostreamError, Where, raise_all, unknown

# The groups of which a job has one option.
SINGLE_GROUPS = ("job", "processor", "failure", "delivery", "observability")
_GIVEN = "_given"
_CHOSEN = "_chosen_"


class Composer:
    """Composes jobs from the shipped groups and those of the user's folder.

    Stores the schema nodes in Hydra's (process-wide) ConfigStore. Not for use inside another Hydra
    application: `from_mapping` is.
    """

    def __init__(self, kinds: Kinds, config_dir: Path | None = None) -> None:
        self.kinds = kinds
        self.folders = [conf_dir()]
        if config_dir is not None:
            if not config_dir.is_dir():
                raise ConfigError(f"there is no folder '{config_dir}'", where=Where(key="--config-dir"))
            self.folders.append(config_dir.resolve())
            self._refuse_shadows(config_dir)
        # What Hydra made of the same choices before: the runs of a sweep differ mostly in values.
        self.composed: dict[tuple[str, ...], tuple[Tree, tuple[Layer, ...]]] = {}
        _store_schemas(kinds)

    def _refuse_shadows(self, config_dir: Path) -> None:
        """Hydra takes the first file of a name: one of the user's would be ignored without a word."""
        raise_all(
            [
                ConfigError(f"'{shown(file)}' has the name of a shipped file", hint="give it another name")
                for file in sorted(config_dir.glob("*/**/*.yaml"))
                if (conf_dir() / file.relative_to(config_dir)).exists()
            ]
        )

    def options(self, group: str) -> list[str]:
        """The options of a group, files and stored dataclasses."""
        found = {
            str(file.relative_to(folder / group).with_suffix(""))
            for folder in self.folders
            for file in (folder / group).glob("**/*.yaml")
        }
        if group in NAMED_GROUPS:
            found.update(self.kinds.in_yaml(group))
        return sorted(found)

    def compose(
        self,
        overrides: Sequence[str],
        *,
        given: Tree | None = None,
        run_dir: Callable[[str], Path] | None = None,
        state_dir: Callable[[str], Path] | None = None,
        base: Path | None = None,
    ) -> Composed:
        """The job that the overrides select and change; `given` is a job in place of a file's.

        `run_dir` gives the output folder by the job's name where nothing sets `output_dir`, `state_dir` that
        of its state where nothing sets `state.path`. Paths in overrides are relative to `base`, by default
        the working directory.
        Raises ConfigError or Problems with everything that is wrong.
        """
        parsed, errors = parse_overrides(overrides)
        work = _Composition(self, given, errors)
        work.origins.override_base = base
        for override in parsed:
            work.sort(override)
        tree = work.tree()
        return build_job(tree, work.origins, self.kinds, run_dir, work.errors, state_dir)


class _Composition:
    """One call of `Composer.compose`: sorts overrides, lets Hydra compose, lays the overrides over it."""

    def __init__(self, composer: Composer, given: Tree | None, errors: list[VelostreamError]) -> None:
        self.composer = composer
        self.errors = errors
        self.origins = Origins()
        self.choices: dict[str, str] = {}
        self.named: list[tuple[str, Override]] = []
        self.values: list[tuple[Keys, Any, Override]] = []
        self.job_file: Path | None = None
        self.given = given
        # The kinds that defaults lists choose, by the place of the source or sink.
        self.kinds: dict[Keys, str] = {}
        # False once it is not known which sources and sinks the job has: nothing is said about theirs then.
        self.job_known = True

    def sort(self, override: Override) -> None:
        """What the override is: the choice of a group, something of a source or sink, or a value."""
        head, *rest = split_key(override.key)
        if head in SINGLE_GROUPS and not rest:
            if override.several:
                self._error(override, f"'{head}' takes one value", "to run several, add -m (multirun)")
            else:
                self._choose(head, str(override.value), override)
        elif head in NAMED_GROUPS:
            self.named.append((head, override))
        elif (head, *rest) == ("state",):
            # `state=reset`, `state=PATH`
            self.values.append((("state", "start"), override.value, override))
        elif head in NAMED_GROUPS.values() and len(rest) == 2 and rest[1] == "kind":
            group = next(group for group, plural in NAMED_GROUPS.items() if plural == head)
            self.named.append((group, replace(override, key=group, package=rest[0])))
        else:
            self.values.append(((head, *rest), override.value, override))

    def _error(self, override: Override, message: str, hint: str | None = None) -> None:
        self.errors.append(ConfigError(message, where=override.where, hint=hint))

    def _choose(self, group: str, value: str, override: Override) -> None:
        options = self.composer.options(group)
        if group == "job":
            self._choose_job(value, options, override)
        elif value in options:
            self.choices[group] = value
        elif group == "processor" and (":" in value or value.lower() in options):
            try:
                keys = parse_processor(value)
            except ConfigError as error:
                self._error(override, error.message, error.hint)
                return
            self.choices[group] = keys.pop("version")
            self.values += [((group, key), item, override) for key, item in keys.items()]
        else:
            message, hint = unknown(group, value, options)
            listed = ", ".join(f"'{option}'" for option in options)
            self._error(override, message, hint if "one of" in hint else f"{hint} (options: {listed})")

    def _choose_job(self, value: str, options: Sequence[str], override: Override) -> None:
        file = Path(value).expanduser()
        if file.suffix not in (".yaml", ".yml"):
            if value in options:
                self.choices["job"] = value
                return
            file = Path(f"{file}.yaml")
        if file.is_file():
            self.job_file = file
        else:
            self.job_known = False
            if file.suffix in Path(value).suffixes:
                self._error(override, f"there is no file '{value}'")
            else:
                message, hint = unknown("job", value, options)
                self._error(override, message, f"{hint} (or the path of a .yaml file)")

    def tree(self) -> Tree:
        """The composed job as plain data, overrides included. Problems are added to `errors`."""
        tree = self._composed()
        self._check_packages()
        if not self.job_known:
            tree = {key: value for key, value in tree.items() if key not in ("sources", "sinks", "sql")}
            self.named.clear()
            self.values = [entry for entry in self.values if entry[0][0] not in NAMED_GROUPS.values()]
        chosen = {plural: _pop_chosen(tree.get(plural)) for plural in NAMED_GROUPS.values()}
        for at, (group, override) in enumerate(self.named):
            self._apply_named(tree, group, override, chosen[NAMED_GROUPS[group]].get(f"{_CHOSEN}{at}"))
        for keys, value, override in self.values:
            self._assign(tree, keys, value, override)
        return tree

    def _composed(self) -> Tree:
        from hydra import compose, initialize_config_dir
        from hydra.core.config_store import ConfigStore
        from hydra.core.global_hydra import GlobalHydra
        from hydra.errors import HydraException
        from hydra.types import RunMode

        job = self._read_job()
        arguments = [f"{group}={option}" for group, option in self.choices.items()]
        if job is not None:
            ConfigStore.instance().store(group="job", name=_GIVEN, node=job, package="_global_")
            arguments.append(f"job={_GIVEN}")
        arguments += [
            f"+{group}@{NAMED_GROUPS[group]}.{_CHOSEN}{at}={override.value}"
            for at, (group, override) in enumerate(self.named)
            if override.value in self.composer.options(group)
        ]
        main, *others = self.composer.folders
        if others:
            quoted = ",".join("'" + str(folder).replace("'", "\\'") + "'" for folder in others)
            arguments.append(f"hydra.searchpath=[{quoted}]")
        known = self.composer.composed.get(key := (*arguments, repr(job)))
        if known is None:
            try:
                with initialize_config_dir(str(main), version_base="1.3"):
                    loader = GlobalHydra.instance().config_loader()
                    self._trace(loader.compute_defaults_list("config", arguments, RunMode.RUN).defaults)
                    config = compose("config", arguments)
            except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
                return self._untyped(error)
            known = self.composer.composed[key] = (
                cast(Tree, OmegaConf.to_container(config)),
                tuple(self.origins.layers),
            )
        self.origins.layers = list(known[1])
        return copy.deepcopy(known[0])

    def _read_job(self) -> DictConfig | None:
        """The job that is not an option of the group: given as data or as a file."""
        if self.given is not None:
            return OmegaConf.create(self.given)
        if self.job_file is None:
            return None
        try:
            layer = Layer.read(self.job_file)
            config = OmegaConf.create(layer.text)
            if not isinstance(config, DictConfig):
                raise ConfigError("a job is a mapping", where=Where(file=shown(self.job_file)))
        except ConfigError as error:
            self.errors.append(error)
            self.job_known = False
            return None
        if "name" not in config:
            config.name = self.job_file.stem
        return config

    def _trace(self, defaults: Sequence[Any]) -> None:
        """Note the files that Hydra merges, in its order, and the kinds of sources and sinks."""
        for default in defaults:
            path, package = default.config_path, split_key(default.package or "")
            group, _, option = path.removeprefix("schema/").rpartition("/")
            if group in NAMED_GROUPS and option in self.composer.kinds.of(group):
                self.kinds[package] = option
            if path.startswith(("hydra/", "schema/")):
                continue
            if path == f"job/{_GIVEN}":
                files = [self.job_file] if self.job_file is not None else []
            else:
                files = [folder / f"{path}.yaml" for folder in self.composer.folders]
            self.origins.layers += [Layer.read(file, package) for file in files if file.is_file()][:1]

    def _untyped(self, error: Exception) -> Tree:
        """The composed files without their types, after Hydra refused them: fitting them says all that is
        wrong. When it finds nothing, Hydra's own reason is the problem."""
        tree: Tree = {}
        if not self.origins.layers:
            self.errors.append(_from_hydra(error, self._layers_of(error)))
            self.job_known = False
            return tree
        for package, kind in self.kinds.items():
            _merge(tree, _nested(package, {"kind": kind}))
        for layer in self.origins.layers:
            content = OmegaConf.to_container(OmegaConf.create(layer.text))
            if not isinstance(content, dict):
                continue
            content.pop("defaults", None)
            _merge(tree, _nested(layer.package, content))
        if not misfits(copy.deepcopy(tree), self.composer.kinds):
            self.errors.append(_from_hydra(error, self.origins.layers))
        return tree

    def _layers_of(self, error: Exception) -> list[Layer]:
        """The file that Hydra's message is about, when its defaults list could not be followed."""
        match = re.search(r"In '([^']+)'", str(error))
        if match is None:
            return []
        if match[1] == f"job/{_GIVEN}":
            files = [self.job_file] if self.job_file is not None else []
        else:
            files = [folder / f"{match[1]}.yaml" for folder in self.composer.folders]
        return [Layer.read(file) for file in files if file.is_file()]

    def _check_packages(self) -> None:
        for layer in self.origins.layers:
            if layer.package == ("job",):
                self.errors.append(
                    ConfigError(
                        "a job's keys are the root's",
                        where=Where(shown(layer.file), 1, 1, 1, layer.text),
                        hint="begin the file with the line '# @package _global_'",
                    )
                )

    def _apply_named(self, tree: Tree, group: str, override: Override, chosen: Tree | None) -> None:
        """`source=KIND`, `source.trades=KIND`, `source@trades=KIND`, `source.path=…`."""
        plural = NAMED_GROUPS[group]
        there = tree.setdefault(plural, {})
        _, *rest = split_key(override.key)
        name = override.package.removeprefix(f"{plural}.") if override.package else None
        if name is None and rest and rest[0] in there:
            name, *rest = rest
        if name is None:
            if len(there) != 1:
                names = ", ".join(f"'{name}'" for name in there) or "none"
                key = ".".join([group, "NAME", *rest])
                self._error(override, f"which {group}? the job has {names}", f"write {key}=…")
                return
            name = next(iter(there))
        if rest == ["kind"]:
            rest = []
        if rest or override.delete or isinstance(override.value, dict):
            self._assign(tree, (plural, name, *rest), override.value, override)
        elif name not in there:
            message, hint = unknown(group, name, there)
            self._error(override, f"{message} of the job", hint)
        elif chosen is None:
            message, hint = unknown(f"kind of {group}", str(override.value), self.composer.options(group))
            self._error(override, message, hint)
        else:
            there[name] = self._replaced(group, there[name], chosen)
            at = next(at for at, (_, other) in enumerate(self.named) if other is override)
            temporary = (plural, f"{_CHOSEN}{at}")
            self.origins.layers = [
                replace(layer, package=(plural, name)) if layer.package == temporary else layer
                for layer in self.origins.layers
            ]
            self.origins.overrides[(plural, name)] = override.text

    def _replaced(self, group: str, old: Any, chosen: Tree) -> Tree:
        """Another kind in the same place: what every source has (schema, event time, …) stays, what only
        the old kind has goes."""
        base: type[SourceConfig] | type[SinkConfig] = SourceConfig if group == "source" else SinkConfig
        defaults = vars(base())
        kept = {
            key: old[key]
            for key, default in defaults.items()
            if key != "kind" and isinstance(old, dict) and old.get(key, default) != default
        }
        return {**chosen, **kept}

    def _assign(self, tree: Tree, keys: Keys, value: Any, override: Override) -> None:
        *above, last = keys
        node: Any = tree
        for step in above:
            if node.get(step) is None:
                # Also a group of keys that is null so far.
                node[step] = {}
            node = node[step]
            if not isinstance(node, dict):
                self._error(override, f"'{step}' has no keys")
                return
        if not override.delete:
            node[last] = value
            self.origins.overrides[keys] = override.text
        elif last in node:
            del node[last]
        else:
            message, hint = unknown("key", last, node)
            self._error(override, message, hint)


def _store_schemas(kinds: Kinds) -> None:
    """Every dataclass as `schema/<group>/<kind>`, for YAML files to inherit; a connector's also as the
    option `<group>/<kind>`, unless a file of that name gives it values."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="job", node=JobConfig)
    store.store(group="schema", name="processor", node=ProcessorConfig)
    store.store(group="schema", name="failure", node=FailureConfig)
    store.store(group="schema", name="delivery", node=DeliveryConfig)
    store.store(group="schema", name="observability", node=ObservabilityConfig)
    for group in NAMED_GROUPS:
        for kind, config in kinds.in_yaml(group).items():
            store.store(group=f"schema/{group}", name=kind, node=config)
            if not (conf_dir() / group / f"{kind}.yaml").exists():
                store.store(group=group, name=kind, node=config)


def _pop_chosen(there: Any) -> dict[str, Tree]:
    names = [name for name in there or () if str(name).startswith(_CHOSEN)]
    return {name: there.pop(name) for name in names}


def _nested(package: Keys, content: Any) -> Tree:
    for step in reversed(package):
        content = {step: content}
    return cast(Tree, content)


def _merge(into: Tree, more: Tree) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _from_hydra(error: BaseException, layers: Sequence[Layer]) -> VelostreamError:
    """Hydra's or OmegaConf's reason in our words, without its advice."""
    missing = re.search(r"Could not (?:find|load) '([^']+)'", str(error))
    if missing is not None:
        group, _, option = missing[1].rpartition("/")
        options = [str(name) for name in getattr(error, "options", None) or ()]
        message, hint = unknown(group, option, options)
        places = [where for layer in layers if (where := layer.choice(group, option)) is not None]
        return ConfigError(message, where=places[0] if places else None, hint=hint)
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return ConfigError(f"the configuration cannot be composed: {lines[0] if lines else cause!r}")
