"""Where records end in raw bytes, without decoding them.

NDJSON: at every newline; a line of spaces, tabs and carriage returns is no record.
CSV: at a newline outside of quotes. A quote opens at the start of a field only, and a doubled one inside does not
close; `cython_ext.csv_decoder` reads by the same rule. An empty line is no record.

All functions take bytes that begin at a record's start, and only count records whose newline is there.
"""

from libc.stdint cimport uint8_t

from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.csv_index cimport csv_last_end, csv_masks_best, csv_masks_way
from cython_ext.cursor cimport Cursor, skip_space
from cython_ext.planted cimport plant_overread

cdef csv_masks_way _fill = csv_masks_best()


cdef inline const uint8_t* behind_last_newline(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """The byte behind the last newline, or `at`. (memrchr is not to be had on every system.)"""
    while end > at and (end - 1)[0] != c'\n':
        end -= 1
    return end


def last_line(const uint8_t[::1] data):
    """The length of all lines that end with a newline."""
    cdef const uint8_t* start
    if data.shape[0] == 0:
        return 0
    start = &data[0]
    plant_overread(start, start + data.shape[0])
    return behind_last_newline(start, start + data.shape[0]) - start


def take_lines(const uint8_t[::1] data, Py_ssize_t records):
    """The length of the first lines that hold so many records, or of all that there are."""
    cdef const uint8_t* start
    cdef const uint8_t* end
    cdef const uint8_t* taken
    cdef const uint8_t* newline
    cdef Cursor line
    if data.shape[0] == 0:
        return 0
    start = &data[0]
    plant_overread(start, start + data.shape[0])
    end = start + data.shape[0]
    taken = start
    with nogil:
        enter_kernel()
        while records > 0:
            newline = find(taken, end, c'\n')
            if newline == end:
                break
            line.at = taken
            line.end = newline
            skip_space(&line)
            records -= line.at < newline
            taken = newline + 1
        leave_kernel()
    return taken - start


cdef const uint8_t* csv_end(const uint8_t* start, const uint8_t* end, uint8_t delimiter, uint8_t quote) noexcept nogil:
    """The byte behind the last newline outside of quotes; `start` when there is none."""
    cdef const uint8_t* at = start
    cdef const uint8_t* behind
    cdef bint hold = True
    # Where there is no quote, the last newline it is.
    if find(start, end, quote) == end:
        return behind_last_newline(start, end)
    while True:
        at += csv_last_end(_fill, at, end - at, delimiter, quote, &hold)
        if hold:
            return at
        # A quote in an odd place; its record is passed byte by byte.
        behind = csv_record(at, end, delimiter, quote)
        if behind == NULL:
            return at
        at = behind


def last_csv_record(const uint8_t[::1] data, uint8_t delimiter, int quote):
    """The length of all records that end with a newline; `quote` is -1 when fields are never quoted."""
    cdef const uint8_t* start
    cdef const uint8_t* end
    cdef const uint8_t* behind
    if data.shape[0] == 0:
        return 0
    start = &data[0]
    plant_overread(start, start + data.shape[0])
    end = start + data.shape[0]
    with nogil:
        enter_kernel()
        if quote < 0:
            behind = behind_last_newline(start, end)
        else:
            behind = csv_end(start, end, delimiter, <uint8_t>quote)
        leave_kernel()
    return behind - start


def take_csv_records(const uint8_t[::1] data, Py_ssize_t records, uint8_t delimiter, int quote):
    """The length of the first so many records, or of all that there are; `quote` as for `last_csv_record`."""
    cdef const uint8_t* start
    cdef const uint8_t* end
    cdef const uint8_t* taken
    cdef const uint8_t* behind
    if data.shape[0] == 0:
        return 0
    start = &data[0]
    plant_overread(start, start + data.shape[0])
    end = start + data.shape[0]
    taken = start
    with nogil:
        enter_kernel()
        while records > 0 and taken < end:
            behind = csv_record(taken, end, delimiter, quote)
            if behind == NULL:
                break
            records -= not (taken[0] == c'\n' or (taken[0] == c'\r' and taken[1] == c'\n'))
            taken = behind
        leave_kernel()
    return taken - start
