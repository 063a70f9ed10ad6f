"""Dates and times from ISO 8601 text, in the proleptic Gregorian calendar, years 0001 to 9999.

    date       YYYY-MM-DD
    timestamp  date [ ("T" | "t" | " ") hh:mm [ :ss [ "." digits ] ] [ "Z" | "z" | ("+" | "-") hh [ [":"] mm ] ] ]
"""

from libc.stdint cimport int64_t, uint8_t

from cython_ext.reasons cimport BAD_TIME, OK


cdef enum:
    SECONDS_PER_DAY = 86_400


cdef inline int two_digits(const uint8_t* at) noexcept nogil:
    """The value of two digits, or a negative number when they are none."""
    cdef unsigned int high = <unsigned int>at[0] - 48
    cdef unsigned int low = <unsigned int>at[1] - 48
    return <int>(high * 10 + low) if high < 10 and low < 10 else -1


cdef inline int64_t days_of(int year, int month, int day) noexcept nogil:
    """Days since 1970-01-01. The year begins in March, so that a leap day is its last."""
    cdef int64_t since = year - (month < 3)
    cdef int64_t era = since // 400
    cdef int64_t of_era = since - era * 400
    cdef int64_t of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


cdef inline int days_in(int year, int month) noexcept nogil:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


cdef inline int read_date(const uint8_t* at, const uint8_t* end, int64_t* days) noexcept nogil:
    """The date in the 10 bytes at `at`; OK or BAD_TIME."""
    cdef int century
    cdef int year
    cdef int month
    cdef int day
    if end - at < 10 or at[4] != c'-' or at[7] != c'-':
        return BAD_TIME
    century = two_digits(at)
    year = two_digits(at + 2)
    month = two_digits(at + 5)
    day = two_digits(at + 8)
    if (century | year | month | day) < 0:
        return BAD_TIME
    year += century * 100
    if year < 1 or month < 1 or month > 12 or day < 1 or day > days_in(year, month):
        return BAD_TIME
    days[0] = days_of(year, month, day)
    return OK


cdef inline int read_timestamp(const uint8_t* at, const uint8_t* end, int64_t* us, bint* naive) noexcept nogil:
    """All of a text as a timestamp in us; `naive` when it names no offset. OK or BAD_TIME.

    Digits of the fraction beyond the sixth are dropped: towards minus infinity, before 1970 too.
    """
    cdef int64_t days
    cdef int64_t seconds
    cdef int hours
    cdef int minutes
    cdef int whole = 0
    cdef int fraction = 0
    cdef int places = 0
    cdef bint west
    cdef const uint8_t* start
    naive[0] = True
    if read_date(at, end, &days) != OK:
        return BAD_TIME
    at += 10
    if at == end:
        us[0] = days * 86_400_000_000LL
        return OK
    if end - at < 6 or (at[0] != c'T' and at[0] != c' ' and at[0] != c't') or at[3] != c':':
        return BAD_TIME
    hours = two_digits(at + 1)
    minutes = two_digits(at + 4)
    at += 6
    if at < end and at[0] == c':':
        if end - at < 3:
            return BAD_TIME
        whole = two_digits(at + 1)
        at += 3
        if at < end and at[0] == c'.':
            at += 1
            start = at
            while at < end and c'0' <= at[0] <= c'9':
                if places < 6:
                    fraction = fraction * 10 + (at[0] - 48)
                    places += 1
                at += 1
            if at == start:
                return BAD_TIME
            while places < 6:
                fraction *= 10
                places += 1
    if (hours | minutes | whole) < 0 or hours > 23 or minutes > 59 or whole > 59:
        return BAD_TIME
    seconds = days * SECONDS_PER_DAY + hours * 3600 + minutes * 60 + whole
    if at < end:
        naive[0] = False
        if at[0] == c'Z' or at[0] == c'z':
            at += 1
        elif at[0] == c'+' or at[0] == c'-':
            west = at[0] == c'-'
            at += 1
            if end - at < 2:
                return BAD_TIME
            hours = two_digits(at)
            minutes = 0
            at += 2
            if at < end and at[0] == c':':
                at += 1
                if end - at < 2:
                    return BAD_TIME
            if end - at >= 2:
                minutes = two_digits(at)
                at += 2
            if (hours | minutes) < 0 or hours > 23 or minutes > 59:
                return BAD_TIME
            seconds += (hours * 3600 + minutes * 60) * (1 if west else -1)
    if at != end:
        return BAD_TIME
    us[0] = seconds * 1_000_000 + fraction
    return OK
