"""NDJSON to columns: one JSON object a line, by RFC 8259, every byte of it checked.

A record is read once, from left to right. Values of columns that were asked for go straight into their buffers;
others are checked and passed over. A record that is malformed, or has a value that does not fit, is noted, and
reading goes on behind its newline, which JSON text never contains within a line.
"""

cimport cython
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset, strerror
from posix.types cimport off_t

from cython_ext.batch_builder cimport (
    DAY,
    INSTANT,
    INTEGER,
    REAL,
    TEXT,
    TRUTH,
    BatchBuilder,
    Slot,
    Table,
    add_failure,
    commit,
    end_text,
    mark_failed,
    mark_filled,
    mark_null,
    put_instant,
    put_number,
    put_time,
    put_truth,
    reserve_text,
    text_place,
)
from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.cursor cimport Cursor, peek, skip_space, text_prefix, utf8_length
from cython_ext.numbers cimport (
    DOUBLE_POWERS,
    POWERS,
    Number,
    read_short_decimal,
    read_short_integer,
    scan_json_number,
)
from cython_ext.planted cimport plant_overread
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
    TEXT_TOO_LONG,
    TOO_DEEP,
    TOO_LONG,
    TOO_MANY_COLUMNS,
    TRAILING,
    VALUE_EXPECTED,
    WRONG_TYPE,
)

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset)


cdef enum:
    # Places in a record whose keys are remembered, and how far ahead one is looked for.
    LEADS = 256
    AHEAD = 8
    # The bytes of a lead, in words of 8.
    LEAD_WORDS = 8
    LEAD_BYTES = 8 * LEAD_WORDS
    # In the quick way a value begins so many bytes before the end at least: a lead and 16 bytes more are read
    # without another look at the end.
    MARGIN = LEAD_BYTES + 16
    # No slice is longer, so that the offsets of a text column fit 32 bits.
    SLICE_BYTES = 1 << 30
    # Records have so many bytes, and so many of each text, until a call has seen them.
    RECORD_BYTES = 64
    TEXT_BYTES = 8
    # Not a record: a line of white space.
    BLANK = -1
    # Of reading a file, beside OK and NO_MEMORY: `errno` says why; and the file ends before it should.
    UNREADABLE = -2
    SHRUNK = -3


cdef enum Action:
    # How the value behind a lead is read; CLOSE: the record ends.
    READ_ANY
    READ_TEXT
    READ_INTEGER
    READ_REAL
    READ_INSTANT
    PASS_ANY
    CLOSE


cdef struct Lead:
    # What stood before the value of a place: white space, comma, key, colon; or between the last value and the
    # next line. Behind its `length` both `words` and `masks` are zero; what no text matches, when nothing is
    # remembered, is a word that the mask does not cover.
    uint64_t[LEAD_WORDS] words
    uint64_t[LEAD_WORDS] masks
    int length
    int column
    Action action
    Slot* slot


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
    # A newline ends the record wherever it stands, and is not passed.
    if byte < 0 or byte == c'\n':
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


cdef inline int pass_text(Cursor* cursor, Py_ssize_t max_text, bint* escaped) noexcept nogil:
    """Check a string whose opening quote has been read, up to behind its closing one."""
    cdef uint8_t[8] scratch
    cdef uint8_t* nowhere
    cdef const uint8_t* start = cursor.at
    cdef int length
    cdef int reason
    cdef uint8_t byte
    while True:
        if cursor.end - cursor.at >= 16:
            length = text_prefix(cursor.at)
            cursor.at += length
            if length == 16:
                continue
        elif cursor.at == cursor.end:
            return INCOMPLETE
        byte = cursor.at[0]
        if byte == c'"':
            if cursor.at - start > max_text:
                cursor.at = start - 1
                return TEXT_TOO_LONG
            cursor.at += 1
            return OK
        if byte == c'\\':
            escaped[0] = True
            cursor.at += 1
            nowhere = scratch
            reason = read_escape(cursor, &nowhere)
            if reason != OK:
                return reason
            continue
        if byte < 0x20:
            if byte == c'\r':
                byte = cursor.at[1] if cursor.end - cursor.at > 1 else c'\n'
            return INCOMPLETE if byte == c'\n' else CONTROL
        length = utf8_length(cursor.at, cursor.end)
        if length == 0:
            return NOT_UTF8
        cursor.at += length


cdef inline int pass_string(Cursor* cursor, Py_ssize_t max_text) noexcept nogil:
    """Check a string whose opening quote has been read."""
    cdef bint escaped = False
    return pass_text(cursor, max_text, &escaped)


cdef uint8_t* unescape(const uint8_t* at, const uint8_t* end, uint8_t* out) noexcept nogil:
    """Write the text of a string that has been checked, and is at `at` without its quotes, to `out`; the byte
    behind it."""
    cdef Cursor cursor
    cdef const uint8_t* stop
    cursor.at = at
    cursor.end = end
    while cursor.at < end:
        stop = <const uint8_t*>memchr(cursor.at, c'\\', end - cursor.at)
        if stop == NULL:
            stop = end
        memcpy(out, cursor.at, stop - cursor.at)
        out += stop - cursor.at
        cursor.at = stop
        if stop < end:
            cursor.at += 1
            read_escape(&cursor, &out)
    return out


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


cdef inline int pass_scalar(Cursor* cursor, Py_ssize_t max_text) noexcept nogil:
    """Check a string, a number, true, false or null."""
    cdef Number number
    cdef const uint8_t* behind
    cdef int byte = peek(cursor)
    if byte == c'"':
        cursor.at += 1
        return pass_string(cursor, max_text)
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


cdef int pass_nested(Cursor* cursor, uint8_t* closers, int max_depth, Py_ssize_t max_text) noexcept nogil:
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
                    reason = pass_key(cursor, max_text)
                    if reason != OK:
                        return reason
                continue
        else:
            reason = pass_scalar(cursor, max_text)
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
            reason = pass_key(cursor, max_text)
            if reason != OK:
                return reason


cdef inline int pass_key(Cursor* cursor, Py_ssize_t max_text) noexcept nogil:
    """Check a key and its colon, up to the value."""
    cdef int reason
    if peek(cursor) != c'"':
        return KEY_EXPECTED
    cursor.at += 1
    reason = pass_string(cursor, max_text)
    return pass_colon(cursor) if reason == OK else reason


cdef inline bint is_lead(const uint8_t* at, const Lead* lead) noexcept nogil:
    """Whether the bytes are the remembered ones. LEAD_BYTES can be read."""
    cdef uint64_t[2] word
    memcpy(word, at, 16)
    if (((word[0] & lead.masks[0]) ^ lead.words[0]) | ((word[1] & lead.masks[1]) ^ lead.words[1])) != 0:
        return False
    return lead.length <= 16 or memcmp(at + 16, &lead.words[2], lead.length - 16) == 0


cdef inline bint begins_with(const Cursor* cursor, const Lead* lead) noexcept nogil:
    """Whether the bytes at the cursor are the remembered ones."""
    return (
        lead.length != 0
        and lead.length <= cursor.end - cursor.at
        and memcmp(cursor.at, lead.words, lead.length) == 0
    )


cdef void forget(Lead* lead) noexcept nogil:
    memset(lead, 0, sizeof(Lead))
    lead.words[0] = 1


cdef void learn(
    Lead* lead, const uint8_t* start, const uint8_t* end, Action action, int column, Slot* slot
) noexcept nogil:
    """Remember what stands before a value, unless it is long."""
    forget(lead)
    if end - start > LEAD_BYTES:
        return
    lead.length = <int>(end - start)
    lead.action = action
    lead.column = column
    lead.slot = slot
    lead.words[0] = 0
    memcpy(lead.words, start, lead.length)
    memset(lead.masks, 0xFF, lead.length)


cdef Action action_of(const Slot* slot) noexcept nogil:
    """How values of a column are read."""
    if slot.kind == TEXT:
        return READ_TEXT
    if slot.kind == INTEGER and slot.width == 8:
        return READ_INTEGER
    if slot.kind == REAL:
        return READ_REAL
    # Seconds are the longest unit: 2 ** 43 of them fit 64 bits in us.
    if slot.kind == INSTANT and slot.places >= 0:
        return READ_INSTANT
    return READ_ANY


@cython.final
cdef class JsonDecoder(BatchBuilder):
    """Decodes the columns `names` (see `BatchBuilder` for types, places and zoned) of NDJSON records.

    Objects and arrays may be nested `max_depth` deep, the record included (1 to 1,000,000). A record of more
    than `max_record` bytes (at most 2 ** 30 - 64) fails, and one of more than `max_columns` keys (those of nested
    objects do not count), or with a string of more than `max_text` bytes as it is written, keys included.

    Most records are like the one before. What stood before each of its values is remembered, so that white space,
    comma, key and colon are one comparison, and the column is known; all else is read byte by byte.
    """

    cdef list keep
    cdef Name* names
    cdef Lead* leads
    # Behind the last lead that may be filled.
    cdef Lead* last
    cdef uint8_t* closers
    cdef int max_depth
    cdef Py_ssize_t max_record
    cdef Py_ssize_t max_columns
    cdef Py_ssize_t max_text
    # Of the current record: keys beyond `last`, less the leads that had none; and why it ends.
    cdef Py_ssize_t surplus
    cdef int reason
    # As the last call has seen them.
    cdef Py_ssize_t record_bytes
    # Unescaped keys and times.
    cdef uint8_t* scratch
    cdef Py_ssize_t scratch_capacity
    # Bytes of a file.
    cdef uint8_t* piece
    cdef Py_ssize_t piece_capacity

    def __cinit__(
        self,
        list types,
        list places,
        bint zoned,
        list names,
        int max_depth,
        Py_ssize_t max_record,
        Py_ssize_t max_columns,
        Py_ssize_t max_text,
    ):
        cdef int i
        if not 1 <= max_depth <= 1_000_000:
            raise ValueError("max_depth is not within 1 to 1,000,000")
        if not 1 <= max_record <= SLICE_BYTES - 64:
            raise ValueError("max_record is not within 1 to 2 ** 30 - 64")
        if max_columns < 1 or max_text < 1:
            raise ValueError("max_columns or max_text is not positive")
        self.keep = [name.encode() for name in names]
        self.max_depth = max_depth
        self.max_record = max_record
        self.max_columns = max_columns
        self.max_text = max_text
        self.record_bytes = RECORD_BYTES
        self.names = <Name*>malloc(max(1, len(names)) * sizeof(Name))
        self.leads = <Lead*>malloc((LEADS + AHEAD) * sizeof(Lead))
        self.closers = <uint8_t*>malloc(max_depth)
        if self.names == NULL or self.leads == NULL or self.closers == NULL:
            raise MemoryError
        self.last = self.leads + min(LEADS, max_columns)
        for i in range(LEADS + AHEAD):
            forget(&self.leads[i])
        for i, name in enumerate(self.keep):
            self.names[i].text = <const uint8_t*><const char*>name
            self.names[i].length = len(name)

    def __dealloc__(self):
        free(self.names)
        free(self.leads)
        free(self.closers)
        free(self.scratch)
        free(self.piece)

    def decode(self, const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t max_rows):
        """At most `max_rows` records from byte `start`: what `BatchBuilder.finish` gives, then where to go on,
        and how many records there were. Raises MemoryError."""
        cdef Py_ssize_t n = data.shape[0]
        cdef const uint8_t* block
        cdef Py_ssize_t room
        cdef Py_ssize_t rows
        cdef Py_ssize_t next = start
        cdef int status
        if not 0 <= start <= n or max_rows < 1:
            raise ValueError("start is not within the block, or max_rows is not positive")
        block = &data[0] if n > 0 else NULL
        room = min(n - start, SLICE_BYTES + self.max_record)
        rows = min(max_rows, room // self.record_bytes + 1)
        self.begin(block, rows, rows * TEXT_BYTES)
        plant_overread(block + start, block + n)
        with nogil:
            enter_kernel()
            status = self._decode(block, n, &next, max_rows)
            leave_kernel()
        if status == NO_MEMORY:
            raise MemoryError
        self._expect(next - start)
        return *self.finish(), next, self.table.record

    def decode_file(
        self,
        int descriptor,
        int64_t offset,
        Py_ssize_t size,
        Py_ssize_t start,
        Py_ssize_t max_rows,
        Py_ssize_t piece_bytes,
    ):
        """As `decode`, of the `size` bytes of an open file from `offset` on. They are read `piece_bytes` at a time,
        or more where a record is longer, so that what is read is still in the cache when it is decoded.

        Raises OSError when the file cannot be read, EOFError when it ends before those bytes do."""
        cdef Py_ssize_t room
        cdef Py_ssize_t rows
        cdef Py_ssize_t next = start
        cdef int status
        cdef int error = 0
        if not 0 <= start <= size or max_rows < 1 or offset < 0 or piece_bytes < 1:
            raise ValueError("start is not within the file, or max_rows or piece_bytes is not positive")
        room = min(size - start, SLICE_BYTES + self.max_record)
        rows = min(max_rows, room // self.record_bytes + 1)
        self.begin(NULL, rows, rows * TEXT_BYTES)
        with nogil:
            enter_kernel()
            status = self._decode_file(descriptor, offset, size, &next, max_rows, piece_bytes)
            if status == UNREADABLE:
                error = errno
            leave_kernel()
        if status == NO_MEMORY:
            raise MemoryError
        if status == UNREADABLE:
            raise OSError(error, strerror(error).decode(errors="replace"))
        if status == SHRUNK:
            raise EOFError
        self._expect(next - start)
        return *self.finish(), next, self.table.record

    cdef void _expect(self, Py_ssize_t decoded) noexcept nogil:
        """Remember how long records are, of which so many bytes have just been decoded."""
        if self.table.rows > 0:
            # A little less, so that the room for the next rows is a little more than it takes.
            self.record_bytes = max(2, decoded * 15 // (16 * self.table.rows))

    cdef int _decode_file(
        self,
        int descriptor,
        int64_t offset,
        Py_ssize_t size,
        Py_ssize_t* next,
        Py_ssize_t max_rows,
        Py_ssize_t piece_bytes,
    ) noexcept nogil:
        """Read records from byte `next[0]` of the range and move it behind the last one: OK, NO_MEMORY,
        UNREADABLE or SHRUNK."""
        cdef Py_ssize_t at = next[0]
        cdef Py_ssize_t wanted
        cdef Py_ssize_t count
        cdef Py_ssize_t stop
        cdef int status
        while at < size:
            wanted = min(piece_bytes, size - at)
            count = 0
            while True:
                status = self._fill(descriptor, offset + at, count, wanted)
                if status != OK:
                    return status
                count = wanted
                if at + count < size:
                    while count > 0 and self.piece[count - 1] != c'\n':
                        count -= 1
                if count > 0:
                    break
                count = wanted
                wanted = min(2 * wanted, size - at)
            # Where the range would begin in memory, so that positions are those within the range.
            self.table.block = self.piece - at
            stop = at
            status = self._decode(self.table.block, at + count, &stop, max_rows)
            if status != OK:
                return status
            count += at
            at = stop
            if stop < count:
                break
        next[0] = at
        return OK

    cdef int _fill(self, int descriptor, int64_t offset, Py_ssize_t have, Py_ssize_t wanted) noexcept nogil:
        """Make the piece `wanted` bytes of the file from `offset` on, of which it has `have`."""
        cdef uint8_t* moved
        cdef ssize_t count
        if wanted > self.piece_capacity:
            moved = <uint8_t*>realloc(self.piece, wanted)
            if moved == NULL:
                return NO_MEMORY
            self.piece = moved
            self.piece_capacity = wanted
        while have < wanted:
            count = pread(descriptor, self.piece + have, wanted - have, offset + have)
            if count == 0:
                return SHRUNK
            if count > 0:
                have += count
            elif errno != EINTR:
                return UNREADABLE
        return OK

    cdef int _decode(self, const uint8_t* block, Py_ssize_t n, Py_ssize_t* next, Py_ssize_t max_rows) noexcept nogil:
        """Read records from `next[0]` and move it behind the last one; OK or NO_MEMORY."""
        cdef Table* table = &self.table
        cdef const uint8_t* end = block + n
        cdef const uint8_t* limit = block + min(n, next[0] + SLICE_BYTES)
        cdef Py_ssize_t max_record = self.max_record
        cdef Py_ssize_t quick_bytes = min(max_record, self.max_text)
        cdef const uint8_t* at = block + next[0]
        cdef const uint8_t* start
        cdef const uint8_t* stop
        cdef const uint8_t* safe
        cdef const uint8_t* behind
        cdef uint8_t* out
        cdef uint64_t value
        cdef int places
        cdef int length
        cdef Lead* lead
        cdef Slot* slot
        cdef Cursor cursor
        cdef int reason
        while at < limit:
            if table.record == max_rows:
                cursor.at = at
                cursor.end = end
                skip_space(&cursor)
                if cursor.at < end and cursor.at[0] != c'\n':
                    break
                at = cursor.at + (cursor.at < end)
                continue
            start = at
            # The quick way ends where a record, or a string in it, could be too long.
            safe = start + min(end - start, quick_bytes) - MARGIN
            cursor.end = start + min(end - start, max_record + 1)
            table.record += 1
            table.filled = 0
            self.surplus = 0
            reason = OK
            lead = self.leads
            while True:
                if at > safe or not is_lead(at, lead):
                    cursor.at = at
                    lead = self._read_pair(&cursor, lead)
                    at = cursor.at
                    if lead == NULL:
                        reason = self.reason
                        break
                    continue
                at += lead.length
                slot = lead.slot
                if lead.action == READ_TEXT:
                    if at[0] == c'"':
                        behind = at + 1
                        out = text_place(table, slot)
                        length = 16
                        while length == 16 and behind <= safe + LEAD_BYTES and out <= slot.text_limit:
                            length = text_prefix(behind)
                            memcpy(out, behind, 16)
                            behind += length
                            out += length
                        if length < 16 and behind[0] == c'"':
                            end_text(table, slot, out)
                            at = behind + 1
                            lead += 1
                            continue
                elif lead.action == READ_INTEGER:
                    behind = read_short_integer(at, &value)
                    if behind != NULL:
                        (<int64_t*>slot.values)[table.rows] = <int64_t>value
                        mark_filled(table, slot)
                        at = behind
                        lead += 1
                        continue
                elif lead.action == READ_REAL:
                    behind = read_short_decimal(at, &value, &places)
                    if behind != NULL:
                        # Both operands are exact: see `to_double`.
                        (<double*>slot.values)[table.rows] = <double>value / DOUBLE_POWERS[places]
                        mark_filled(table, slot)
                        at = behind
                        lead += 1
                        continue
                elif lead.action == READ_INSTANT:
                    behind = read_short_integer(at, &value)
                    if behind != NULL and value < (<uint64_t>1 << 43):
                        put_instant(table, slot, <int64_t>(value * POWERS[slot.places]), False)
                        at = behind
                        lead += 1
                        continue
                elif lead.action == PASS_ANY:
                    if at[0] == c'"':
                        behind = at + 1
                        length = 16
                        while length == 16 and behind <= safe + LEAD_BYTES:
                            length = text_prefix(behind)
                            behind += length
                        if length < 16 and behind[0] == c'"':
                            at = behind + 1
                            lead += 1
                            continue
                    else:
                        behind = read_short_integer(at, &value)
                        if behind == NULL:
                            behind = read_short_decimal(at, &value, &places)
                        if behind != NULL:
                            at = behind
                            lead += 1
                            continue
                elif lead.action == CLOSE:
                    at -= 1
                    break
                cursor.at = at
                reason = self._read_behind(&cursor, lead)
                at = cursor.at
                if reason != OK:
                    break
                lead += 1
            if reason == NO_MEMORY:
                return reason
            if reason == BLANK:
                # White space may go on behind `cursor.end`; a record behind it is too long.
                cursor.end = end
                skip_space(&cursor)
                at = cursor.at
                if at == end or at[0] == c'\n':
                    table.record -= 1
                    at += at < end
                    continue
                reason = TOO_LONG
            # A record may seem whole where `cursor.end` cuts it: it is then too long.
            if reason == OK and (at == end or at[0] == c'\n'):
                stop = at
            else:
                stop = <const uint8_t*>memchr(at, c'\n', end - at)
                if stop == NULL:
                    stop = end
            behind = stop + (stop < end)
            if stop > start and (stop - 1)[0] == c'\r':
                stop -= 1
            if stop - start > max_record:
                reason = TOO_LONG
            if reason == OK:
                reason = commit(table, start, stop)
            else:
                reason = add_failure(table, start, stop, reason, -1, min(at, stop) - block, stop - block)
            if reason == NO_MEMORY:
                return reason
            at = behind
        next[0] = at - block
        return OK

    cdef Lead* _read_pair(self, Cursor* cursor, Lead* lead) noexcept nogil:
        """Read a key and its value, and what stands before them, where `lead` is expected.

        The next lead; NULL when the record is over: `reason` tells why, and the cursor is there.
        """
        cdef const uint8_t* start = cursor.at
        cdef int column = -1
        cdef int i
        # Near the end the quick way does not try. And keys may be missing, but what opens a record may not.
        for i in range(1 if lead == self.leads else AHEAD):
            if begins_with(cursor, &lead[i]):
                lead += i
                self.surplus -= i
                cursor.at += lead.length
                if lead.action == CLOSE:
                    cursor.at -= 1
                    self.reason = OK
                    return NULL
                self.reason = self._read_behind(cursor, lead)
                return lead + 1 if self.reason == OK else NULL
        self.reason = self._pass_separator(cursor, lead == self.leads)
        if self.reason != OK:
            return NULL
        if cursor.at[0] == c'}':
            cursor.at += 1
            skip_space(cursor)
            if cursor.at < cursor.end and cursor.at[0] == c'\n':
                learn(lead, start, cursor.at + 1, CLOSE, -1, NULL)
            elif cursor.at < cursor.end:
                self.reason = TRAILING
            return NULL
        if lead - self.leads + self.surplus >= self.max_columns:
            self.reason = TOO_MANY_COLUMNS
            return NULL
        self.reason = self._read_key(cursor, &column)
        if self.reason != OK:
            return NULL
        if lead == self.last:
            self.surplus += 1
        elif column < 0:
            learn(lead, start, cursor.at, PASS_ANY, column, NULL)
        else:
            learn(lead, start, cursor.at, action_of(&self.table.slots[column]), column, &self.table.slots[column])
        self.reason = self._read_value(cursor, column)
        if self.reason != OK:
            return NULL
        return lead if lead == self.last else lead + 1

    cdef int _read_behind(self, Cursor* cursor, Lead* lead) noexcept nogil:
        """Read the value behind a lead, or behind a lead and white space, which then belongs to it from now on."""
        cdef const uint8_t* start = cursor.at - lead.length
        cdef int column = lead.column
        skip_space(cursor)
        if cursor.at - start > lead.length:
            learn(lead, start, cursor.at, lead.action, column, lead.slot)
        return self._read_value(cursor, column)

    cdef int _pass_separator(self, Cursor* cursor, bint first) noexcept nogil:
        """Pass what stands before a key or a closing brace, white space included; OK only when one is there."""
        skip_space(cursor)
        if first:
            if cursor.at == cursor.end or cursor.at[0] == c'\n':
                return BLANK
            if cursor.at[0] != c'{':
                return NOT_OBJECT
            cursor.at += 1
            skip_space(cursor)
            if peek(cursor) == c'}':
                return OK
        else:
            if peek(cursor) == c'}':
                return OK
            if peek(cursor) != c',':
                return COMMA_EXPECTED
            cursor.at += 1
            skip_space(cursor)
        return OK if peek(cursor) == c'"' else KEY_EXPECTED

    cdef int _read_key(self, Cursor* cursor, int* column) noexcept nogil:
        """Read a key and its colon, up to the value, and look up its column (-1: not asked for)."""
        cdef const uint8_t* start = cursor.at + 1
        cdef const uint8_t* text = start
        cdef Py_ssize_t length
        cdef bint escaped = False
        cdef int reason
        cdef int i
        cursor.at = start
        reason = pass_text(cursor, self.max_text, &escaped)
        if reason != OK:
            return reason
        length = cursor.at - 1 - start
        if escaped:
            length = self._unescape(start, cursor.at - 1)
            if length < 0:
                return NO_MEMORY
            text = self.scratch
        column[0] = -1
        for i in range(self.table.columns):
            if self.names[i].length == length and memcmp(self.names[i].text, text, length) == 0:
                column[0] = i
                break
        return pass_colon(cursor)

    cdef Py_ssize_t _unescape(self, const uint8_t* start, const uint8_t* end) noexcept nogil:
        """Put the text of a checked string into `scratch`: its length, -1 if there is no memory."""
        cdef uint8_t* moved
        if end - start > self.scratch_capacity:
            moved = <uint8_t*>realloc(self.scratch, end - start)
            if moved == NULL:
                return -1
            self.scratch = moved
            self.scratch_capacity = end - start
        return unescape(start, end, self.scratch) - self.scratch

    cdef int _pass_value(self, Cursor* cursor) noexcept nogil:
        """Check a value."""
        cdef int byte = peek(cursor)
        if byte == c'{' or byte == c'[':
            return pass_nested(cursor, self.closers, self.max_depth, self.max_text)
        return pass_scalar(cursor, self.max_text)

    cdef int _read_value(self, Cursor* cursor, int column) noexcept nogil:
        """Read a value into its column, if it has one; a value that does not fit is noted there and is OK here."""
        cdef const uint8_t* start = cursor.at
        cdef const uint8_t* behind
        cdef Slot* slot
        cdef Number number
        cdef int reason
        cdef int byte = peek(cursor)
        if column < 0:
            return self._pass_value(cursor)
        slot = &self.table.slots[column]
        if byte == c'"':
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
        """Read a string into its column."""
        cdef const uint8_t* start = cursor.at + 1
        cdef const uint8_t* text = start
        cdef Py_ssize_t length
        cdef uint8_t* out
        cdef bint escaped = False
        cdef int reason
        cursor.at = start
        reason = pass_text(cursor, self.max_text, &escaped)
        if reason != OK:
            return reason
        length = cursor.at - 1 - start
        if slot.kind == TEXT:
            if reserve_text(&self.table, slot, length) != OK:
                return NO_MEMORY
            out = text_place(&self.table, slot)
            if escaped:
                out = unescape(start, start + length, out)
            else:
                memcpy(out, start, length)
                out += length
            end_text(&self.table, slot, out)
            return OK
        reason = WRONG_TYPE
        if slot.kind == INSTANT or slot.kind == DAY:
            if escaped:
                length = self._unescape(start, start + length)
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
            if reserve_text(&self.table, slot, length) != OK:
                return NO_MEMORY
            out = text_place(&self.table, slot)
            memcpy(out, start, length)
            end_text(&self.table, slot, out + length)
        elif slot.kind == TRUTH and (start[0] == c't' or start[0] == c'f'):
            put_truth(&self.table, slot, start[0] == c't')
        else:
            mark_failed(&self.table, slot, WRONG_TYPE, start, cursor.at)
        return OK
