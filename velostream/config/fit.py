"""Plain data against dataclasses: builds the object, or says everything that does not fit.

Composing types what Hydra composes; this types the rest (sources by their kind, overrides, mappings,
deployments) and is the one place where a wrong key or value gets its message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from velostream.errors import ConfigError, VelostreamError, Where, did_you_mean, unknown

MISSING_VALUE = "???"
Path = tuple[str, ...]
_INTEGER = re.compile(r"[+-]?\d+")
_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")
_NAMES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}


def dotted(path: Path) -> str:
    """The key as overrides write it.

    >>> dotted(("jobs", "[1]", "processor"))
    'jobs[1].processor'
    """
    return ".".join(path).replace(".[", "[")


def fit(value: Any, hint: Any, path: Path, errors: list[VelostreamError]) -> Any:
    """`value` as an instance of the type `hint`; what does not fit is added to `errors`.

    `path` is where the value stands, and becomes the `where.key` of its errors. What did not fit is left
    at its default, so that the rest can be checked further. Text is converted where it is unambiguous
    ("4" to 4), as OmegaConf does.
    """
    origin = get_origin(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _fit_dataclass(value, hint, path, errors)
    if origin in (Union, UnionType):
        return _fit_union(value, get_args(hint), path, errors)
    if origin is Literal:
        return _fit_choice(value, get_args(hint), path, errors)
    if origin is dict:
        if not isinstance(value, Mapping):
            return _misfit(value, "a mapping", path, errors)
        inner = get_args(hint)[1]
        return {str(key): fit(item, inner, (*path, str(key)), errors) for key, item in value.items()}
    if origin in (list, tuple):
        if isinstance(value, str) or not isinstance(value, Sequence):
            return _misfit(value, "a list", path, errors)
        inner = get_args(hint)[0]
        items = [fit(item, inner, (*path, f"[{at}]"), errors) for at, item in enumerate(value)]
        return items if origin is list else tuple(items)
    return _fit_scalar(value, hint, path, errors)


@cache
def _hints(hint: Any) -> dict[str, Any]:
    return get_type_hints(hint)


def _fit_dataclass(value: Any, hint: Any, path: Path, errors: list[VelostreamError]) -> Any:
    if isinstance(value, hint):
        return value
    if not isinstance(value, Mapping):
        _misfit(value, "a mapping", path, errors)
        value = {}
    hints = _hints(hint)
    known = {field.name: field for field in fields(hint) if field.init}
    arguments: dict[str, Any] = {}
    for key, item in value.items():
        name = str(key)
        inside = (*path, name)
        if name not in known:
            message, way_out = unknown("key", name, known)
            place = f" in '{dotted(path)}'" if path else ""
            errors.append(ConfigError(message + place, where=Where(key=dotted(inside)), hint=way_out))
        elif item == MISSING_VALUE:
            continue
        else:
            before = len(errors)
            fitted = fit(item, hints[name], inside, errors)
            if len(errors) == before or fitted is not None:
                arguments[name] = fitted
    for name, field in known.items():
        if field.default_factory is not NO_DEFAULT or field.default not in (NO_DEFAULT, MISSING_VALUE):
            continue
        if value.get(name, MISSING_VALUE) == MISSING_VALUE:
            missing = dotted((*path, name))
            errors.append(ConfigError(f"'{missing}' must be given", where=Where(key=dotted(path))))
        arguments.setdefault(name, None)
    return hint(**arguments)


def _fit_union(value: Any, options: tuple[Any, ...], path: Path, errors: list[VelostreamError]) -> Any:
    if value is None and NoneType in options:
        return None
    others = [option for option in options if option is not NoneType]
    # An exact type first, so that "4" given to int | str stays text.
    others.sort(key=lambda option: option is not type(value))
    for option in others:
        trial: list[VelostreamError] = []
        built = fit(value, option, path, trial)
        if not trial:
            return built
    if len(others) == 1:
        errors.extend(trial)
        return None
    return _misfit(value, " or ".join(_NAMES.get(option, "a mapping") for option in others), path, errors)


def _fit_choice(value: Any, options: tuple[Any, ...], path: Path, errors: list[VelostreamError]) -> Any:
    if value in options:
        return value
    names = [str(option) for option in options]
    way_out = did_you_mean(str(value), names) or "expected one of " + ", ".join(f"'{n}'" for n in names)
    key = dotted(path)
    errors.append(ConfigError(f"'{key}' cannot be '{value}'", where=Where(key=key), hint=way_out))
    return None


def _fit_scalar(value: Any, hint: Any, path: Path, errors: list[VelostreamError]) -> Any:
    if hint is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            return int(value)
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                pass
    elif hint is str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (str, int, float)):
            return str(value)
    elif isinstance(value, hint):
        return value
    return _misfit(value, _NAMES.get(hint, getattr(hint, "__name__", str(hint))), path, errors)


def _misfit(value: Any, expected: str, path: Path, errors: list[VelostreamError]) -> None:
    if isinstance(value, Mapping):
        got = "a mapping"
    elif isinstance(value, list):
        got = "a list"
    else:
        got = "null" if value is None else f"'{value}'"
    errors.append(
        ConfigError(f"'{dotted(path)}' is {got}, expected {expected}", where=Where(key=dotted(path)))
    )
