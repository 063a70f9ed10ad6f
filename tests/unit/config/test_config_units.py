from __future__ import annotations

import pytest

from velostream.config.units import parse_bytes, parse_duration_us
from velostream.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("10s", 10_000_000),
        ("200ms", 200_000),
        ("1d", 86_400_000_000),
        ("1h30m", 5_400_000_000),
        ("1h 30m", 5_400_000_000),
        ("0.5s", 500_000),
        ("7us", 7),
        ("0s", 0),
    ],
)
def test_durations_are_numbers_with_units(text: str, us: int) -> None:
    assert parse_duration_us(text) == us


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "10 parsecs", "1h30", "ten seconds", "1s,2s"])
def test_anything_else_is_not_a_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a duration; write a number with a unit: 200ms, 10s"):
        parse_duration_us(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4MiB", 4 << 20),
        ("64KB", 64_000),
        ("512", 512),
        ("512B", 512),
        ("1.5 GiB", 3 << 29),
        ("8mib", 8 << 20),
    ],
)
def test_sizes_are_numbers_with_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1B", "4MB/s", "4 lots"])
def test_anything_else_is_not_a_size(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size; write a number with a unit: 64KiB, 4MiB"):
        parse_bytes(text)
