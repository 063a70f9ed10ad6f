"""Functions of TIMESTAMP and DATE, in UTC and the proleptic Gregorian calendar. A DATE is its midnight."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from velostream.errors import BindError, unknown
from velostream.sql.functions.registry import PROPAGATE, Invocation, Mask, Value, function
from velostream.sql.functions.rules import signatures
from velostream.sql.functions.values import as_array, mask_of, null_where
from velostream.sql.types import BIGINT, DOUBLE

_TO_BIGINT = signatures("TIMESTAMP -> BIGINT")
_MOMENT = datetime(2024, 2, 29, 13, 45, 7, 250000)


# Arrow's calendar wraps silently beyond years of 16 bits; this is within them, the years -26550 to 30489.
_LAST_MICRO = 900_000_000_000_000_000


def beyond_calendar(time: Value) -> Mask | None:
    """The rows whose TIMESTAMP is too far away to have a calendar date; None when there is none."""
    extremes = pc.min_max(time)
    low, high = extremes["min"].value, extremes["max"].value
    if low is None or (-_LAST_MICRO <= low and high <= _LAST_MICRO):
        return None
    micros = pc.cast(time, BIGINT)
    outside = pc.or_(pc.less(micros, -_LAST_MICRO), pc.greater(micros, _LAST_MICRO))
    return mask_of(outside, len(time))


def _within_calendar(call: Invocation, time: Value) -> Value:
    beyond = beyond_calendar(time)
    call.fail(beyond, "calendar", "a TIMESTAMP beyond the years -26550 to 30489 has no calendar date")
    return null_where(time, beyond)


def _part(name: str, compute: Callable[[Value], Value], doc: str, expected: int) -> None:
    """Register a part of a date: `name(x)`, which EXTRACT(name FROM x) and date_part('name', x) mean too."""

    def run(call: Invocation, time: Value) -> Value:
        return pc.cast(compute(_within_calendar(call, time)), BIGINT)

    run.__doc__ = doc
    function(name, rule=_TO_BIGINT, nulls=PROPAGATE, example=((_MOMENT,), expected))(run)


def _day_of_week(time: Value) -> Value:
    return pc.day_of_week(time, count_from_zero=True, week_start=7)


def _within_minute(micros_a_unit: int) -> Callable[[Value], Value]:
    minute = 60_000_000

    def compute(time: Value) -> Value:
        micros = pc.cast(time, BIGINT)
        started = pc.cast(pc.floor_temporal(time, unit="minute"), BIGINT)
        since = pc.subtract(micros, started)
        return since if micros_a_unit == 1 else pc.divide(since, pa.scalar(micros_a_unit, BIGINT))

    assert minute % micros_a_unit == 0
    return compute


_part("year", pc.year, "The year.", 2024)
_part("quarter", pc.quarter, "The quarter, 1 to 4.", 1)
_part("month", pc.month, "The month, 1 to 12.", 2)
_part("week", pc.iso_week, "The ISO 8601 week, 1 to 53; the first has the year's first Thursday.", 9)
_part("day", pc.day, "The day of the month.", 29)
_part("dow", _day_of_week, "The day of the week, 0 (Sunday) to 6.", 4)
_part("doy", pc.day_of_year, "The day of the year, 1 to 366.", 60)
_part("hour", pc.hour, "The hour, 0 to 23.", 13)
_part("minute", pc.minute, "The minute, 0 to 59.", 45)
_part("second", pc.second, "The whole second, 0 to 59.", 7)
_part(
    "millisecond", _within_minute(1_000), "The milliseconds since the minute began, seconds included.", 7250
)
_part("microsecond", _within_minute(1), "The microseconds since the minute began, seconds included.", 7250000)


@function(
    "epoch", rule=signatures("TIMESTAMP -> DOUBLE"), nulls=PROPAGATE, example=((_MOMENT,), 1709214307.25)
)
def epoch(call: Invocation, time: Value) -> Value:
    """The seconds since 1970-01-01 00:00:00 UTC, with their fraction."""
    micros = pc.cast(pc.cast(time, BIGINT), DOUBLE, safe=False)
    return pc.divide(micros, pa.scalar(1e6))


_UNITS = {
    name: unit
    for unit in (
        "microsecond",
        "millisecond",
        "second",
        "minute",
        "hour",
        "day",
        "week",
        "month",
        "quarter",
        "year",
    )
    for name in (unit, f"{unit}s")
}


def _check_unit(value: object) -> None:
    if isinstance(value, str) and value.lower() not in _UNITS:
        message, hint = unknown("unit of time", value, [name for name in _UNITS if not name.endswith("s")])
        raise BindError(message, hint=hint)


@function(
    "date_trunc",
    rule=signatures("VARCHAR, TIMESTAMP -> TIMESTAMP"),
    nulls=PROPAGATE,
    example=(("hour", _MOMENT), datetime(2024, 2, 29, 13)),
    literals=(0,),
    check=_check_unit,
)
def date_trunc(call: Invocation, unit: pa.Scalar, time: Value) -> Value:
    """The start of the unit ('year' to 'microsecond'; weeks begin on Monday) that the time lies in."""
    if not unit.is_valid:
        return pa.nulls(call.rows, call.result_type)
    time = as_array(time, call.rows)
    return pc.floor_temporal(_within_calendar(call, time), unit=_UNITS[unit.as_py().lower()])
