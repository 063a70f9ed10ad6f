"""A format by name with its options, checked against the format's dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from velostream.errors import ConfigError, VelostreamError, Where, raise_all, unknown
from velostream.formats.base import Format, formats


def open_format(name: str, options: Mapping[str, Any], key: str) -> Format:
    """The format `name` with `options`; `key` is the configuration key of the connector, for errors.

    Raises ConfigError or Problems: an unknown format, an unknown option, a value of a wrong type.
    """
    try:
        kind = formats[name]
    except ConfigError as exc:
        raise ConfigError(exc.message, where=Where(key=f"{key}.format"), hint=exc.hint) from None
    known = [field.name for field in fields(kind.Options)]
    errors: list[VelostreamError] = []
    checked = OmegaConf.structured(kind.Options)
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
    return kind(OmegaConf.to_object(checked))


def _first_line(exc: OmegaConfBaseException) -> str:
    """OmegaConf's message without its footer of keys and types, in our style."""
    line = str(exc).splitlines()[0]
    return line[:1].lower() + line[1:]
