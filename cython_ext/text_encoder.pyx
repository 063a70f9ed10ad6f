"""Record batches as NDJSON and CSV.

Values are written as `value_text` says. JSON: a NULL, a NaN and an infinity are `null` (JSON has no
other word for them); DECIMAL is a number with all its digits; keys keep the order of the schema. CSV: RFC
4180 with `\\n` behind each record; a field is quoted only where it must be: text that is empty, that
equals the text of NULL, or that holds the delimiter, the quote or a line break. A NULL in the only column
of a CSV whose text of NULL is empty gives an empty line.

All rows of a batch are written straight into one output. Its room is reserved once, for the longest text that
the values can have when nothing is escaped, so that no value asks for room. Memory that is reserved and not
written to costs nothing, and an encoder writes again where its last output was, so that pages are not asked
for anew each time. Escapes are paid from `spare`, the room beyond that, which grows when it runs out.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

import json

import pyarrow as pa

from cython_ext.arrow_column cimport Column, bit_at, is_valid
from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.operands cimport open_values
from cython_ext.value_text cimport (
    MAX_BOOLEAN_TEXT,
    MAX_DATE_TEXT,
    MAX_DECIMAL_TEXT,
    MAX_DOUBLE_TEXT,
    MAX_INT64_TEXT,
    MAX_TIMESTAMP_TEXT,
    VALUE_ROOM,
    Day,
    Power,
    powers_of_ten,
    put_boolean,
    put_date,
    put_decimal,
    put_double,
    put_int64,
    put_timestamp,
    set_day,
)

cdef extern from "simd/escape.h" nogil:
    int json_plain(const uint8_t* at)
    int json_plain_scalar(const uint8_t* at)
    int csv_plain(const uint8_t* at, const uint8_t* marks)
    int csv_plain_scalar(const uint8_t* at, const uint8_t* marks)

cdef enum Kind:
    INT8
    INT16
    INT32
    INT64
    DOUBLE
    DECIMAL
    BOOLEAN
    DATE
    TIMESTAMP
    TEXT

cdef enum:
    # Bytes that are copied and looked at in one go.
    WIDE = 16
    # A control character in JSON: \\u001f.
    MAX_ESCAPE = 6
    # Stores of whole words behind the last row: of a value, or of the prefix before it.
    SLACK = VALUE_ROOM + WIDE


cdef struct Field:
    Kind kind
    int scale
    # What stands before a value that is not NULL: the key and its punctuation, or the delimiter, and the
    # opening quote where each value has one. Padded to a multiple of WIDE.
    const char* prefix
    Py_ssize_t prefix_size
    # 1 where the values have quotes, the last byte of the prefix being one.
    int quoted
    Column column
    # Where the bytes of a column of text end.
    const uint8_t* end
    Day day


cdef struct Output:
    # `base` is malloc'ed; `at` is where the next byte goes, `end` where the room ends.
    char* base
    char* at
    char* end
    # Room that rows without escapes cannot need.
    Py_ssize_t spare


cdef class EncodedBytes:
    """Bytes of records, by the buffer protocol (read only). Owns its memory until it gives it back."""

    cdef char* base
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef _TextEncoder encoder

    def __cinit__(self):
        self.base = NULL
        self.size = 0

    def __dealloc__(self):
        # Attributes may be gone only when the interpreter collects a cycle, and there is none here.
        if self.encoder is not None and self.base != NULL:
            self.encoder._take_back(self.base, self.capacity)
        else:
            free(self.base)

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return self.base[: self.size]

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, self.size, True, flags)


cdef bint grow(Output* out) noexcept nogil:
    """Add spare room, half of what there is, so that copying is linear; False when there is no memory."""
    cdef Py_ssize_t used = out.at - out.base
    cdef Py_ssize_t capacity = out.end - out.base
    cdef Py_ssize_t more = capacity // 2 + 4096
    cdef char* base = <char*>realloc(out.base, capacity + more)
    if base == NULL:
        return False
    out.base = base
    out.at = base + used
    out.end = base + capacity + more
    out.spare += more
    return True


cdef inline char* put_prefix(char* to, const char* prefix, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t done = WIDE
    memcpy(to, prefix, WIDE)
    while done < size:
        memcpy(to + done, prefix + done, WIDE)
        done += WIDE
    return to + size


cdef inline char* put_value(Field* field, Py_ssize_t i, char* to, const Power* powers) noexcept nogil:
    """The valid value of row `i`, which is no text; scribbles over at most VALUE_ROOM bytes."""
    cdef const void* values = field.column.values
    cdef Kind kind = field.kind
    if kind == Kind.DOUBLE:
        return put_double(to, (<const double*>values)[i], powers)
    elif kind == Kind.INT64:
        return put_int64(to, (<const int64_t*>values)[i])
    elif kind == Kind.TIMESTAMP:
        return put_timestamp(to, (<const int64_t*>values)[i], &field.day)
    elif kind == Kind.INT32:
        return put_int64(to, (<const int32_t*>values)[i])
    elif kind == Kind.INT16:
        return put_int64(to, (<const int16_t*>values)[i])
    elif kind == Kind.INT8:
        return put_int64(to, (<const int8_t*>values)[i])
    elif kind == Kind.DATE:
        return put_date(to, (<const int32_t*>values)[i], &field.day)
    elif kind == Kind.DECIMAL:
        return put_decimal(
            to, (<const uint64_t*>values)[2 * i], (<const int64_t*>values)[2 * i + 1], field.scale
        )
    return put_boolean(to, bit_at(&field.column, i))


cdef inline char* write_escape(uint8_t byte, char* out) noexcept nogil:
    """A byte that JSON has escaped in a string."""
    cdef char short_form = 0
    out[0] = c"\\"
    if byte == c'"' or byte == c"\\":
        short_form = <char>byte
    elif byte == c"\n":
        short_form = c"n"
    elif byte == c"\t":
        short_form = c"t"
    elif byte == c"\r":
        short_form = c"r"
    elif byte == 8:
        short_form = c"b"
    elif byte == 12:
        short_form = c"f"
    if short_form:
        out[1] = short_form
        return out + 2
    memcpy(out + 1, b"u00", 3)
    out[4] = c"1" if byte >= 16 else c"0"
    out[5] = <char>(48 + (byte & 15) if (byte & 15) < 10 else 87 + (byte & 15))
    return out + 6


cdef bint put_long_json_text(
    Output* out, const uint8_t* at, Py_ssize_t size, const uint8_t* limit
) noexcept nogil:
    """What a JSON string has between its quotes: any text. False without memory."""
    cdef char* to = out.at
    cdef char* escaped
    cdef int plain
    cdef uint8_t[WIDE] block
    while size > 0:
        if limit - at >= WIDE:
            memcpy(block, at, WIDE)
        else:
            memcpy(block, at, limit - at)
        plain = json_plain(block)
        memcpy(to, block, WIDE)
        if plain >= size:
            to += size
            break
        to += plain
        at += plain
        size -= plain
        if plain == WIDE:
            continue
        if out.spare < MAX_ESCAPE:
            out.at = to
            if not grow(out):
                return False
            to = out.at
        escaped = write_escape(at[0], to)
        out.spare -= escaped - to - 1
        to = escaped
        at += 1
        size -= 1
    out.at = to
    return True


cdef bint encode_json_rows(
    Field* fields, int count, Py_ssize_t n, const Power* powers, Output* out, int64_t* ends
) noexcept nogil:
    """All rows, into the room that there is for them; False without memory for escapes. `ends`, unless it is
    NULL, gets where the newline of each row is."""
    cdef Py_ssize_t i
    cdef Py_ssize_t size
    cdef int k
    cdef Field* field
    cdef const int32_t* offsets
    cdef const uint8_t* text
    cdef double value
    cdef char* to = out.at
    for i in range(n):
        for k in range(count):
            field = &fields[k]
            to = put_prefix(to, field.prefix, field.prefix_size)
            if not is_valid(&field.column, i):
                to -= field.quoted
                memcpy(to, b"null", 4)
                to += 4
                continue
            if field.kind == Kind.TEXT:
                offsets = field.column.offsets + i
                text = field.column.values + offsets[0]
                size = offsets[1] - offsets[0]
                if size <= WIDE <= field.end - text and json_plain(text) >= size:
                    memcpy(to, text, WIDE)
                    to += size
                else:
                    out.at = to
                    if not put_long_json_text(out, text, size, field.end):
                        return False
                    to = out.at
                to[0] = c'"'
                to += 1
            elif field.kind == Kind.DOUBLE:
                value = (<const double*>field.column.values)[i]
                # Finite: x - x is NaN for an infinity and for NaN.
                if value - value == 0:
                    to = put_double(to, value, powers)
                else:
                    memcpy(to, b"null", 4)
                    to += 4
            else:
                to = put_value(field, i, to, powers)
                to[0] = c'"'
                to += field.quoted
        memcpy(to, b"}\n", 2)
        to += 2
        if ends != NULL:
            ends[i] = to - out.base - 1
    out.at = to
    return True


cdef struct CsvStyle:
    char quote
    # The delimiter and the quote.
    uint8_t[2] marks
    const char* null
    Py_ssize_t null_size


cdef bint put_quoted(Output* out, const uint8_t* at, Py_ssize_t size, char quote) noexcept nogil:
    """Text in quotes, those in it doubled; False without memory."""
    cdef Py_ssize_t i
    cdef char* to = out.at
    to[0] = quote
    to += 1
    for i in range(size):
        to[0] = <char>at[i]
        to += 1
        if <char>at[i] == quote:
            if out.spare < 1:
                out.at = to
                if not grow(out):
                    return False
                to = out.at
            out.spare -= 1
            to[0] = quote
            to += 1
    to[0] = quote
    out.at = to + 1
    return True


cdef bint is_plain(const uint8_t* at, Py_ssize_t size, const uint8_t* limit, const uint8_t* marks) noexcept nogil:
    """Whether a text of CSV holds neither a mark nor a line break."""
    cdef uint8_t[WIDE] block
    while size > 0:
        if limit - at >= WIDE:
            memcpy(block, at, WIDE)
        else:
            memcpy(block, at, limit - at)
        if csv_plain(block, marks) < min(size, <Py_ssize_t>WIDE):
            return False
        at += WIDE
        size -= WIDE
    return True


cdef bint encode_csv_rows(
    Field* fields, int count, Py_ssize_t n, const Power* powers, const CsvStyle* style, Output* out, int64_t* ends
) noexcept nogil:
    """All rows, into the room that there is for them; False without memory for doubled quotes. `ends` as for
    `encode_json_rows`."""
    cdef Py_ssize_t i
    cdef Py_ssize_t size
    cdef int k
    cdef Field* field
    cdef const int32_t* offsets
    cdef const uint8_t* text
    cdef char* to = out.at
    for i in range(n):
        for k in range(count):
            field = &fields[k]
            to = put_prefix(to, field.prefix, field.prefix_size)
            if not is_valid(&field.column, i):
                to -= field.quoted
                memcpy(to, style.null, style.null_size)
                to += style.null_size
            elif field.kind == Kind.TEXT:
                offsets = field.column.offsets + i
                text = field.column.values + offsets[0]
                size = offsets[1] - offsets[0]
                if size == 0 or size == style.null_size and memcmp(text, style.null, size) == 0:
                    pass
                elif size <= WIDE <= field.end - text:
                    if csv_plain(text, style.marks) >= size:
                        memcpy(to, text, WIDE)
                        to += size
                        continue
                elif is_plain(text, size, field.end, style.marks):
                    memcpy(to, text, size)
                    to += size
                    continue
                out.at = to
                if not put_quoted(out, text, size, style.quote):
                    return False
                to = out.at
            else:
                to = put_value(field, i, to, powers)
                to[0] = style.quote
                to += field.quoted
        to[0] = c"\n"
        if ends != NULL:
            ends[i] = to - out.base
        to += 1
    out.at = to
    return True


def plain_bytes(const uint8_t[::1] data, bytes marks):
    """For 16 bytes, how many before the first that JSON and that CSV must escape: (wide, scalar) of each.

    For tests, which compare the wide scans with their twins; `marks` are the delimiter and the quote.
    """
    if data.shape[0] != WIDE or len(marks) != 2:
        raise ValueError("a scan takes 16 bytes and 2 marks")
    cdef const uint8_t* two = marks
    return (
        (json_plain(&data[0]), json_plain_scalar(&data[0])),
        (csv_plain(&data[0], two), csv_plain_scalar(&data[0], two)),
    )


cdef Kind kind_of(object field) except *:
    type = field.type
    if pa.types.is_decimal128(type) and 0 <= type.scale <= 38:
        return Kind.DECIMAL
    kinds = {
        pa.int8(): Kind.INT8,
        pa.int16(): Kind.INT16,
        pa.int32(): Kind.INT32,
        pa.int64(): Kind.INT64,
        pa.float64(): Kind.DOUBLE,
        pa.bool_(): Kind.BOOLEAN,
        pa.string(): Kind.TEXT,
        pa.date32(): Kind.DATE,
        pa.timestamp("us"): Kind.TIMESTAMP,
    }
    if type not in kinds:
        raise TypeError(f"column '{field.name}' is of type {type}, which cannot be written as text")
    return kinds[type]


cdef int text_size(Kind kind) noexcept:
    """The longest text of a value, its quotes not counted; 0 for text."""
    if kind == Kind.DOUBLE:
        return MAX_DOUBLE_TEXT
    elif kind == Kind.DECIMAL:
        return MAX_DECIMAL_TEXT
    elif kind == Kind.BOOLEAN:
        return MAX_BOOLEAN_TEXT
    elif kind == Kind.DATE:
        return MAX_DATE_TEXT
    elif kind == Kind.TIMESTAMP:
        return MAX_TIMESTAMP_TEXT
    return 0 if kind == Kind.TEXT else MAX_INT64_TEXT


cdef Py_ssize_t bits_of(Kind kind) noexcept:
    """The width of a value in memory; of text, that of an offset."""
    if kind == Kind.BOOLEAN:
        return 1
    elif kind == Kind.INT8:
        return 8
    elif kind == Kind.INT16:
        return 16
    elif kind == Kind.INT32 or kind == Kind.DATE or kind == Kind.TEXT:
        return 32
    return 128 if kind == Kind.DECIMAL else 64


cdef class _TextEncoder:
    """What both formats share: the fields, and the way from a batch to bytes.

    Several threads may encode with one encoder. It keeps the memory of one output that was let go.
    """

    cdef Field* fields
    cdef int count
    # The most that the prefixes, the line end and the values of a row need, text not counted.
    cdef Py_ssize_t row_size
    cdef readonly object schema
    cdef char* _prefixes
    cdef char* _kept
    cdef Py_ssize_t _kept_size

    def __cinit__(self, *args, **options):
        self.fields = NULL
        self._prefixes = NULL
        self._kept = NULL
        self._kept_size = 0

    def __dealloc__(self):
        free(self.fields)
        free(self._prefixes)
        free(self._kept)

    cdef int _set_fields(self, object schema, list prefixes, list quoted, Py_ssize_t null_size) except -1:
        """`prefixes` (bytes) stand before the values of a row, `quoted` says which of them end in a quote;
        `null_size` is the size of NULL's text."""
        cdef int k
        cdef bytes prefix
        cdef Field* field
        cdef Py_ssize_t at = 0
        self.schema = schema
        self.count = len(schema)
        self.fields = <Field*>calloc(self.count, sizeof(Field))
        self._prefixes = <char*>calloc(sum(len(prefix) + WIDE for prefix in prefixes), 1)
        if self.fields == NULL or self._prefixes == NULL:
            raise MemoryError
        self.row_size = 2
        for k in range(self.count):
            prefix = prefixes[k]
            field = &self.fields[k]
            field.kind = kind_of(schema.field(k))
            field.scale = schema.field(k).type.scale if field.kind == Kind.DECIMAL else 0
            field.prefix = self._prefixes + at
            field.prefix_size = len(prefix)
            memcpy(self._prefixes + at, <const char*>prefix, len(prefix))
            at += len(prefix) + WIDE
            field.quoted = quoted[k]
            set_day(&field.day, 0)
            # Two quotes at most: those of CSV are not all in the prefix.
            self.row_size += len(prefix) + 2 + max(<Py_ssize_t>text_size(field.kind), null_size)
        return 0

    cdef void _take_back(self, char* base, Py_ssize_t size) noexcept:
        if size > self._kept_size:
            base, self._kept = self._kept, base
            self._kept_size = size
        free(base)

    def header(self) -> bytes:
        """What stands before the first record."""
        return b""

    def encode(self, batch, int64_t[::1] ends=None) -> EncodedBytes:
        """The rows of `batch` (a pyarrow RecordBatch of the encoder's schema) as bytes.

        `ends`, when given, has room for one number a row, and gets where the newline behind each row is.
        O(bytes written); takes no GIL while it writes. Raises TypeError for another schema, ValueError for
        another number of `ends`.
        """
        cdef Py_ssize_t n = batch.num_rows
        cdef Py_ssize_t room = n * self.row_size + SLACK
        cdef int k
        cdef bint done
        cdef Output out
        cdef Field* fields
        cdef Field* field
        cdef Py_ssize_t text_bytes
        cdef EncodedBytes encoded = EncodedBytes()
        # Kept until all is written: the fields point into them.
        cdef list columns = batch.columns
        schema = batch.schema
        if not schema.equals(self.schema) and schema.types != self.schema.types:
            raise TypeError(f"a batch of {schema.types} for an encoder of {self.schema.types}")
        if ends is not None and ends.shape[0] != n:
            raise ValueError(f"room for the ends of {ends.shape[0]} rows, there are {n}")
        cdef int64_t* at_ends = &ends[0] if ends is not None and n > 0 else NULL
        out.base = NULL
        fields = <Field*>malloc(self.count * sizeof(Field))
        try:
            if fields == NULL:
                raise MemoryError
            memcpy(fields, self.fields, self.count * sizeof(Field))
            for k in range(self.count):
                field = &fields[k]
                text_bytes = open_values(columns[k], bits_of(field.kind), field.kind == Kind.TEXT, &field.column)
                if field.kind == Kind.TEXT and n:
                    field.end = field.column.values + text_bytes
                    room += field.column.offsets[n] - field.column.offsets[0]
            out.base, self._kept = self._kept, NULL
            out.spare, self._kept_size = self._kept_size - room, 0
            if out.spare < 0:
                free(out.base)
                out.base = <char*>malloc(room)
                out.spare = 0
            if out.base == NULL:
                raise MemoryError
            out.at = out.base
            out.end = out.base + room + out.spare
            with nogil:
                enter_kernel()
                done = self._encode_rows(fields, n, &out, at_ends)
                leave_kernel()
            if not done:
                raise MemoryError
            encoded.encoder = self
            encoded.base = out.base
            encoded.size = out.at - out.base
            encoded.capacity = out.end - out.base
            out.base = NULL
            return encoded
        finally:
            free(fields)
            free(out.base)

    cdef bint _encode_rows(self, Field* fields, Py_ssize_t n, Output* out, int64_t* ends) noexcept nogil:
        return False


cdef class JsonEncoder(_TextEncoder):
    """Rows as lines of JSON objects. `schema` has the types of `velostream.sql.types`; else TypeError."""

    def __init__(self, schema):
        if len(schema) == 0:
            raise TypeError("a schema without columns")
        quoted = [kind_of(field) in (Kind.TEXT, Kind.DATE, Kind.TIMESTAMP) for field in schema]
        prefixes = [
            (("," if k else "{") + json.dumps(name, ensure_ascii=False) + ":" + '"' * quoted[k]).encode()
            for k, name in enumerate(schema.names)
        ]
        self._set_fields(schema, prefixes, quoted, len("null"))

    cdef bint _encode_rows(self, Field* fields, Py_ssize_t n, Output* out, int64_t* ends) noexcept nogil:
        return encode_json_rows(fields, self.count, n, powers_of_ten(), out, ends)


cdef class CsvEncoder(_TextEncoder):
    """Rows as lines of CSV.

    `delimiter` and `quote` are one ASCII character each; `null` is the text of NULL, without either of
    them and without a line break; `header` says whether the first line has the names. ValueError else.
    """

    cdef CsvStyle style
    cdef bytes _header
    cdef bytes _null

    def __init__(self, schema, str delimiter=",", str quote='"', str null="", bint header=True):
        if len(schema) == 0:
            raise TypeError("a schema without columns")
        for what, text in (("delimiter", delimiter), ("quote", quote)):
            if len(text) != 1 or not text.isascii() or text in "\r\n\0":
                raise ValueError(f"the {what} of CSV is one ASCII character, not {text!r}")
        if delimiter == quote:
            raise ValueError(f"the delimiter and the quote of CSV are both {quote!r}")
        if any(mark in null for mark in (delimiter, quote, "\r", "\n")):
            raise ValueError(f"the text of NULL {null!r} holds the delimiter, the quote or a line break")
        self._null = null.encode()
        self.style.null = self._null
        self.style.null_size = len(self._null)
        self.style.quote = ord(quote)
        self.style.marks = [ord(delimiter), ord(quote)]
        names = [
            quote + name.replace(quote, quote * 2) + quote
            if not name or any(mark in name for mark in (delimiter, quote, "\r", "\n"))
            else name
            for name in schema.names
        ]
        self._header = (delimiter.join(names) + "\n").encode() if header else b""
        # Quote all values that are no text where the delimiter may occur in them.
        quote_values = delimiter.isalnum() or delimiter in "+-.:"
        quoted = [quote_values and kind_of(field) != Kind.TEXT for field in schema]
        prefixes = [((delimiter if k else "") + quote * quoted[k]).encode() for k in range(len(schema))]
        self._set_fields(schema, prefixes, quoted, len(self._null))

    def header(self) -> bytes:
        """The line of names, or nothing."""
        return self._header

    cdef bint _encode_rows(self, Field* fields, Py_ssize_t n, Output* out, int64_t* ends) noexcept nogil:
        return encode_csv_rows(fields, self.count, n, powers_of_ten(), &self.style, out, ends)
