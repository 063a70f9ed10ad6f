"""CSV to columns, by RFC 4180 with any delimiter and quote.

A field that begins with the quote ends with it, may hold delimiters and newlines, and a doubled quote stands for
one. Elsewhere a quote is a character like others. Records end with a newline, of which a carriage return before it
is part. Fields are not trimmed. An empty line is no record, unless records have one field only.

A block is read in chunks that fit a CPU's first cache: `csv_index.h` finds where the fields of a chunk begin, then
each column of its records is read in a loop of its own. A record that the index leaves out (an odd quote, a wrong
number of fields, one longer than a chunk, the last one without a newline) is read byte by byte.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

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
    grow,
    hold_validity,
    put_integer,
    put_number,
    put_time,
    put_truth,
    reserve_text,
    text_place,
)
from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.csv_index cimport CsvIndex, csv_index, csv_masks_best, csv_masks_way
from cython_ext.cursor cimport field_prefix, is_utf8, scan_load
from cython_ext.numbers cimport Number, scan_text_number
from cython_ext.planted cimport plant_overread
from cython_ext.reasons cimport (
    BAD_TIME,
    FIELD_COUNT,
    NO_MEMORY,
    NOT_UTF8,
    OK,
    OPEN_QUOTE,
    TEXT_AFTER_QUOTE,
    TEXT_TOO_LONG,
    TOO_LONG,
    TOO_MANY_COLUMNS,
    WRONG_TYPE,
)
from cython_ext.record_ends cimport find
from cython_ext.short_values cimport Day, short_double, short_integer, short_timestamp

cdef enum:
    # No slice is longer, so that the offsets of a text column fit 32 bits.
    SLICE_BYTES = 1 << 30
    # The room for rows at first is for records of so many bytes.
    RECORD_BYTES = 64
    # With its index and the values made of it, a chunk stays in the first cache.
    CHUNK_BYTES = 1 << 14
    # Records whose columns are read together.
    RUN_ROWS = 1024
    # What can be read behind the bytes of a chunk or a record.
    PADDING = 64


cdef struct Token:
    const uint8_t* text
    Py_ssize_t length


cdef struct Nulls:
    # Unquoted texts that are NULL, the empty one apart.
    Token* tokens
    int count
    Py_ssize_t longest
    bint empty
    # Whether one could be a number, too: it begins with a digit, a sign or a point.
    bint numeric


cdef struct Run:
    # Records with all their fields: field k is `base[bounds[k]]` to before `base[bounds[k + 1] - 1]`.
    const uint8_t* base
    const uint32_t* bounds
    Py_ssize_t n
    # Where `base` is in the block.
    int64_t position
    # Whether the byte behind each record is a newline; all text is ASCII; some quotes may be doubled.
    bint ended
    bint ascii
    bint doubled


cdef struct Text:
    # A field without its quotes.
    const uint8_t* start
    const uint8_t* stop
    bint quoted


cdef struct Misfit:
    # Why a row fails; OK when it does not. The value's bytes are counted from the block's begin.
    int reason
    int column
    int64_t value
    int64_t value_end


cdef struct Scratch:
    # Bytes that are kept from call to call, as many as were ever asked for.
    uint8_t* bytes
    Py_ssize_t capacity


cdef csv_masks_way _fill = csv_masks_best()


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


cdef inline const uint8_t* closing_quote(const uint8_t* at, const uint8_t* end, uint8_t quote) noexcept nogil:
    """The quote that closes the field whose text begins at `at`, or `end`."""
    while True:
        at = find(at, end, quote)
        if end - at < 2 or at[1] != quote:
            return at
        at += 2


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


cdef inline bint is_null(const Nulls* nulls, const uint8_t* at, Py_ssize_t length) noexcept nogil:
    """Whether an unquoted text is NULL."""
    cdef int i
    if length == 0:
        return nulls.empty
    if length > nulls.longest:
        return False
    for i in range(nulls.count):
        if nulls.tokens[i].length == length and memcmp(nulls.tokens[i].text, at, length) == 0:
            return True
    return False


cdef inline Text text_of(const uint8_t* base, const uint32_t* bound, bint trims, int quote) noexcept nogil:
    """The text of a field; `trims` when a carriage return at its end belongs to the newline behind it."""
    cdef Text text
    text.start = base + bound[0]
    text.stop = base + bound[1] - 1
    if trims and text.stop > text.start and (text.stop - 1)[0] == c'\r':
        text.stop -= 1
    text.quoted = text.stop > text.start and text.start[0] == quote
    if text.quoted:
        text.start += 1
        text.stop -= 1
    return text


cdef int hold(Scratch* scratch, Py_ssize_t size) noexcept nogil:
    """Make room for `size` bytes; OK or NO_MEMORY."""
    cdef void* moved
    if size <= scratch.capacity:
        return OK
    moved = realloc(scratch.bytes, size)
    if moved == NULL:
        return NO_MEMORY
    scratch.bytes = <uint8_t*>moved
    scratch.capacity = size
    return OK


cdef int pad(const uint8_t** base, Py_ssize_t n, const uint8_t* end, Scratch* copy) noexcept nogil:
    """Let PADDING bytes be readable behind the first `n` at `base`, by a copy if need be; OK or NO_MEMORY."""
    if end - base[0] - n >= PADDING:
        return OK
    if hold(copy, n + PADDING) != OK:
        return NO_MEMORY
    memcpy(copy.bytes, base[0], n)
    memset(copy.bytes + n, 0, PADDING)
    base[0] = copy.bytes
    return OK


@cython.final
cdef class CsvDecoder(BatchBuilder):
    """Decodes columns (see `BatchBuilder` for types, places and zoned) of CSV records.

    `targets` gives for each field of a record the column that takes it, or -1; each column has one field. `quote`
    is -1 when fields are never quoted; an unquoted field that is one of `nulls` is NULL. A record of more than
    `max_record` bytes (at most 2 ** 30 - 64) or more than `max_columns` fields fails, and one with a field that is
    written in more than `max_text` bytes.
    """

    cdef list keep
    cdef Nulls nulls
    # For each column its field.
    cdef int* sources
    cdef int fields
    cdef uint8_t delimiter
    cdef int quote
    cdef Py_ssize_t max_record
    cdef Py_ssize_t max_columns
    cdef Py_ssize_t max_text
    cdef CsvIndex index
    # The fields of a record that is read by itself.
    cdef uint32_t* bounds
    # Per row of a run; all OK but while `_sort_out` needs them.
    cdef Misfit* misfits
    cdef Day day
    # A chunk and a record at the end of a block, where bytes behind them can be read; a value with doubled quotes.
    cdef Scratch last_chunk
    cdef Scratch last_record
    cdef Scratch unquoted

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
        Py_ssize_t max_columns,
        Py_ssize_t max_text,
    ):
        cdef int i
        if not 1 <= max_record <= SLICE_BYTES - 64:
            raise ValueError("max_record is not within 1 to 2 ** 30 - 64")
        if max_text < 1:
            raise ValueError("max_text is not positive")
        if not 1 <= len(targets) <= max_columns:
            raise ValueError("there is no field, or more than max_columns")
        if sorted(target for target in targets if target != -1) != [*range(len(types))]:
            raise ValueError("the targets are not each column once")
        self.fields = len(targets)
        self.delimiter = delimiter
        self.quote = quote
        self.max_record = max_record
        self.max_columns = max_columns
        self.max_text = max_text
        self.keep = [null.encode() for null in nulls if null]
        self.nulls.empty = "" in nulls
        self.nulls.count = len(self.keep)
        self.nulls.longest = max((len(null) for null in self.keep), default=0)
        self.nulls.numeric = any(null[:1] in b"0123456789+-." for null in self.keep)
        self.day.head = scan_load(b"1970-01-01")
        self.day.tail = scan_load(b"70-01-01")
        self.nulls.tokens = <Token*>malloc(max(1, self.nulls.count) * sizeof(Token))
        self.sources = <int*>malloc(max(1, self.table.columns) * sizeof(int))
        self.bounds = <uint32_t*>malloc((self.fields + 1) * sizeof(uint32_t))
        self.index.bounds = <uint32_t*>malloc((CHUNK_BYTES + 1) * sizeof(uint32_t))
        self.index.lines = <uint32_t*>malloc((CHUNK_BYTES + 2) * sizeof(uint32_t))
        self.misfits = <Misfit*>calloc(RUN_ROWS, sizeof(Misfit))
        if (
            self.nulls.tokens == NULL
            or self.sources == NULL
            or self.bounds == NULL
            or self.index.bounds == NULL
            or self.index.lines == NULL
            or self.misfits == NULL
        ):
            raise MemoryError
        for i in range(self.nulls.count):
            self.nulls.tokens[i].text = <const uint8_t*><const char*>self.keep[i]
            self.nulls.tokens[i].length = len(self.keep[i])
        for i in range(self.fields):
            if targets[i] >= 0:
                self.sources[<int>targets[i]] = i

    def __dealloc__(self):
        free(self.nulls.tokens)
        free(self.sources)
        free(self.bounds)
        free(self.index.bounds)
        free(self.index.lines)
        free(self.misfits)
        free(self.last_chunk.bytes)
        free(self.last_record.bytes)
        free(self.unquoted.bytes)

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
        plant_overread(block + start, block + n)
        with nogil:
            enter_kernel()
            status = self._decode(block, n, room, &next, max_rows)
            leave_kernel()
        if status == NO_MEMORY:
            raise MemoryError
        return *self.finish(), next, self.table.record

    cdef int _decode(
        self, const uint8_t* block, Py_ssize_t n, Py_ssize_t room, Py_ssize_t* next, Py_ssize_t max_rows
    ) noexcept nogil:
        """Read records from `next[0]` and move it behind the last one; OK or NO_MEMORY. Those that begin in the
        first SLICE_BYTES have their end, or `max_record` bytes, within `room`."""
        cdef const uint8_t* at = block + next[0]
        cdef const uint8_t* end = block + n
        cdef const uint8_t* limit = block + min(n, next[0] + SLICE_BYTES)
        cdef const uint8_t* last = at + room
        cdef const uint8_t* begun
        cdef int status
        while at < limit and self.table.record < max_rows:
            begun = at
            status = self._read_chunk(&at, min(last - at, CHUNK_BYTES), end, max_rows)
            if status == OK and at == begun:
                status = self._read_record(&at, end)
            if status != OK:
                return status
        next[0] = at - block
        return OK

    cdef int _read_chunk(
        self, const uint8_t** place, Py_ssize_t n, const uint8_t* end, Py_ssize_t max_rows
    ) noexcept nogil:
        """Read the records in the `n` bytes at `place`, up to one that the index leaves out, and move `place`
        behind them; OK or NO_MEMORY."""
        cdef Table* table = &self.table
        cdef CsvIndex* index = &self.index
        cdef uint32_t* lines = index.lines
        cdef Py_ssize_t longest = min(self.max_record, self.max_text)
        cdef Py_ssize_t fields = self.fields
        cdef Py_ssize_t r = 0
        cdef Py_ssize_t first
        cdef Py_ssize_t records
        cdef const uint8_t* at
        cdef const uint8_t* start = place[0]
        cdef int status = OK
        cdef Run run
        run.base = start
        run.position = start - table.block
        if pad(&run.base, n, end, &self.last_chunk) != OK:
            return NO_MEMORY
        csv_index(_fill, run.base, n, self.delimiter, self.quote, index)
        run.ended = True
        run.ascii = index.ascii
        run.doubled = index.doubled
        records = index.records
        while r < records and table.record < max_rows and status == OK:
            first = r
            records = min(<Py_ssize_t>index.records, r + max_rows - table.record)
            while r < records and lines[r + 1] - lines[r] == fields:
                if index.bounds[lines[r + 1]] - index.bounds[lines[r]] > longest:
                    break
                r += 1
            if r > first:
                run.bounds = index.bounds + lines[first]
                status = self._read_run(&run, r - first)
            else:
                at = start + index.bounds[lines[r]]
                status = self._read_record(&at, end)
                r += 1
            records = index.records
        place[0] = start + index.bounds[lines[r]]
        return status

    cdef int _read_record(self, const uint8_t** place, const uint8_t* end) noexcept nogil:
        """Read the record at `place` byte by byte, or pass an empty line, and move `place` behind it; OK or
        NO_MEMORY."""
        cdef Table* table = &self.table
        cdef const uint8_t* start = place[0]
        cdef const uint8_t* at = start
        cdef const uint8_t* field
        cdef const uint8_t* fault = start
        cdef Py_ssize_t fields = 0
        cdef Py_ssize_t length
        cdef int reason = OK
        cdef Run run
        if self.fields > 1 and (
            start[0] == c'\n' or (start[0] == c'\r' and end - start > 1 and start[1] == c'\n')
        ):
            place[0] += 1 if start[0] == c'\n' else 2
            return OK
        table.record += 1
        self.bounds[0] = 0
        while True:
            field = at
            if at < end and at[0] == self.quote:
                at = closing_quote(at + 1, end, <uint8_t>self.quote)
                if at == end:
                    if reason == OK:
                        reason = OPEN_QUOTE
                        fault = field
                else:
                    at += 1
                    if reason == OK and not self._field_ends(at, end):
                        reason = TEXT_AFTER_QUOTE
                        fault = at
            at = find_field_end(at, end, self.delimiter)
            length = at - field
            if length > 0 and at < end and at[0] == c'\n' and (at - 1)[0] == c'\r':
                length -= 1
            if length > self.max_text and reason == OK:
                reason = TEXT_TOO_LONG
                fault = field
            fields += 1
            if fields <= self.fields:
                self.bounds[fields] = <uint32_t>(at - start + 1)
            if at == end or at[0] == c'\n':
                break
            at += 1
        run.ended = at < end
        run.base = start
        run.position = start - table.block
        run.bounds = self.bounds
        run.ascii = False
        run.doubled = True
        place[0] = at + run.ended
        if run.ended and at > start and (at - 1)[0] == c'\r':
            at -= 1
        if at - start > self.max_record:
            return add_failure(table, start, at, TOO_LONG, -1, 0, 0)
        if reason != OK:
            return add_failure(table, start, at, reason, -1, fault - table.block, at - table.block)
        if fields > self.max_columns:
            return add_failure(table, start, at, TOO_MANY_COLUMNS, -1, fields, self.max_columns)
        if fields != self.fields:
            return add_failure(table, start, at, FIELD_COUNT, -1, fields, self.fields)
        if pad(&run.base, place[0] - start, end, &self.last_record) != OK:
            return NO_MEMORY
        table.record -= 1
        return self._read_run(&run, 1)

    cdef inline bint _field_ends(self, const uint8_t* at, const uint8_t* end) noexcept nogil:
        """Whether nothing is between a closing quote before `at` and the end of its field."""
        if at == end or at[0] == self.delimiter or at[0] == c'\n':
            return True
        return at[0] == c'\r' and end - at > 1 and at[1] == c'\n'

    cdef int _read_run(self, Run* run, Py_ssize_t n) noexcept nogil:
        """Read `n` records, all of whose fields are there; OK or NO_MEMORY."""
        cdef Table* table = &self.table
        cdef int misfits
        while n > 0:
            run.n = min(n, RUN_ROWS)
            while table.capacity - table.rows <= run.n:
                if grow(table) != OK:
                    return NO_MEMORY
            misfits = self._read_columns(run)
            if misfits < 0 or (misfits and self._sort_out(run) != OK):
                return NO_MEMORY
            if not misfits:
                table.rows += run.n
            table.record += run.n
            run.bounds += run.n * self.fields
            n -= run.n
        return OK

    cdef int _sort_out(self, const Run* run) noexcept nogil:
        """Make rows of the records of a run that fit, and failures of the others; OK or NO_MEMORY.

        The rows before the first misfit stand. Those behind one are read again, to where they belong.
        """
        cdef Table* table = &self.table
        cdef Misfit* misfit
        cdef Run part = run[0]
        cdef const uint8_t* start
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t first
        cdef int64_t end
        cdef int status = OK
        while self.misfits[i].reason == OK:
            i += 1
        table.rows += i
        while i < run.n:
            misfit = &self.misfits[i]
            part.bounds = run.bounds + i * self.fields
            if misfit.reason != OK:
                start = table.block + run.position + part.bounds[0]
                end = run.position + part.bounds[self.fields] - 1
                if run.ended and table.block + end > start and table.block[end - 1] == c'\r':
                    end -= 1
                if status == OK:
                    status = add_failure(
                        table,
                        start,
                        table.block + end,
                        misfit.reason,
                        misfit.column,
                        misfit.value,
                        misfit.value_end,
                    )
                misfit.reason = OK
                i += 1
                continue
            first = i
            while i < run.n and self.misfits[i].reason == OK:
                i += 1
            part.n = i - first
            self._forget_nulls(run.n)
            if self._read_columns(&part) < 0:
                status = NO_MEMORY
            table.rows += part.n
        # Rows still to come find no NULL of those that were dropped.
        self._forget_nulls(run.n)
        return status

    cdef void _forget_nulls(self, Py_ssize_t n) noexcept nogil:
        """Make the next `n` rows valid again in every column."""
        cdef uint8_t* validity
        cdef Py_ssize_t row
        cdef int i
        for i in range(self.table.columns):
            validity = self.table.slots[i].validity
            if validity != NULL:
                for row in range(self.table.rows, min(self.table.rows + n, self.table.capacity)):
                    validity[row >> 3] |= <uint8_t>(1 << (row & 7))

    cdef int _read_columns(self, const Run* run) noexcept nogil:
        """Write the columns of the next `run.n` rows; how many of them have a value that does not fit, -1 without
        memory. `table.rows` stays."""
        cdef Table* table = &self.table
        cdef Py_ssize_t rows = table.rows
        cdef Slot* slot
        cdef int misfits = 0
        cdef int status
        cdef int i
        self._write_spans(run)
        for i in range(table.columns):
            slot = &table.slots[i]
            if slot.kind == TEXT:
                status = self._read_texts(run, i)
            elif slot.kind == INTEGER:
                status = self._read_integers(run, i)
            elif slot.kind == REAL:
                status = self._read_doubles(run, i)
            elif slot.kind == INSTANT:
                status = self._read_timestamps(run, i)
            else:
                status = self._read_others(run, i)
            table.rows = rows
            if status < 0:
                return -1
            misfits += status
        return misfits

    cdef void _write_spans(self, const Run* run) noexcept nogil:
        """Write the bytes of each row."""
        cdef int64_t* starts = self.table.starts + self.table.rows
        cdef int64_t* ends = self.table.ends + self.table.rows
        cdef const uint32_t* bound = run.bounds
        cdef Py_ssize_t fields = self.fields
        cdef int64_t position = run.position
        cdef Py_ssize_t i
        cdef uint32_t stop
        for i in range(run.n):
            starts[i] = position + bound[0]
            stop = bound[fields] - 1
            if run.ended and stop > bound[0] and run.base[stop - 1] == c'\r':
                stop -= 1
            ends[i] = position + stop
            bound += fields

    cdef int _read_texts(self, const Run* run, int column) noexcept nogil:
        cdef Slot* slot = &self.table.slots[column]
        cdef const uint32_t* bound = run.bounds + self.sources[column]
        cdef bint trims = run.ended and self.sources[column] == self.fields - 1
        cdef Py_ssize_t row = self.table.rows
        cdef Py_ssize_t length
        cdef Py_ssize_t i
        cdef uint8_t* out
        cdef int misfits = 0
        cdef Text text
        # The copies are of 16 bytes.
        if reserve_text(&self.table, slot, run.bounds[run.n * self.fields] - run.bounds[0] + 16) != OK:
            return -1
        out = text_place(&self.table, slot)
        for i in range(run.n):
            text = text_of(run.base, bound, trims, self.quote)
            bound += self.fields
            length = text.stop - text.start
            if text.quoted or not is_null(&self.nulls, text.start, length):
                if run.ascii or is_utf8(text.start, text.stop):
                    if not text.quoted or not run.doubled or find(text.start, text.stop, self.quote) == text.stop:
                        memcpy(out, text.start, 16)
                        if length > 16:
                            memcpy(out + 16, text.start + 16, length - 16)
                        out += length
                    else:
                        out = copy_quoted(out, text.start, text.stop, <uint8_t>self.quote)
                else:
                    misfits += self._misfit(run, i, column, NOT_UTF8, &text)
            elif self._write_null(slot, row + i) != OK:
                return -1
            slot.offsets[row + i + 1] = <int32_t>(out - slot.text)
        return misfits

    cdef int _read_integers(self, const Run* run, int column) noexcept nogil:
        cdef Slot* slot = &self.table.slots[column]
        cdef const uint32_t* bound = run.bounds + self.sources[column]
        cdef bint trims = run.ended and self.sources[column] == self.fields - 1
        cdef Py_ssize_t row = self.table.rows
        cdef int64_t low = slot.low
        cdef int64_t high = slot.high
        cdef int64_t value = 0
        cdef Py_ssize_t i
        cdef int misfits = 0
        cdef int status
        cdef Text text
        for i in range(run.n):
            text = text_of(run.base, bound, trims, self.quote)
            bound += self.fields
            self.table.rows = row + i
            if (
                (not self.nulls.numeric or text.quoted)
                and short_integer(text.start, text.stop - text.start, &value)
                and low <= value <= high
            ):
                put_integer(&self.table, slot, value)
                continue
            status = self._read_other(run, i, column, &text)
            if status < 0:
                return -1
            misfits += status
        return misfits

    cdef int _read_doubles(self, const Run* run, int column) noexcept nogil:
        cdef Slot* slot = &self.table.slots[column]
        cdef const uint32_t* bound = run.bounds + self.sources[column]
        cdef bint trims = run.ended and self.sources[column] == self.fields - 1
        cdef Py_ssize_t row = self.table.rows
        cdef double* values = <double*>slot.values + row
        cdef Py_ssize_t i
        cdef int misfits = 0
        cdef int status
        cdef Text text
        for i in range(run.n):
            text = text_of(run.base, bound, trims, self.quote)
            bound += self.fields
            if (not self.nulls.numeric or text.quoted) and short_double(
                text.start, text.stop - text.start, values + i
            ):
                continue
            self.table.rows = row + i
            status = self._read_other(run, i, column, &text)
            if status < 0:
                return -1
            misfits += status
        return misfits

    cdef int _read_timestamps(self, const Run* run, int column) noexcept nogil:
        cdef Slot* slot = &self.table.slots[column]
        cdef const uint32_t* bound = run.bounds + self.sources[column]
        cdef bint trims = run.ended and self.sources[column] == self.fields - 1
        cdef Py_ssize_t row = self.table.rows
        cdef int64_t* values = <int64_t*>slot.values + row
        cdef Py_ssize_t i
        cdef bint naive = False
        cdef int misfits = 0
        cdef int status
        cdef Text text
        for i in range(run.n):
            text = text_of(run.base, bound, trims, self.quote)
            bound += self.fields
            if (not self.nulls.numeric or text.quoted) and short_timestamp(
                text.start, text.stop - text.start, &self.day, values + i, &naive
            ):
                if slot.zoned:
                    slot.naive[row + i] = naive
                continue
            self.table.rows = row + i
            status = self._read_other(run, i, column, &text)
            if status < 0:
                return -1
            misfits += status
        return misfits

    cdef int _read_others(self, const Run* run, int column) noexcept nogil:
        cdef const uint32_t* bound = run.bounds + self.sources[column]
        cdef bint trims = run.ended and self.sources[column] == self.fields - 1
        cdef Py_ssize_t row = self.table.rows
        cdef Py_ssize_t i
        cdef int misfits = 0
        cdef int status
        cdef Text text
        for i in range(run.n):
            text = text_of(run.base, bound, trims, self.quote)
            bound += self.fields
            self.table.rows = row + i
            status = self._read_other(run, i, column, &text)
            if status < 0:
                return -1
            misfits += status
        return misfits

    cdef int _read_other(self, const Run* run, Py_ssize_t i, int column, const Text* text) noexcept nogil:
        """Write the value of a column that is no TEXT to the row `table.rows`, the `i`th of the run; whether it
        does not fit, -1 without memory."""
        cdef Table* table = &self.table
        cdef Slot* slot = &table.slots[column]
        cdef const uint8_t* start = text.start
        cdef const uint8_t* stop = text.stop
        cdef Number number
        cdef int reason
        cdef int truth
        if not text.quoted and is_null(&self.nulls, start, stop - start):
            return -1 if self._write_null(slot, table.rows) != OK else 0
        if text.quoted and run.doubled and find(start, stop, <uint8_t>self.quote) < stop:
            if hold(&self.unquoted, stop - start) != OK:
                return -1
            stop = copy_quoted(self.unquoted.bytes, start, stop, <uint8_t>self.quote)
            start = self.unquoted.bytes
        if slot.kind == TRUTH:
            truth = read_truth(start, stop - start)
            reason = WRONG_TYPE if truth < 0 else put_truth(table, slot, truth)
        elif (slot.kind == INSTANT or slot.kind == DAY) and stop - start >= 10 and start[4] == c'-':
            reason = put_time(table, slot, start, stop)
        elif scan_text_number(start, stop, stop, &number):
            reason = put_number(table, slot, &number)
        else:
            reason = BAD_TIME if slot.kind == INSTANT or slot.kind == DAY else WRONG_TYPE
        return 0 if reason == OK else self._misfit(run, i, column, reason, text)

    cdef int _misfit(self, const Run* run, Py_ssize_t i, int column, int reason, const Text* text) noexcept nogil:
        """Note that a value does not fit, unless one of the row was noted already; how many rows that makes."""
        cdef Misfit* misfit = &self.misfits[i]
        if misfit.reason != OK:
            return 0
        misfit.reason = reason
        misfit.column = column
        misfit.value = run.position + (text.start - run.base)
        misfit.value_end = run.position + (text.stop - run.base)
        return 1

    cdef inline int _write_null(self, Slot* slot, Py_ssize_t row) noexcept nogil:
        """Make a column NULL in a row; OK or NO_MEMORY. The offsets of a text are the caller's."""
        if slot.validity == NULL and hold_validity(&self.table, slot) != OK:
            return NO_MEMORY
        slot.validity[row >> 3] &= ~<uint8_t>(1 << (row & 7))
        if slot.kind == TRUTH:
            slot.values[row >> 3] &= ~<uint8_t>(1 << (row & 7))
        elif slot.kind != TEXT:
            memset(slot.values + row * slot.width, 0, slot.width)
        if slot.zoned:
            slot.naive[row] = False
        return OK
