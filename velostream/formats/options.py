"""Formats by name or by a file's extension, and their options checked against their dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from velostream.errors import ConfigError, VelostreamError, Where, raise_all, unknown
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
    return kind(check_options(name, kind.Options, options, key))


def format_of(file_name: str) -> str | None:
    """The format that a file's extension names, in any case; None when it names none."""
    name = file_name.lower()
    return next(
        (entry.name for entry in formats for extension in entry.value.extensions if name.endswith(extension)),
        None,
    )


def check_options(name: str, kind: type[Options], options: Mapping[str, Any], key: str) -> Options:
    """An instance of the dataclass `kind`, the options of the format `name`, with all errors at once."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    errors: list[VelostreamError] = []
    checked = OmegaConf.structured(kind)
    for option, value in options.items():
        where = Where(key=f"{key}.format_options.{option}")
        if option not in known:
            message, hint = unknown(f"option of format '{name}'", option, known)
            errors.append(ConfigError(message, where=where, hint=hint))
            continue
        try:
            OmegaConf.update(checked, option, value)
        except OmegaConfBaseException as exc:
            errors.append(ConfigError(_first_line(exc), where=where))
    raise_all(errors)
    return OmegaConf.to_object(checked)  # type: ignore[return-value]


def _first_line(exc: OmegaConfBaseException) -> str:
    """OmegaConf's message without its footer of keys and types, in our style."""
    line = str(exc).splitlines()[0]
    return line[:1].lower() + line[1:]
