"""NDJSON to columns: one JSON object a line, by RFC 8259, every byte of it checked.

A record is read once, from left to right. Values of columns that were asked for go straight into their buffers;
others are checked and passed over. A record that is malformed, or has a value that does not fit, is noted, and
reading goes on behind its newline, which JSON text never contains within a line.
"""

cimport cython
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy

from cython_ext.batch_builder cimport (
    DAY,
    INSTANT,
    TEXT,
    TRUTH,
    BatchBuilder,
    Slot,
    Table,
    add_failure,
    commit,
    end_text,
    mark_failed,
    mark_null,
    put_number,
    put_time,
    put_truth,
    text_place,
)
from cython_ext.cursor cimport Cursor, peek, skip_space, text_prefix, utf8_length
from cython_ext.numbers cimport Number, scan_json_number
from cython_ext.reasons cimport (
    BAD_ESCAPE,
    BAD_NUMBER,
    COLON_EXPECTED,
    COMMA_EXPECTED,
    CONTROL,
    INCOMPLETE,
    KEY_EXPECTED,
    NO_MEMORY,
    NOT_OBJECT,
    NOT_UTF8,
    OK,
    SURROGATE,
    TOO_DEEP,
    TOO_LONG,
    TRAILING,
    VALUE_EXPECTED,
    WRONG_TYPE,
)

cdef enum:
    # Keys whose order is remembered, and the bytes that a remembered key may have with its closing quote.
    GUESSES = 256
    GUESS_BYTES = 48
    # No slice is longer, so that the offsets of a text column fit 32 bits.
    SLICE_BYTES = 1 << 30
    # The room for rows at first is for records of so many bytes.
    RECORD_BYTES = 64


cdef struct Guess:
    # A key as it stands in a record, with its closing quote; `length` is 0 when nothing is remembered.
    # `first` and `second` are its first 16 bytes, their masks clear what is behind it.
    uint64_t first
    uint64_t first_mask
    uint64_t second
    uint64_t second_mask
    int length
    int column
    uint8_t[GUESS_BYTES] key


cdef struct Name:
    const uint8_t* text
    Py_ssize_t length


cdef inline int hex_digit(uint8_t byte) noexcept nogil:
    if c'0' <= byte <= c'9':
        return byte - c'0'
    byte |= 0x20
    return byte - c'a' + 10 if c'a' <= byte <= c'f' else -1


cdef int read_hex4(Cursor* cursor) noexcept nogil:
    """The four hexadecimal digits at the cursor, or -1."""
    cdef int value = 0
    cdef int digit
    cdef int i
    if cursor.end - cursor.at < 4:
        return -1
    for i in range(4):
        digit = hex_digit(cursor.at[i])
        if digit < 0:
            return -1
        value = value * 16 + digit
    cursor.at += 4
    return value


cdef int read_escape(Cursor* cursor, uint8_t** out) noexcept nogil:
    """Read what follows a backslash (the cursor is behind it) and append its UTF-8 to `out`."""
    cdef int code
    cdef int low
    cdef uint8_t* to = out[0]
    cdef int byte = peek(cursor)
    if byte < 0:
        return INCOMPLETE
    cursor.at += 1
    if byte == c'u':
        code = read_hex4(cursor)
        if code < 0:
            return BAD_ESCAPE
        if 0xD800 <= code < 0xE000:
            if code >= 0xDC00 or cursor.end - cursor.at < 2 or cursor.at[0] != c'\\' or cursor.at[1] != c'u':
                return SURROGATE
            cursor.at += 2
            low = read_hex4(cursor)
            if low < 0:
                return BAD_ESCAPE
            if not 0xDC00 <= low < 0xE000:
                return SURROGATE
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            to[0] = <uint8_t>(0xF0 | (code >> 18))
            to[1] = <uint8_t>(0x80 | ((code >> 12) & 0x3F))
            to[2] = <uint8_t>(0x80 | ((code >> 6) & 0x3F))
            to[3] = <uint8_t>(0x80 | (code & 0x3F))
            out[0] = to + 4
        elif code < 0x80:
            to[0] = <uint8_t>code
            out[0] = to + 1
        elif code < 0x800:
            to[0] = <uint8_t>(0xC0 | (code >> 6))
            to[1] = <uint8_t>(0x80 | (code & 0x3F))
            out[0] = to + 2
        else:
            to[0] = <uint8_t>(0xE0 | (code >> 12))
            to[1] = <uint8_t>(0x80 | ((code >> 6) & 0x3F))
            to[2] = <uint8_t>(0x80 | (code & 0x3F))
            out[0] = to + 3
        return OK
    if byte == c'n':
        byte = 10
    elif byte == c't':
        byte = 9
    elif byte == c'r':
        byte = 13
    elif byte == c'b':
        byte = 8
    elif byte == c'f':
        byte = 12
    elif byte != c'"' and byte != c'\\' and byte != c'/':
        return BAD_ESCAPE
    to[0] = <uint8_t>byte
    out[0] = to + 1
    return OK


cdef inline int read_string(Cursor* cursor, uint8_t** out, bint copy, bint* escaped) noexcept nogil:
    """Read a string up to behind its closing quote; the cursor is behind the opening one.

    With `copy` its text is appended to `out`, which must have room for the bytes read and 16 more.
    """
    cdef uint8_t[8] scratch
    cdef uint8_t* nowhere
    cdef int length
    cdef int reason
    cdef uint8_t byte
    while True:
        if cursor.end - cursor.at >= 16:
            length = text_prefix(cursor.at)
            if copy:
                memcpy(out[0], cursor.at, 16)
                out[0] += length
            cursor.at += length
            if length == 16:
                continue
        elif cursor.at == cursor.end:
            return INCOMPLETE
        byte = cursor.at[0]
        if byte == c'"':
            cursor.at += 1
            return OK
        if byte == c'\\':
            escaped[0] = True
            cursor.at += 1
            nowhere = scratch
            reason = read_escape(cursor, out if copy else &nowhere)
            if reason != OK:
                return reason
            continue
        if byte < 0x20:
            if byte == c'\r' and cursor.end - cursor.at > 1:
                byte = cursor.at[1]
            return INCOMPLETE if byte == c'\n' else CONTROL
        length = utf8_length(cursor.at, cursor.end)
        if length == 0:
            return NOT_UTF8
        if copy:
            memcpy(out[0], cursor.at, length)
            out[0] += length
        cursor.at += length


cdef inline int pass_string(Cursor* cursor) noexcept nogil:
    """Check a string whose opening quote has been read."""
    cdef bint escaped = False
    return read_string(cursor, NULL, False, &escaped)


cdef inline int pass_literal(Cursor* cursor, const char* word, Py_ssize_t length) noexcept nogil:
    if cursor.end - cursor.at < length or memcmp(cursor.at, word, length) != 0:
        return VALUE_EXPECTED
    cursor.at += length
    return OK


cdef inline int pass_colon(Cursor* cursor) noexcept nogil:
    if peek(cursor) != c':':
        skip_space(cursor)
        if peek(cursor) != c':':
            return COLON_EXPECTED
    cursor.at += 1
    skip_space(cursor)
    return OK


cdef inline int pass_scalar(Cursor* cursor) noexcept nogil:
    """Check a string, a number, true, false or null."""
    cdef Number number
    cdef const uint8_t* behind
    cdef int byte = peek(cursor)
    if byte == c'"':
        cursor.at += 1
        return pass_string(cursor)
    if byte == c'-' or c'0' <= byte <= c'9':
        behind = scan_json_number(cursor.at, cursor.end, &number)
        if behind == NULL:
            return BAD_NUMBER
        cursor.at = behind
        return OK
    if byte == c't':
        return pass_literal(cursor, b"true", 4)
    if byte == c'f':
        return pass_literal(cursor, b"false", 5)
    if byte == c'n':
        return pass_literal(cursor, b"null", 4)
    return VALUE_EXPECTED


cdef int pass_nested(Cursor* cursor, uint8_t* closers, int max_depth) noexcept nogil:
    """Check an object or array. `closers` has room for `max_depth` bytes; the record itself is one level."""
    cdef int depth = 0
    cdef int byte
    cdef int reason
    while True:
        # Here a value begins.
        byte = peek(cursor)
        if byte == c'{' or byte == c'[':
            if depth + 1 >= max_depth:
                return TOO_DEEP
            closers[depth] = c'}' if byte == c'{' else c']'
            depth += 1
            cursor.at += 1
            skip_space(cursor)
            if peek(cursor) != closers[depth - 1]:
                if byte == c'{':
                    reason = pass_key(cursor)
                    if reason != OK:
                        return reason
                continue
        else:
            reason = pass_scalar(cursor)
            if reason != OK:
                return reason
            skip_space(cursor)
        # Here a value has ended.
        while peek(cursor) == closers[depth - 1]:
            cursor.at += 1
            depth -= 1
            if depth == 0:
                return OK
            skip_space(cursor)
        if peek(cursor) != c',':
            return COMMA_EXPECTED
        cursor.at += 1
        skip_space(cursor)
        if closers[depth - 1] == c'}':
            reason = pass_key(cursor)
            if reason != OK:
                return reason


cdef inline int pass_key(Cursor* cursor) noexcept nogil:
    """Check a key and its colon, up to the value."""
    cdef int reason
    if peek(cursor) != c'"':
        return KEY_EXPECTED
    cursor.at += 1
    reason = pass_string(cursor)
    return pass_colon(cursor) if reason == OK else reason


@cython.final
cdef class JsonDecoder(BatchBuilder):
    """Decodes the columns `names` (see `BatchBuilder` for types, places and zoned) of NDJSON records.

    Objects and arrays may be nested `max_depth` deep, the record included (1 to 1,000,000). A record of more
    than `max_record` bytes (at most 2 ** 30 - 64) fails.
    """

    cdef list keep
    cdef Name* names
    cdef Guess* guesses
    cdef uint8_t* closers
    cdef int max_depth
    cdef Py_ssize_t max_record
    # Unescaped keys and times.
    cdef uint8_t* scratch
    cdef Py_ssize_t scratch_capacity

    def __cinit__(self, list types, list places, bint zoned, list names, int max_depth, Py_ssize_t max_record):
        cdef int i
        if not 1 <= max_depth <= 1_000_000:
            raise ValueError("max_depth is not within 1 to 1,000,000")
        if not 1 <= max_record <= SLICE_BYTES - 64:
            raise ValueError("max_record is not within 1 to 2 ** 30 - 64")
        self.keep = [name.encode() for name in names]
        self.max_depth = max_depth
        self.max_record = max_record
        self.names = <Name*>malloc(max(1, len(names)) * sizeof(Name))
        self.guesses = <Guess*>calloc(GUESSES, sizeof(Guess))
        self.closers = <uint8_t*>malloc(max_depth)
        if self.names == NULL or self.guesses == NULL or self.closers == NULL:
            raise MemoryError
        for i, name in enumerate(self.keep):
            self.names[i].text = <const uint8_t*><const char*>name
            self.names[i].length = len(name)

    def __dealloc__(self):
        free(self.names)
        free(self.guesses)
        free(self.closers)
        free(self.scratch)

    def decode(self, const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t max_rows):
        """At most `max_rows` records from byte `start`: what `BatchBuilder.finish` gives, then where to go on,
        and how many records there were. Raises MemoryError."""
        cdef Py_ssize_t n = data.shape[0]
        cdef const uint8_t* block
        cdef Py_ssize_t room
        cdef Py_ssize_t next = start
        cdef int status
        if not 0 <= start <= n or max_rows < 1:
            raise ValueError("start is not within the block, or max_rows is not positive")
        block = &data[0] if n > 0 else NULL
        room = min(n - start, SLICE_BYTES + self.max_record)
        self.begin(block, min(max_rows, room // RECORD_BYTES + 1), room)
        with nogil:
            status = self._decode(block, n, &next, max_rows)
        if status == NO_MEMORY:
            raise MemoryError
        return *self.finish(), next, self.table.record

    cdef int _decode(self, const uint8_t* block, Py_ssize_t n, Py_ssize_t* next, Py_ssize_t max_rows) noexcept nogil:
        """Read records from `next[0]` and move it behind the last one; OK or NO_MEMORY."""
        cdef Table* table = &self.table
        cdef const uint8_t* end = block + n
        cdef const uint8_t* limit = block + min(n, next[0] + SLICE_BYTES)
        cdef const uint8_t* start
        cdef const uint8_t* stop
        cdef Cursor cursor
        cdef int reason
        cursor.at = block + next[0]
        while cursor.at < limit:
            start = cursor.at
            cursor.end = end if end - start <= self.max_record else start + self.max_record + 1
            skip_space(&cursor)
            if cursor.at == end or (cursor.at < cursor.end and cursor.at[0] == c'\n'):
                # A line of white space is no record.
                cursor.at += cursor.at < end
                continue
            if table.record == max_rows:
                cursor.at = start
                break
            table.record += 1
            table.filled = 0
            reason = self._read_record(&cursor)
            if reason == NO_MEMORY:
                return reason
            if reason == OK and (cursor.at == end or cursor.at[0] == c'\n'):
                stop = cursor.at
            else:
                stop = <const uint8_t*>memchr(cursor.at, c'\n', end - cursor.at)
                if stop == NULL:
                    stop = end
            next[0] = stop - block + (stop < end)
            if stop > start and (stop - 1)[0] == c'\r':
                stop -= 1
            if stop - start > self.max_record:
                reason = TOO_LONG
            if reason == OK:
                reason = commit(table, start, stop)
            else:
                reason = add_failure(
                    table, start, stop, reason, -1, min(cursor.at, stop) - block, stop - block
                )
            if reason == NO_MEMORY:
                return reason
            cursor.at = block + next[0]
        next[0] = cursor.at - block
        return OK

    cdef int _read_record(self, Cursor* cursor) noexcept nogil:
        """Read one object and the white space behind it; OK or why it is refused, the cursor there."""
        cdef Guess* guess
        cdef int key = 0
        cdef int column
        cdef int reason
        if peek(cursor) != c'{':
            return NOT_OBJECT
        cursor.at += 1
        skip_space(cursor)
        if peek(cursor) != c'}':
            while True:
                if peek(cursor) != c'"':
                    return KEY_EXPECTED
                cursor.at += 1
                # Most records have the keys of the one before, in its order; or lack one of them.
                guess = &self.guesses[key]
                if key < GUESSES and is_guess(cursor, guess):
                    column = guess.column
                    cursor.at += guess.length
                    key += 1
                elif key + 1 < GUESSES and is_guess(cursor, guess + 1):
                    column = guess[1].column
                    cursor.at += guess[1].length
                    key += 2
                else:
                    column = -1
                    reason = self._find_key(cursor, key, &column)
                    if reason != OK:
                        return reason
                    key += 1
                reason = pass_colon(cursor)
                if reason != OK:
                    return reason
                if column < 0:
                    reason = self._pass_value(cursor)
                else:
                    reason = self._read_value(cursor, &self.table.slots[column])
                if reason != OK:
                    return reason
                if peek(cursor) != c',':
                    skip_space(cursor)
                    if peek(cursor) == c'}':
                        break
                    if peek(cursor) != c',':
                        return COMMA_EXPECTED
                cursor.at += 1
                skip_space(cursor)
        cursor.at += 1
        skip_space(cursor)
        return OK if cursor.at == cursor.end or cursor.at[0] == c'\n' else TRAILING

    cdef int _find_key(self, Cursor* cursor, int key, int* column) noexcept nogil:
        """Read a key behind its opening quote, look its column up (-1: not asked for), and remember both."""
        cdef const uint8_t* start = cursor.at
        cdef const uint8_t* text = start
        cdef Py_ssize_t length
        cdef bint escaped = False
        cdef int reason = read_string(cursor, NULL, False, &escaped)
        cdef int i
        if reason != OK:
            return reason
        length = cursor.at - 1 - start
        if escaped:
            length = self._unescape(start, cursor.at)
            if length < 0:
                return NO_MEMORY
            text = self.scratch
        for i in range(self.table.columns):
            if self.names[i].length == length and memcmp(self.names[i].text, text, length) == 0:
                column[0] = i
                break
        if key < GUESSES and not escaped:
            learn(&self.guesses[key], start, cursor.at - start, column[0])
        return OK

    cdef Py_ssize_t _unescape(self, const uint8_t* start, const uint8_t* end) noexcept nogil:
        """Put the text of a checked string (behind its opening quote) into `scratch`: its length, -1 if there is
        no memory."""
        cdef Cursor cursor
        cdef uint8_t* out
        cdef bint escaped = False
        cdef Py_ssize_t needed = end - start + 16
        if needed > self.scratch_capacity:
            out = <uint8_t*>realloc(self.scratch, needed)
            if out == NULL:
                return -1
            self.scratch = out
            self.scratch_capacity = needed
        cursor.at = start
        cursor.end = end
        out = self.scratch
        read_string(&cursor, &out, True, &escaped)
        return out - self.scratch

    cdef inline int _pass_value(self, Cursor* cursor) noexcept nogil:
        """Check a value."""
        cdef int byte = peek(cursor)
        if byte == c'{' or byte == c'[':
            return pass_nested(cursor, self.closers, self.max_depth)
        return pass_scalar(cursor)

    cdef inline int _read_value(self, Cursor* cursor, Slot* slot) noexcept nogil:
        """Read a value into its column; one that does not fit is noted there and is OK here."""
        cdef const uint8_t* start = cursor.at
        cdef const uint8_t* behind
        cdef uint8_t* out
        cdef Number number
        cdef bint escaped = False
        cdef int reason
        cdef int byte = peek(cursor)
        if byte == c'"':
            cursor.at += 1
            if slot.kind == TEXT:
                out = text_place(&self.table, slot)
                reason = read_string(cursor, &out, True, &escaped)
                if reason == OK:
                    end_text(&self.table, slot, out)
                return reason
            return self._read_quoted(cursor, slot)
        if (byte == c'-' or c'0' <= byte <= c'9') and slot.kind != TEXT and slot.kind != TRUTH:
            behind = scan_json_number(start, cursor.end, &number)
            if behind == NULL:
                return BAD_NUMBER
            cursor.at = behind
            reason = put_number(&self.table, slot, &number)
            if reason != OK:
                mark_failed(&self.table, slot, reason, start, behind)
            return OK
        return self._read_other(cursor, slot)

    cdef int _read_quoted(self, Cursor* cursor, Slot* slot) noexcept nogil:
        """Read a string, of which the opening quote has been read, into a column that is not TEXT."""
        cdef const uint8_t* start = cursor.at
        cdef const uint8_t* text = start
        cdef Py_ssize_t length
        cdef bint escaped = False
        cdef int reason = read_string(cursor, NULL, False, &escaped)
        if reason != OK:
            return reason
        reason = WRONG_TYPE
        if slot.kind == INSTANT or slot.kind == DAY:
            length = cursor.at - 1 - start
            if escaped:
                length = self._unescape(start, cursor.at)
                if length < 0:
                    return NO_MEMORY
                text = self.scratch
            reason = put_time(&self.table, slot, text, text + length)
        if reason != OK:
            mark_failed(&self.table, slot, reason, start - 1, cursor.at)
        return OK

    cdef int _read_other(self, Cursor* cursor, Slot* slot) noexcept nogil:
        """Read null, a boolean, or what TEXT keeps as it is written."""
        cdef const uint8_t* start = cursor.at
        cdef Py_ssize_t length
        cdef uint8_t* out
        cdef int reason = self._pass_value(cursor)
        if reason != OK:
            return reason
        length = cursor.at - start
        if start[0] == c'n':
            mark_null(&self.table, slot)
        elif slot.kind == TEXT:
            out = text_place(&self.table, slot)
            memcpy(out, start, length)
            end_text(&self.table, slot, out + length)
        elif slot.kind == TRUTH and (start[0] == c't' or start[0] == c'f'):
            put_truth(&self.table, slot, start[0] == c't')
        else:
            mark_failed(&self.table, slot, WRONG_TYPE, start, cursor.at)
        return OK


cdef inline bint is_guess(const Cursor* cursor, const Guess* guess) noexcept nogil:
    """Whether the key behind the quote that was read is the remembered one."""
    cdef Py_ssize_t room = cursor.end - cursor.at
    cdef uint64_t first
    cdef uint64_t second
    if guess.length <= 16 and room >= 16:
        memcpy(&first, cursor.at, 8)
        memcpy(&second, cursor.at + 8, 8)
        return guess.length != 0 and (
            ((first ^ guess.first) & guess.first_mask) | ((second ^ guess.second) & guess.second_mask)
        ) == 0
    return guess.length != 0 and guess.length <= room and memcmp(cursor.at, guess.key, guess.length) == 0


cdef void learn(Guess* guess, const uint8_t* key, Py_ssize_t length, int column) noexcept nogil:
    """Remember a key (with its closing quote) unless it is long."""
    cdef uint8_t[16] mask
    cdef int i
    guess.length = 0
    if length > GUESS_BYTES:
        return
    guess.length = <int>length
    guess.column = column
    memcpy(guess.key, key, length)
    for i in range(16):
        mask[i] = 0xFF if i < length else 0
    memcpy(&guess.first, guess.key, 8)
    memcpy(&guess.second, &guess.key[8], 8)
    memcpy(&guess.first_mask, mask, 8)
    memcpy(&guess.second_mask, &mask[8], 8)
