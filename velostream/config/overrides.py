"""Overrides as typed on a command line: `processor.partitions=8`, `sql=SELECT a, b FROM t`.

The grammar of values is Hydra's. What it cannot read, or reads as a sweep where there is none, is text:
spaces, commas and parentheses need no quotes inside the quotes of the shell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from velostream.errors import ConfigError, VelostreamError, Where

_KEY = re.compile(r"(?P<mark>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./\-]*)(@(?P<package>[\w.\-]+))?")
# Always text, whatever its value looks like.
_TEXT_KEYS = ("sql",)


@dataclass(frozen=True, slots=True)
class Override:
    """One override: `text` as typed, `key` without its mark, `several` when the value lists several."""

    text: str
    key: str
    package: str | None
    value: Any
    delete: bool = False
    several: bool = False

    @property
    def where(self) -> Where:
        return Where(key=f"override '{self.text}'")


def is_override(text: str) -> bool:
    """Whether the argument has the form of an override (and not of SQL)."""
    key, equals, _ = text.partition("=")
    return bool(_KEY.fullmatch(key)) and (bool(equals) or text.startswith("~"))


def parse_override(text: str) -> Override:
    """One override; ConfigError when it has no key or no value."""
    key, equals, value = text.partition("=")
    match = _KEY.fullmatch(key)
    if match is None or not (equals or match["mark"] == "~"):
        raise ConfigError(f"'{text}' is not an override", hint="write key=value, such as processor=v2")
    parsed, several = (None, False) if match["mark"] == "~" else _value(match["key"], value)
    return Override(text, match["key"], match["package"], parsed, match["mark"] == "~", several)


def parse_overrides(texts: Sequence[str]) -> tuple[list[Override], list[VelostreamError]]:
    """All overrides that can be read, and an error for each that cannot."""
    overrides: list[Override] = []
    errors: list[VelostreamError] = []
    for text in texts:
        try:
            overrides.append(parse_override(text))
        except ConfigError as error:
            errors.append(error)
    return overrides, errors


def is_sweep(text: str) -> bool:
    """Whether Hydra's grammar reads several values: `a,b`, `choice(…)`, `range(…)`, `interval(…)`."""
    key, _, value = text.partition("=")
    return key.lstrip("+") not in _TEXT_KEYS and _value(key, value)[1]


def _value(key: str, value: str) -> tuple[Any, bool]:
    if key in _TEXT_KEYS and not re.fullmatch(r"'.*'|\".*\"", value, re.DOTALL):
        return value, False
    try:
        parsed = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return value, False
    if parsed.is_sweep_override():
        return value, True
    return parsed.value(), False
