"""Values of the configuration as the integers that Arrow stores, and such integers as columns."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.config.units import parse_duration_us
from velostream.errors import ConfigError
from velostream.sql.typenames import type_name
from velostream.sql.types import DATE, TIMESTAMP

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000


def is_exact(type: pa.DataType) -> bool:
    """Whether values of the type are stored as integers: integers, DECIMAL, DATE, TIMESTAMP."""
    return bool(pa.types.is_integer(type) or pa.types.is_decimal(type) or pa.types.is_temporal(type))


def stored(value: Any, type: pa.DataType, timezone: str) -> int:
    """The integer that stands for `value`: days of a DATE, microseconds UTC, the digits of a DECIMAL.

    Raises ConfigError when it is no value of the type.
    """
    try:
        if type == TIMESTAMP:
            time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            if time.tzinfo is None:
                time = time.replace(tzinfo=ZoneInfo(timezone))
            return (time - _EPOCH) // timedelta(microseconds=1)
        if type == DATE:
            day = value if isinstance(value, date) else date.fromisoformat(str(value))
            return (day - _EPOCH.date()).days
        scale = type.scale if pa.types.is_decimal(type) else 0
        number = Decimal(str(value)).scaleb(scale)
        whole = int(number)
    except (ValueError, InvalidOperation, OverflowError):
        raise _misfit(value, type) from None
    least, most = _bounds(type)
    if whole != number or not least <= whole <= most:
        raise _misfit(value, type)
    return whole


def _bounds(type: pa.DataType) -> tuple[int, int]:
    """The least and greatest stored integer of an integer type or DECIMAL; within 64 bits."""
    if pa.types.is_decimal(type):
        most = min(10**type.precision, 2**63) - 1
        return -most, most
    return -(2 ** (type.bit_width - 1)), 2 ** (type.bit_width - 1) - 1


def stored_span(value: Any, type: pa.DataType, timezone: str) -> int:
    """As `stored`, for a difference of two values: of times, a duration."""
    if not pa.types.is_temporal(type):
        return stored(value, type, timezone)
    us = parse_duration_us(str(value))
    if type == TIMESTAMP:
        return us
    if us % _DAY_US:
        raise _misfit(value, type)
    return us // _DAY_US


def column(values: npt.NDArray[np.int64], type: pa.DataType) -> pa.Array:
    """Stored integers as a column; pa.ArrowInvalid when one is out of the type's range."""
    if pa.types.is_decimal(type):
        least, most = _bounds(type)
        if len(values) and not least <= values.min() <= values.max() <= most:
            raise pa.ArrowInvalid(f"more digits than {type_name(type)} has")
        wide = np.empty((len(values), 2), dtype=np.int64)
        wide[:, 0] = values
        wide[:, 1] = values >> 63
        return pa.Array.from_buffers(type, len(values), [None, pa.py_buffer(wide)])
    if type == DATE:
        return pa.array(values).cast(pa.int32()).cast(DATE)
    return pa.array(values).cast(type)


def _misfit(value: Any, type: pa.DataType) -> ConfigError:
    return ConfigError(f"'{value}' is not a value of {type_name(type)}")
