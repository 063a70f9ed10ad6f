"""CSV to columns, by RFC 4180 with any delimiter and quote.

A field that begins with the quote ends with it, may hold delimiters and newlines, and a doubled quote stands for
one. Elsewhere a quote is a character like others. Records end with a newline, of which a carriage return before it
is part. Fields are not trimmed. An empty line is no record, unless records have one field only.
"""

cimport cython
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

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
from cython_ext.cursor cimport Cursor, field_prefix, is_utf8
from cython_ext.numbers cimport Number, scan_text_number
from cython_ext.reasons cimport (
    BAD_TIME,
    FIELD_COUNT,
    NO_MEMORY,
    NOT_UTF8,
    OK,
    OPEN_QUOTE,
    TEXT_AFTER_QUOTE,
    TOO_LONG,
    WRONG_TYPE,
)
from cython_ext.record_ends cimport csv_record, find

cdef enum:
    # No slice is longer, so that the offsets of a text column fit 32 bits.
    SLICE_BYTES = 1 << 30
    # The room for rows at first is for records of so many bytes.
    RECORD_BYTES = 64


cdef struct Token:
    const uint8_t* text
    Py_ssize_t length


cdef inline const uint8_t* find_field_end(const uint8_t* at, const uint8_t* end, uint8_t delimiter) noexcept nogil:
    """The next delimiter or newline, or `end`."""
    cdef int length
    while end - at >= 16:
        length = field_prefix(at, delimiter)
        at += length
        if length < 16:
            return at
    while at < end and at[0] != delimiter and at[0] != c'\n':
        at += 1
    return at


cdef inline bint is_word(const uint8_t* at, Py_ssize_t length, const char* word, Py_ssize_t word_length) noexcept nogil:
    """Whether a text is the lower-case ASCII `word`, in any case."""
    cdef Py_ssize_t i
    if length != word_length:
        return False
    for i in range(length):
        if (at[i] | 0x20) != <uint8_t>word[i]:
            return False
    return True


cdef inline int read_truth(const uint8_t* at, Py_ssize_t length) noexcept nogil:
    """1 for true, t and 1, 0 for false, f and 0, -1 for any other text."""
    if length == 1 and (at[0] == c'0' or at[0] == c'1'):
        return at[0] == c'1'
    if is_word(at, length, b"true", 4) or is_word(at, length, b"t", 1):
        return 1
    if is_word(at, length, b"false", 5) or is_word(at, length, b"f", 1):
        return 0
    return -1


cdef inline uint8_t* copy_quoted(uint8_t* to, const uint8_t* at, const uint8_t* end, uint8_t quote) noexcept nogil:
    """Copy a quoted text, each doubled quote as one; the byte behind the copy."""
    cdef const uint8_t* stop
    while at < end:
        stop = find(at, end, quote)
        if stop < end:
            stop += 1
        memcpy(to, at, stop - at)
        to += stop - at
        at = stop + 1
    return to


@cython.final
cdef class CsvDecoder(BatchBuilder):
    """Decodes columns (see `BatchBuilder` for types, places and zoned) of CSV records.

    `targets` gives for each field of a record the column that takes it, or -1. `quote` is -1 when fields are
    never quoted; an unquoted field that is one of `nulls` is NULL. A record of more than `max_record` bytes (at
    most 2 ** 30 - 64) fails.
    """

    cdef list keep
    cdef Token* nulls
    cdef int null_count
    cdef bint empty_is_null
    cdef int* targets
    cdef int fields
    cdef uint8_t delimiter
    cdef int quote
    cdef Py_ssize_t max_record
    # Times and numbers with doubled quotes.
    cdef uint8_t* scratch
    cdef Py_ssize_t scratch_capacity

    def __cinit__(
        self,
        list types,
        list places,
        bint zoned,
        list targets,
        uint8_t delimiter,
        int quote,
        list nulls,
        Py_ssize_t max_record,
    ):
        cdef int i
        if not 1 <= max_record <= SLICE_BYTES - 64:
            raise ValueError("max_record is not within 1 to 2 ** 30 - 64")
        if not targets or any(not -1 <= target < len(types) for target in targets):
            raise ValueError("a target is no column")
        self.fields = len(targets)
        self.delimiter = delimiter
        self.quote = quote
        self.max_record = max_record
        self.empty_is_null = "" in nulls
        self.keep = [null.encode() for null in nulls if null]
        self.null_count = len(self.keep)
        self.targets = <int*>malloc(self.fields * sizeof(int))
        self.nulls = <Token*>malloc(max(1, self.null_count) * sizeof(Token))
        if self.targets == NULL or self.nulls == NULL:
            raise MemoryError
        for i in range(self.fields):
            self.targets[i] = targets[i]
        for i in range(self.null_count):
            self.nulls[i].text = <const uint8_t*><const char*>self.keep[i]
            self.nulls[i].length = len(self.keep[i])

    def __dealloc__(self):
        free(self.targets)
        free(self.nulls)
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
        cdef const uint8_t* behind
        cdef Cursor cursor
        cdef int fields
        cdef int reason
        cursor.at = block + next[0]
        while cursor.at < limit:
            start = cursor.at
            if self.fields > 1:
                if start[0] == c'\n':
                    cursor.at += 1
                    continue
                if start[0] == c'\r' and end - start > 1 and start[1] == c'\n':
                    cursor.at += 2
                    continue
            if table.record == max_rows:
                break
            table.record += 1
            table.filled = 0
            cursor.end = end if end - start <= self.max_record else start + self.max_record + 1
            fields = 0
            # Where a fault begins, moved there by `_read_record`.
            stop = start
            reason = self._read_record(&cursor, &fields, &stop)
            if reason == NO_MEMORY:
                return reason
            behind = cursor.at
            if behind == cursor.end and behind < end:
                # Longer than `max_record`, and perhaps cut inside quotes.
                behind = csv_record(start, end, self.delimiter, self.quote)
                behind = end if behind == NULL else behind - 1
            next[0] = behind - block + (behind < end)
            if behind < end and behind > start and (behind - 1)[0] == c'\r':
                behind -= 1
            if behind - start > self.max_record:
                reason = add_failure(table, start, behind, TOO_LONG, -1, 0, 0)
            elif reason != OK:
                reason = add_failure(table, start, behind, reason, -1, stop - block, behind - block)
            elif fields != self.fields:
                reason = add_failure(table, start, behind, FIELD_COUNT, -1, fields, self.fields)
            else:
                reason = commit(table, start, behind)
            if reason == NO_MEMORY:
                return reason
            cursor.at = block + next[0]
        next[0] = cursor.at - block
        return OK

    cdef int _read_record(self, Cursor* cursor, int* fields, const uint8_t** fault) noexcept nogil:
        """Read fields up to the newline that ends the record, and count them; OK or why it is refused."""
        cdef const uint8_t* start
        cdef const uint8_t* stop
        cdef int target
        cdef int reason = OK
        cdef int status
        while True:
            target = self.targets[fields[0]] if fields[0] < self.fields else -1
            fields[0] += 1
            start = cursor.at
            if start < cursor.end and start[0] == self.quote:
                status = self._read_quoted(cursor, target)
                if status == NO_MEMORY:
                    return status
                if status != OK and reason == OK:
                    reason = status
                    fault[0] = start if status == OPEN_QUOTE else cursor.at
                # Behind the closing quote there is nothing, but for a fault.
                cursor.at = find_field_end(cursor.at, cursor.end, self.delimiter)
            else:
                cursor.at = find_field_end(start, cursor.end, self.delimiter)
                if target >= 0:
                    stop = cursor.at
                    if stop < cursor.end and stop[0] == c'\n' and stop > start and (stop - 1)[0] == c'\r':
                        stop -= 1
                    self._read_field(start, stop, cursor.end, target)
            if cursor.at == cursor.end or cursor.at[0] == c'\n':
                return reason
            cursor.at += 1

    cdef inline int _read_quoted(self, Cursor* cursor, int target) noexcept nogil:
        """Read the quoted field at the cursor, which moves behind the closing quote; OK or what is wrong."""
        cdef uint8_t quote = <uint8_t>self.quote
        cdef const uint8_t* start = cursor.at + 1
        cdef const uint8_t* stop = start
        cdef bint doubled = False
        while True:
            stop = find(stop, cursor.end, quote)
            if stop == cursor.end:
                cursor.at = stop
                return OPEN_QUOTE
            if cursor.end - stop < 2 or stop[1] != quote:
                break
            doubled = True
            stop += 2
        cursor.at = stop + 1
        if target >= 0:
            if doubled:
                if self._read_doubled(start, stop, target) == NO_MEMORY:
                    return NO_MEMORY
            else:
                self._read_value(start, stop, cursor.end, target)
        if cursor.at == cursor.end or cursor.at[0] == self.delimiter or cursor.at[0] == c'\n':
            return OK
        if cursor.at[0] == c'\r' and cursor.end - cursor.at > 1 and cursor.at[1] == c'\n':
            return OK
        return TEXT_AFTER_QUOTE

    cdef int _read_doubled(self, const uint8_t* start, const uint8_t* stop, int target) noexcept nogil:
        """Read the text of a field with doubled quotes; OK or NO_MEMORY."""
        cdef Slot* slot = &self.table.slots[target]
        cdef uint8_t* out
        if slot.kind == TEXT:
            if is_utf8(start, stop):
                end_text(
                    &self.table, slot, copy_quoted(text_place(&self.table, slot), start, stop, <uint8_t>self.quote)
                )
            else:
                mark_failed(&self.table, slot, NOT_UTF8, start, stop)
            return OK
        if stop - start > self.scratch_capacity:
            out = <uint8_t*>realloc(self.scratch, stop - start)
            if out == NULL:
                return NO_MEMORY
            self.scratch = out
            self.scratch_capacity = stop - start
        out = copy_quoted(self.scratch, start, stop, <uint8_t>self.quote)
        # What does not fit is reported as it stands in the record.
        self._read_value(self.scratch, out, out, target)
        if slot.failed == self.table.record:
            slot.value = start
            slot.value_end = stop
        return OK

    cdef inline void _read_field(
        self, const uint8_t* start, const uint8_t* stop, const uint8_t* limit, int target
    ) noexcept nogil:
        """Read an unquoted field, which may be NULL."""
        cdef Py_ssize_t length = stop - start
        cdef int i
        if length == 0 and self.empty_is_null:
            mark_null(&self.table, &self.table.slots[target])
            return
        for i in range(self.null_count):
            if self.nulls[i].length != length or self.nulls[i].text[0] != start[0]:
                continue
            if memcmp(self.nulls[i].text, start, length) == 0:
                mark_null(&self.table, &self.table.slots[target])
                return
        self._read_value(start, stop, limit, target)

    cdef inline void _read_value(
        self, const uint8_t* start, const uint8_t* stop, const uint8_t* limit, int target
    ) noexcept nogil:
        """Read a text into its column; one that does not fit is noted there. `limit`: see `scan_text_number`."""
        cdef Table* table = &self.table
        cdef Slot* slot = &table.slots[target]
        cdef Py_ssize_t length = stop - start
        cdef Number number
        cdef uint8_t* out
        cdef int reason
        cdef int truth
        if slot.kind == TEXT:
            reason = NOT_UTF8
            if is_utf8(start, stop):
                out = text_place(table, slot)
                memcpy(out, start, length)
                end_text(table, slot, out + length)
                reason = OK
        elif slot.kind == TRUTH:
            truth = read_truth(start, length)
            reason = WRONG_TYPE if truth < 0 else put_truth(table, slot, truth)
        elif (slot.kind == INSTANT or slot.kind == DAY) and length >= 10 and start[4] == c'-':
            reason = put_time(table, slot, start, stop)
        elif scan_text_number(start, stop, limit, &number):
            reason = put_number(table, slot, &number)
        else:
            reason = BAD_TIME if slot.kind == INSTANT or slot.kind == DAY else WRONG_TYPE
        if reason != OK:
            mark_failed(table, slot, reason, start, stop)
