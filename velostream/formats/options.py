"""Formats by name or by a file's extension, and their options checked against their dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from velostream.config.fit import fit
from velostream.errors import ConfigError, VelostreamError, Where, raise_all
from velostream.formats.base import Format, formats

Options = TypeVar("Options")


def open_format(name: str, options: Mapping[str, Any], key: str) -> Format:
    """The format `name` with `options`; `key` is the configuration key of the connector, for errors.

    Raises ConfigError or Problems: an unknown format, an unknown option, a value of a wrong type.
    """
    try:
        kind = formats[name]
    except ConfigError as exc:
        raise ConfigError(exc.message, where=Where(key=f"{key}.format"), hint=exc.hint) from None
    return kind(check_options(kind.Options, options, key))


def format_of(file_name: str) -> str | None:
    """The format that a file's extension names, in any case; None when it names none."""
    name = file_name.lower()
    return next(
        (entry.name for entry in formats for extension in entry.value.extensions if name.endswith(extension)),
        None,
    )


def check_options(kind: type[Options], options: Mapping[str, Any], key: str) -> Options:
    """An instance of the dataclass `kind`; `key` is the configuration key of the connector.

    Raises ConfigError or Problems: an unknown option, a value of a wrong type.
    """
    errors: list[VelostreamError] = []
    made: Options = fit(options, kind, (*key.split("."), "format_options"), errors)
    raise_all(errors)
    return made
