"""Record batches as NDJSON and CSV.

Values are written as `value_text` says. JSON: a NULL, a NaN and an infinity are `null` (JSON has no
other word for them); DECIMAL is a number with all its digits; keys keep the order of the schema. CSV: RFC
4180 with `\\n` behind each record; a field is quoted only where it must be: text that is empty, that
equals the text of NULL, or that holds the delimiter, the quote or a line break. A NULL in the only column
of a CSV whose text of NULL is empty gives an empty line.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

import json

import pyarrow as pa

from cython_ext.arrow_column cimport Column, is_valid, open_column, widen
from cython_ext.value_text cimport (
    write_date,
    write_decimal,
    write_double,
    write_int64,
    write_timestamp,
)

cdef enum Kind:
    INTEGER
    DOUBLE
    DECIMAL
    BOOLEAN
    TEXT
    DATE
    TIMESTAMP

cdef enum:
    # Room for any value that is no text; `false` and `null` are shorter.
    MAX_VALUE_TEXT = 48
    # A control character in JSON: \\u001f.
    MAX_ESCAPE = 6


cdef struct Field:
    Kind kind
    int scale
    # What stands before the value: the key and its punctuation, or the delimiter.
    const char* prefix
    Py_ssize_t prefix_size
    Column column


cdef struct Output:
    # `base` is malloc'ed; `at` is where the next byte goes, `end` where the room ends.
    char* base
    char* at
    char* end


cdef class EncodedBytes:
    """Bytes of records, by the buffer protocol (read only). Owns its memory."""

    cdef char* base
    cdef Py_ssize_t size

    def __cinit__(self):
        self.base = NULL
        self.size = 0

    def __dealloc__(self):
        free(self.base)

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return self.base[: self.size]

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, self.size, True, flags)


cdef bint reserve(Output* out, Py_ssize_t need) noexcept nogil:
    """Make room for `need` more bytes; False when there is no memory. Doubles, so that copying is linear."""
    cdef Py_ssize_t used = out.at - out.base
    cdef Py_ssize_t capacity = out.end - out.base
    cdef char* base
    if out.end - out.at >= need:
        return True
    capacity = 2 * capacity if 2 * capacity > used + need else used + need
    base = <char*>realloc(out.base, capacity)
    if base == NULL:
        return False
    out.base = base
    out.at = base + used
    out.end = base + capacity
    return True


cdef inline Py_ssize_t write_value(const Field* field, Py_ssize_t i, char* out) noexcept nogil:
    """The valid value of row `i`, which is no text; at most MAX_VALUE_TEXT bytes."""
    cdef int64_t value
    if field.kind == Kind.DOUBLE:
        return write_double((<const double*>field.column.values)[i], out)
    if field.kind == Kind.DECIMAL:
        i *= 2
        value = (<const int64_t*>field.column.values)[i + 1]
        return write_decimal((<const uint64_t*>field.column.values)[i], value, field.scale, out)
    value = (<const int64_t*>field.column.values)[i]
    if field.kind == Kind.INTEGER:
        return write_int64(value, out)
    if field.kind == Kind.TIMESTAMP:
        return write_timestamp(value, out)
    if field.kind == Kind.DATE:
        return write_date(<int32_t>value, out)
    if value:
        memcpy(out, b"true", 4)
        return 4
    memcpy(out, b"false", 5)
    return 5


cdef inline bint is_plain8(const uint8_t* at) noexcept nogil:
    """Whether eight bytes hold no control character, quote or backslash; may say no where they do not."""
    cdef uint64_t word
    cdef uint64_t quote
    cdef uint64_t backslash
    cdef uint64_t found
    memcpy(&word, at, 8)
    quote = word ^ 0x2222222222222222ULL
    backslash = word ^ 0x5C5C5C5C5C5C5C5CULL
    # A byte below k borrows into its highest bit when k is taken from it.
    found = (word - 0x2020202020202020ULL) & ~word
    found |= (quote - 0x0101010101010101ULL) & ~quote
    found |= (backslash - 0x0101010101010101ULL) & ~backslash
    return (found & 0x8080808080808080ULL) == 0


cdef inline char* write_escaped(uint8_t byte, char* out) noexcept nogil:
    """One byte of a JSON string."""
    cdef char short_form = 0
    if byte >= 0x20 and byte != c'"' and byte != c"\\":
        out[0] = <char>byte
        return out + 1
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


cdef bint put_json_text(Output* out, const uint8_t* at, Py_ssize_t size) noexcept nogil:
    """A JSON string; valid UTF-8 passes as it is. Needs no room reserved; False without memory."""
    cdef const uint8_t* end = at + size
    cdef char* to
    cdef int k
    if not reserve(out, size + 8 * MAX_ESCAPE + 2):
        return False
    to = out.at
    to[0] = c'"'
    to += 1
    while end - at >= 8:
        if is_plain8(at):
            memcpy(to, at, 8)
            to += 8
        else:
            for k in range(8):
                to = write_escaped(at[k], to)
            out.at = to
            if not reserve(out, end - at + 8 * MAX_ESCAPE + 2):
                return False
            to = out.at
        at += 8
    while at < end:
        to = write_escaped(at[0], to)
        at += 1
    to[0] = c'"'
    out.at = to + 1
    return True


cdef bint encode_json_rows(
    const Field* fields, int count, Py_ssize_t n, Py_ssize_t row_room, Output* out
) noexcept nogil:
    """All rows; `row_room` bytes hold a row's prefixes and its values that are no text."""
    cdef Py_ssize_t i
    cdef int k
    cdef const Field* field
    cdef const int32_t* offsets
    cdef double value
    for i in range(n):
        if not reserve(out, row_room):
            return False
        for k in range(count):
            field = &fields[k]
            memcpy(out.at, field.prefix, field.prefix_size)
            out.at += field.prefix_size
            if is_valid(&field.column, i):
                if field.kind == Kind.TEXT:
                    offsets = field.column.offsets + i
                    if not put_json_text(out, field.column.values + offsets[0], offsets[1] - offsets[0]):
                        return False
                    if not reserve(out, row_room):
                        return False
                    continue
                if field.kind == Kind.TIMESTAMP or field.kind == Kind.DATE:
                    out.at[0] = c'"'
                    out.at += 1 + write_value(field, i, out.at + 1)
                    out.at[0] = c'"'
                    out.at += 1
                    continue
                if field.kind != Kind.DOUBLE:
                    out.at += write_value(field, i, out.at)
                    continue
                value = (<const double*>field.column.values)[i]
                # Finite: x - x is NaN for an infinity and for NaN.
                if value - value == 0:
                    out.at += write_double(value, out.at)
                    continue
            memcpy(out.at, b"null", 4)
            out.at += 4
        memcpy(out.at, b"}\n", 2)
        out.at += 2
    return True


cdef struct CsvStyle:
    char quote
    # Quote all values that are no text: the delimiter may occur in them.
    bint quote_values
    const char* null
    Py_ssize_t null_size
    # 1 for the bytes that make a field be quoted.
    uint8_t[256] special


cdef bint put_csv_text(
    Output* out, const uint8_t* at, Py_ssize_t size, const CsvStyle* style
) noexcept nogil:
    """A field of text. Needs no room reserved; False without memory."""
    cdef Py_ssize_t i
    cdef bint quoted = size == 0
    cdef char* to
    for i in range(size):
        if style.special[at[i]]:
            quoted = True
            break
    if size == style.null_size and memcmp(at, style.null, size) == 0:
        quoted = True
    if not reserve(out, 2 * size + 2 if quoted else size):
        return False
    if not quoted:
        memcpy(out.at, at, size)
        out.at += size
        return True
    to = out.at
    to[0] = style.quote
    to += 1
    for i in range(size):
        to[0] = <char>at[i]
        to += 1
        if <char>at[i] == style.quote:
            to[0] = style.quote
            to += 1
    to[0] = style.quote
    out.at = to + 1
    return True


cdef bint encode_csv_rows(
    const Field* fields, int count, Py_ssize_t n, Py_ssize_t row_room, const CsvStyle* style, Output* out
) noexcept nogil:
    """All rows; `row_room` bytes hold a row's delimiters, NULLs and values that are no text."""
    cdef Py_ssize_t i
    cdef int k
    cdef const Field* field
    cdef const int32_t* offsets
    for i in range(n):
        if not reserve(out, row_room):
            return False
        for k in range(count):
            field = &fields[k]
            memcpy(out.at, field.prefix, field.prefix_size)
            out.at += field.prefix_size
            if is_valid(&field.column, i):
                if field.kind == Kind.TEXT:
                    offsets = field.column.offsets + i
                    if not put_csv_text(out, field.column.values + offsets[0], offsets[1] - offsets[0], style):
                        return False
                    if not reserve(out, row_room):
                        return False
                    continue
                if style.quote_values:
                    out.at[0] = style.quote
                    out.at += 1
                out.at += write_value(field, i, out.at)
                if style.quote_values:
                    out.at[0] = style.quote
                    out.at += 1
                continue
            memcpy(out.at, style.null, style.null_size)
            out.at += style.null_size
        out.at[0] = c"\n"
        out.at += 1
    return True


cdef Kind kind_of(object field) except *:
    type = field.type
    if pa.types.is_decimal128(type) and 0 <= type.scale <= 38:
        return Kind.DECIMAL
    if pa.types.is_signed_integer(type):
        return Kind.INTEGER
    kinds = {
        pa.float64(): Kind.DOUBLE,
        pa.bool_(): Kind.BOOLEAN,
        pa.string(): Kind.TEXT,
        pa.date32(): Kind.DATE,
        pa.timestamp("us"): Kind.TIMESTAMP,
    }
    if type not in kinds:
        raise TypeError(f"column '{field.name}' is of type {type}, which cannot be written as text")
    return kinds[type]


cdef class _TextEncoder:
    """What both formats share: the fields, and the way from a batch to bytes.

    Holds no state between batches, so that several threads may encode with one encoder.
    """

    cdef Field* fields
    cdef int count
    cdef Py_ssize_t row_room
    cdef readonly object schema
    cdef list _prefixes

    def __cinit__(self, *args, **options):
        self.fields = NULL

    def __dealloc__(self):
        free(self.fields)

    cdef int _set_fields(self, object schema, list prefixes, Py_ssize_t null_size) except -1:
        """`prefixes` (bytes) stand before the values of a row; `null_size` is the text of NULL's."""
        cdef int k
        cdef bytes prefix
        self.schema = schema
        self.count = len(schema)
        self._prefixes = prefixes
        self.fields = <Field*>calloc(self.count or 1, sizeof(Field))
        if self.fields == NULL:
            raise MemoryError
        self.row_room = 2
        for k in range(self.count):
            prefix = prefixes[k]
            self.fields[k].kind = kind_of(schema.field(k))
            self.fields[k].scale = schema.field(k).type.scale if self.fields[k].kind == Kind.DECIMAL else 0
            self.fields[k].prefix = prefix
            self.fields[k].prefix_size = len(prefix)
            self.row_room += len(prefix) + max(<Py_ssize_t>MAX_VALUE_TEXT, null_size)
        return 0

    def header(self) -> bytes:
        """What stands before the first record."""
        return b""

    def encode(self, batch) -> EncodedBytes:
        """The rows of `batch` (a pyarrow RecordBatch of the encoder's schema) as bytes.

        O(bytes written); takes no GIL while it writes. Raises TypeError for another schema.
        """
        cdef Py_ssize_t n = batch.num_rows
        cdef int k
        cdef bint done
        cdef Output out
        cdef Field* fields
        cdef EncodedBytes encoded = EncodedBytes()
        # Kept until all is written: the fields point into them.
        cdef list columns = [widen(column) for column in batch.columns]
        if batch.schema.types != self.schema.types:
            raise TypeError(f"a batch of {batch.schema.types} for an encoder of {self.schema.types}")
        fields = <Field*>malloc((self.count or 1) * sizeof(Field))
        # A guess at the size; it grows by doubling.
        out.base = out.at = <char*>malloc(n * 16 * (self.count + 1) + 64)
        out.end = out.base + n * 16 * (self.count + 1) + 64
        try:
            if fields == NULL or out.base == NULL:
                raise MemoryError
            memcpy(fields, self.fields, self.count * sizeof(Field))
            for k in range(self.count):
                open_column(columns[k], &fields[k].column)
            with nogil:
                done = self._encode_rows(fields, n, &out)
            if not done:
                raise MemoryError
            encoded.base = out.base
            encoded.size = out.at - out.base
            out.base = NULL
            return encoded
        finally:
            free(fields)
            free(out.base)

    cdef bint _encode_rows(self, const Field* fields, Py_ssize_t n, Output* out) noexcept nogil:
        return False


cdef class JsonEncoder(_TextEncoder):
    """Rows as lines of JSON objects. `schema` has the types of `velostream.sql.types`; else TypeError."""

    def __init__(self, schema):
        prefixes = [
            (("," if k else "{") + json.dumps(name, ensure_ascii=False) + ":").encode()
            for k, name in enumerate(schema.names)
        ]
        if not prefixes:
            raise TypeError("a schema without columns")
        self._set_fields(schema, prefixes, len("null"))

    cdef bint _encode_rows(self, const Field* fields, Py_ssize_t n, Output* out) noexcept nogil:
        return encode_json_rows(fields, self.count, n, self.row_room, out)


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
        self.style.quote_values = delimiter.isalnum() or delimiter in "+-.:"
        memset(self.style.special, 0, sizeof(self.style.special))
        for mark in (delimiter, quote, "\r", "\n"):
            self.style.special[<uint8_t>ord(mark)] = 1
        names = [
            quote + name.replace(quote, quote * 2) + quote
            if not name or any(mark in name for mark in (delimiter, quote, "\r", "\n"))
            else name
            for name in schema.names
        ]
        self._header = (delimiter.join(names) + "\n").encode() if header else b""
        prefixes = [delimiter.encode() if k else b"" for k in range(len(schema))]
        self._set_fields(schema, prefixes, len(self._null))

    def header(self) -> bytes:
        """The line of names, or nothing."""
        return self._header

    cdef bint _encode_rows(self, const Field* fields, Py_ssize_t n, Output* out) noexcept nogil:
        return encode_csv_rows(fields, self.count, n, self.row_room, &self.style, out)
