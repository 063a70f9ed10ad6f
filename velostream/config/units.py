"""Durations and sizes as people write them: `10s`, `1h30m`, `4MiB`."""

from __future__ import annotations

import re

from velostream.errors import ConfigError

_DURATION_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_SIZE_BYTES = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SIZE_UNITS = {unit.lower(): factor for unit, factor in _SIZE_BYTES.items()}


def parse_duration_us(text: str) -> int:
    """Microseconds of a duration: numbers with `us`, `ms`, `s`, `m`, `h`, `d`, one after another.

    Raises ConfigError for anything else, a number without a unit and a negative one included.

    >>> parse_duration_us("1h30m"), parse_duration_us("1.5s"), parse_duration_us("0s")
    (5400000000, 1500000, 0)
    """
    compact = text.strip().replace(" ", "")
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise ConfigError(
            f"'{text}' is not a duration", hint="write a number with a unit: 200ms, 10s, 5m, 1h30m, 1d"
        )
    return round(sum(float(number) * _DURATION_US[unit] for number, unit in parts))


def parse_bytes(text: str) -> int:
    """Bytes of a size: a number with `B`, `KB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB`, `GiB` (of 1024).

    A bare number is bytes; the letter case does not matter. Raises ConfigError for anything else.

    >>> parse_bytes("4MiB"), parse_bytes("64KB"), parse_bytes("512")
    (4194304, 64000, 512)
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ConfigError(f"'{text}' is not a size", hint="write a number with a unit: 64KiB, 4MiB, 1GB")
    return round(float(match[1]) * factor)
