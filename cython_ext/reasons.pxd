"""Why a record or a value is refused."""


cpdef enum Reason:
    OK = 0
    # The record is not of its format; the rest of it is not looked at.
    INCOMPLETE
    NOT_OBJECT
    KEY_EXPECTED
    COLON_EXPECTED
    COMMA_EXPECTED
    VALUE_EXPECTED
    BAD_NUMBER
    CONTROL
    BAD_ESCAPE
    SURROGATE
    NOT_UTF8
    TOO_DEEP
    TRAILING
    TOO_LONG
    TOO_MANY_COLUMNS
    TEXT_TOO_LONG
    FIELD_COUNT
    TEXT_AFTER_QUOTE
    OPEN_QUOTE
    # The value does not fit its column.
    WRONG_TYPE
    FRACTION
    OVERFLOW
    SCALE
    PRECISION
    INFINITE
    BAD_TIME
    # No memory: not the record's fault.
    NO_MEMORY
