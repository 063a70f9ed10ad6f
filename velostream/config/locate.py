"""Where a key was written: file, line and column, or the text of the override."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from velostream.config.paths import shown
from velostream.errors import ConfigError, VelostreamError, Where

Keys = tuple[str, ...]
_INDEX = re.compile(r"\[(\d+)\]")


def split_key(key: str) -> Keys:
    """The steps of a dotted key.

    >>> split_key("jobs[1].processor")
    ('jobs', '[1]', 'processor')
    """
    return tuple(part for part in _INDEX.sub(r".[\1]", key).split(".") if part)


def read_yaml(file: Path) -> tuple[str, yaml.Node | None]:
    """Text and node tree of a YAML file; ConfigError when it is missing or not YAML."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no file '{shown(file)}'") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read '{shown(file)}': {error}") from error
    return text, parse_yaml(text, shown(file))


def parse_yaml(text: str, file: str) -> yaml.Node | None:
    """The node tree of YAML text; ConfigError at the place of a syntax error."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(file=file) if mark is None else Where(file, mark.line + 1, mark.column + 1, 1, text)
        raise ConfigError(f"not valid YAML: {error.problem or error.context}", where=where) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=Where(file=file)) from error
    return node


def mark_of(node: yaml.Node, file: str, text: str) -> Where:
    """The place of a node, underlined over its first line."""
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if start.line == end.line else 1
    return Where(file, start.line + 1, start.column + 1, max(1, width), text)


@dataclass(frozen=True)
class Layer:
    """A file that took part, at `package` of the whole."""

    file: Path
    package: Keys
    text: str
    root: yaml.Node | None

    @classmethod
    def read(cls, file: Path, package: Keys = ()) -> Layer:
        return cls(file, package, *read_yaml(file))

    def find(self, keys: Keys) -> Where | None:
        """The place of that key in this file, or None."""
        if self.root is None or keys[: len(self.package)] != self.package:
            return None
        node, found = self.root, self.root
        steps = list(keys[len(self.package) :])
        while steps:
            step = steps.pop(0)
            if isinstance(node, yaml.MappingNode):
                pairs = [pair for pair in node.value if pair[0].value == step]
                # A key that has dots in it, such as a client setting of Kafka.
                while not pairs and steps:
                    step = f"{step}.{steps.pop(0)}"
                    pairs = [pair for pair in node.value if pair[0].value == step]
                if not pairs:
                    return None
                found, node = pairs[-1]
            elif isinstance(node, yaml.SequenceNode) and _INDEX.fullmatch(step):
                at = int(step[1:-1])
                if at >= len(node.value):
                    return None
                found = node = node.value[at]
            else:
                return None
        return mark_of(found, shown(self.file), self.text)

    def choice(self, group: str, option: str) -> Where | None:
        """The place in the `defaults` list where that option of the group is chosen, or None."""
        if not isinstance(self.root, yaml.MappingNode):
            return None
        entries = [item for key, node in self.root.value if key.value == "defaults" for item in node.value]
        for entry in entries:
            for key, value in entry.value if isinstance(entry, yaml.MappingNode) else ():
                chosen = key.value.split()[-1].partition("@")[0].removeprefix("/")
                if chosen == group and value.value == option:
                    return mark_of(value, shown(self.file), self.text)
        return None


@dataclass
class Origins:
    """All that was merged into one configuration, in order: files, then overrides by their key."""

    layers: list[Layer] = field(default_factory=list)
    overrides: dict[Keys, str] = field(default_factory=dict)
    # Keys that stand in no file but somewhere else: in the text of a query.
    places: dict[Keys, Where] = field(default_factory=dict)
    # What paths in overrides are relative to; None: the working directory.
    override_base: Path | None = None

    def where(self, key: str) -> Where:
        """The place that last set the key, or something in it, or the nearest key above it."""
        keys = split_key(key)
        for length in range(len(keys), 0, -1):
            override = self._override(keys[:length], below=length == len(keys))
            if override is not None:
                return Where(key=f"override '{override}'")
            if keys[:length] in self.places:
                return self.places[keys[:length]]
            layer = self._layer(keys[:length])
            if layer is not None:
                return layer[1]
        return Where(key=key)

    def base(self, key: str) -> Path:
        """What a relative path under the key is relative to: the folder of the file that names it, or
        `override_base`."""
        keys = split_key(key)
        for length in range(len(keys), 0, -1):
            if self._override(keys[:length], below=False) is not None:
                break
            layer = self._layer(keys[:length])
            if layer is not None:
                return layer[0].file.resolve().parent
        return self.override_base or Path.cwd()

    def _override(self, keys: Keys, below: bool) -> str | None:
        for path, text in reversed(self.overrides.items()):
            if path == keys or (below and path[: len(keys)] == keys):
                return text
        return None

    def _layer(self, keys: Keys) -> tuple[Layer, Where] | None:
        for layer in reversed(self.layers):
            # The whole file (its package itself) is no place for one of its keys.
            found = layer.find(keys) if len(keys) > len(layer.package) else None
            if found is not None:
                return layer, found
        return None

    def locate(self, error: VelostreamError) -> VelostreamError:
        """The error, its place looked up when it names just a key."""
        if error.where is not None and error.where.key and error.where.file is None:
            error.where = self.where(error.where.key)
        return error
