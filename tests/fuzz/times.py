"""Dates and timestamps in text by Python's `datetime`, by the rules of the decoders."""

from __future__ import annotations

import re
from datetime import date, timedelta

from tests.fuzz.numeric import Misfit

_TIMESTAMP = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<east>\d\d):?(?P<past>\d\d)?)?)?",
    re.ASCII,
)


def days_of(text: str) -> int:
    """Days since 1970 of YYYY-MM-DD; Misfit for other texts."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise Misfit
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError:
        raise Misfit from None


def us_of(text: str) -> int:
    """Microseconds since 1970 of ISO 8601 text, which is UTC without an offset; Misfit for other texts."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None or text.endswith(":"):
        raise Misfit
    days = days_of(match["date"])
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    east, past = int(match["east"] or 0), int(match["past"] or 0)
    if hour > 23 or minute > 59 or second > 59 or east > 23 or past > 59:
        raise Misfit
    offset = timedelta(hours=east, minutes=past) * (-1 if match["sign"] == "-" else 1)
    # By parts, since an offset may lead out of the years of datetime.
    start = timedelta(days=days, hours=hour, minutes=minute, seconds=second) - offset
    fraction = int((match["fraction"] or "")[:6].ljust(6, "0"))
    return start // timedelta(microseconds=1) + fraction
