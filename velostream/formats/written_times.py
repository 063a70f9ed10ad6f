"""Times as people write them, where kernels do not read them: other zones than UTC, and strptime formats."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_HOUR_US = 3_600_000_000


class Zone:
    """Local times of a zone to UTC, remembered by hour.

    A local time that occurs twice is the first of the two; one that a change of clocks leaves out is read
    with the offset from before the change (as `datetime` does with `fold=0`).
    """

    def __init__(self, name: str) -> None:
        self._zone = ZoneInfo(name)
        # Offset in us by local hour since the epoch; None for an hour in which it changes.
        self._offsets: dict[int, int | None] = {}

    def to_utc(self, local: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Microseconds in UTC of local microseconds since the epoch; years 1 to 9999."""
        hours, which = np.unique(local // _HOUR_US, return_inverse=True)
        known = [self._of_hour(int(hour)) for hour in hours]
        offsets = np.array([0 if offset is None else offset for offset in known], dtype=np.int64)[which]
        changing = np.array([offset is None for offset in known], dtype=np.bool_)[which]
        for row in np.flatnonzero(changing):
            offsets[row] = self._offset(int(local[row]))
        return local - offsets

    def _of_hour(self, hour: int) -> int | None:
        if hour not in self._offsets:
            first = self._offset(hour * _HOUR_US)
            last = self._offset(hour * _HOUR_US + _HOUR_US - 1)
            self._offsets[hour] = first if first == last else None
        return self._offsets[hour]

    def _offset(self, local_us: int) -> int:
        local = (_EPOCH + timedelta(microseconds=local_us)).replace(tzinfo=self._zone)
        offset = local.utcoffset()
        assert offset is not None
        return offset // _MICROSECOND


class Pattern:
    """Text of one strptime format as a TIMESTAMP or DATE column, remembered by text."""

    # Beyond it the texts are forgotten: times repeat in a stream, but not for ever.
    _KNOWN = 1 << 16

    def __init__(self, pattern: str, type: pa.DataType, timezone: str) -> None:
        self._pattern = pattern
        self._type = type
        self._zone = ZoneInfo(timezone)
        self._known: dict[str, int | None] = {}

    def read(self, texts: pa.StringArray) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
        """The column, and which rows do not match the format (NULL in the column)."""
        values = [None if text is None else self._value(text) for text in texts.to_pylist()]
        integer = pa.int64() if self._type.bit_width == 64 else pa.int32()
        column = pa.array(values, type=integer).cast(self._type)
        failed = np.array([value is None for value in values], dtype=np.bool_)
        if texts.null_count:
            failed &= texts.is_valid().to_numpy(zero_copy_only=False)
        return column, failed

    def _value(self, text: str) -> int | None:
        if text not in self._known:
            if len(self._known) >= self._KNOWN:
                self._known.clear()
            self._known[text] = self._parse(text)
        return self._known[text]

    def _parse(self, text: str) -> int | None:
        try:
            parsed = datetime.strptime(text, self._pattern)
            if pa.types.is_date(self._type):
                return (parsed.date() - date(1970, 1, 1)).days
            if parsed.tzinfo is None:
                parsed = parsed.replace(tzinfo=self._zone)
            # Not through a datetime in UTC, which years 1 and 9999 may not have.
            offset = parsed.utcoffset() or timedelta()
            return (parsed.replace(tzinfo=UTC) - _EPOCH.replace(tzinfo=UTC) - offset) // _MICROSECOND
        except (ValueError, OverflowError):
            return None


def localise(column: pa.Array, naive: npt.NDArray[np.uint8], zone: Zone) -> pa.Array:
    """A TIMESTAMP column with its `naive` rows read in `zone`."""
    rows = np.flatnonzero(naive)
    if not len(rows):
        return column
    validity, values = column.buffers()
    moved = np.frombuffer(values, dtype=np.int64, count=len(column)).copy()
    moved[rows] = zone.to_utc(moved[rows])
    return pa.Array.from_buffers(column.type, len(column), [validity, pa.py_buffer(moved)])


def is_utc(timezone: str) -> bool:
    """Whether local times of the zone need no conversion."""
    return timezone in ("UTC", "Etc/UTC", "Z", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal")
