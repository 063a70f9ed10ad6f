"""Which window a time is in, and which records are late."""

import numpy as np
import pyarrow as pa

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint64_t

from cython_ext.arrow_column cimport Column, check_rows, open_column, widen
from cython_ext.clock cimport enter_kernel, leave_kernel


cdef inline int64_t floor_to(int64_t time, int64_t size) noexcept nogil:
    """The largest multiple of `size` that is not above `time`; INT64_MIN when it does not fit."""
    cdef int64_t rest = time % size  # C's sign: negative before 1970
    if rest < 0:
        rest += size
    return INT64_MIN if time < INT64_MIN + rest else time - rest


cdef inline int64_t minus(int64_t time, int64_t duration) noexcept nogil:
    """time - duration, saturated; the duration is not negative."""
    return INT64_MIN if time < INT64_MIN + duration else time - duration


def tumble_start(times, int64_t size_us, const int32_t[::1] rows=None):
    """The start (int64, microseconds) of the tumbling window that each selected row is in.

    `times` is an array of TIMESTAMP or int64; a NULL gives a start without meaning. `rows` selects rows by
    index, None all. Windows are half-open, [k * size, (k + 1) * size), for every integer k.
    """
    cdef Column column
    cdef int64_t[::1] out
    cdef const int64_t* values
    cdef const int32_t* row = NULL
    cdef Py_ssize_t n
    array = widen(times)
    if array.type != pa.int64():
        raise TypeError(f"expected times, got {array.type}")
    if size_us <= 0:
        raise ValueError(f"a window of {size_us} microseconds")
    open_column(array, &column)
    n = column.n if rows is None else rows.shape[0]
    starts = np.empty(n, dtype=np.int64)
    if n == 0:
        return starts
    out = starts
    values = <const int64_t*>column.values
    if rows is not None:
        check_rows(rows, column.n)
        row = &rows[0]
    with nogil:
        enter_kernel()
        _tumble(values, row, n, size_us, &out[0])
        leave_kernel()
    return starts


cdef void _tumble(const int64_t* values, const int32_t* rows, Py_ssize_t n, int64_t size,
                  int64_t* out) noexcept nogil:
    cdef Py_ssize_t j
    cdef int64_t time
    cdef int64_t start = 0
    cdef uint64_t span = <uint64_t>size
    # Times mostly stay in the window of the row before: comparing is cheaper than dividing.
    for j in range(n):
        time = values[j if rows == NULL else rows[j]]
        if (time < start) | (<uint64_t>time - <uint64_t>start >= span):
            start = floor_to(time, size)
            span = 0 if start == INT64_MIN else <uint64_t>size  # a start that did not fit tells nothing
        out[j] = start


def judge_late(const int64_t[::1] times not None, int64_t seen_max, int64_t out_of_orderness_us,
               int64_t allowed_lateness_us, int64_t size_us, valid=None):
    """Which rows are late by the rows before them: (mask (bool) or None when none is, new `seen_max`).

    A row is late when the end of its tumbling window + allowed lateness <= watermark, which is the greatest
    earlier time - out-of-orderness. `seen_max` is the greatest time of earlier blocks, INT64_MIN when there
    was none. `valid` (bool): rows without it are neither judged nor seen. Arithmetic saturates.
    """
    cdef Py_ssize_t n = times.shape[0]
    cdef uint8_t[::1] late
    cdef const uint8_t[::1] judged
    cdef const uint8_t* judge = NULL
    cdef Py_ssize_t found
    if size_us <= 0:
        raise ValueError(f"a window of {size_us} microseconds")
    if out_of_orderness_us < 0 or allowed_lateness_us < 0:
        raise ValueError("out-of-orderness and allowed lateness cannot be negative")
    if n == 0:
        return None, seen_max
    if valid is not None:
        judged = valid.view(np.uint8)
        if judged.shape[0] != n:
            raise ValueError(f"{judged.shape[0]} flags for {n} rows")
        judge = &judged[0]
    mask = np.zeros(n, dtype=np.bool_)
    late = mask.view(np.uint8)
    with nogil:
        enter_kernel()
        found = _judge(&times[0], judge, n, &seen_max, out_of_orderness_us, allowed_lateness_us, size_us,
                       &late[0])
        leave_kernel()
    return (mask if found else None), seen_max


cdef Py_ssize_t _judge(const int64_t* times, const uint8_t* valid, Py_ssize_t n, int64_t* seen_max,
                       int64_t disorder, int64_t allowed, int64_t size, uint8_t* late) noexcept nogil:
    """The number of late rows.

    The end of a window is <= bound exactly when its rows are < floor(bound): a row is compared with that
    cutoff, which is computed anew only when the greatest time passes `next`.
    """
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t i
    cdef int64_t time
    cdef int64_t most = seen_max[0]
    cdef int64_t cutoff = floor_to(minus(minus(most, disorder), allowed), size)
    cdef int64_t next = _reached(cutoff, size, disorder, allowed)
    for i in range(n):
        if valid != NULL and not valid[i]:
            continue
        time = times[i]
        if time < cutoff:
            late[i] = 1
            found += 1
        elif time > most:
            most = time
            if most >= next:
                cutoff = floor_to(minus(minus(most, disorder), allowed), size)
                next = _reached(cutoff, size, disorder, allowed)
    seen_max[0] = most
    return found


cdef inline int64_t _reached(int64_t cutoff, int64_t size, int64_t disorder, int64_t allowed) noexcept nogil:
    """The least greatest time whose cutoff is above `cutoff`; saturated."""
    cdef int64_t at = cutoff
    at = INT64_MAX if at > INT64_MAX - size else at + size
    at = INT64_MAX if at > INT64_MAX - disorder else at + disorder
    return INT64_MAX if at > INT64_MAX - allowed else at + allowed
