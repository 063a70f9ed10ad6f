"""Groups by key and window, for kernels that find the slots of rows and fold into them at once."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from cython_ext.keys cimport KeyKind, KeyLayout, KeyRows, Keys


cdef extern from "group_store.h" nogil:
    # See the header. What returns an int gives 0, GROUP_NO_MEMORY or GROUP_TOO_MANY.
    enum:
        GROUP_NO_MEMORY
        GROUP_TOO_MANY
        GROUP_FIRST_SLOTS
        GROUP_FAR_COUNT
    ctypedef struct GroupKey:
        int32_t length
    ctypedef struct GroupStore:
        int64_t count
        int64_t capacity
        uint64_t* words
        uint8_t* nulls
        GroupKey* keys
        int64_t* windows
        uint8_t* changed
    int group_init(GroupStore* store, bint by_word, bint keyless)
    void group_free(GroupStore* store)
    int64_t group_bytes(const GroupStore* store)
    int64_t group_window(const GroupStore* store, int64_t slot)
    uint64_t group_hash(const GroupStore* store, int64_t slot)
    const uint8_t* group_key_bytes(const GroupStore* store, int64_t slot, uint8_t* buffer)
    int group_assign(GroupStore* store, const KeyRows* keys, const int32_t* rows, int64_t first,
                     const int64_t* windows, int64_t n, int32_t* slots)
    int group_adopt(GroupStore* store, const GroupStore* other, const int32_t* others, int64_t n, int32_t* slots)
    int group_compact(GroupStore* store, const int32_t* keep, int64_t n)
    void group_mark(GroupStore* store, const int32_t* slots, int64_t n)
    int group_track(GroupStore* store, bint changed)
    int64_t group_changed(const GroupStore* store)
    int64_t group_take_changed(GroupStore* store, int64_t first, int64_t stop, int32_t* slots)


cdef class GroupTable:
    """(key, window) to slot; see the module."""
    cdef readonly KeyLayout layout
    cdef GroupStore store
    # By slot, the number of the last block that touched it; absent until someone asks.
    cdef uint32_t* marks
    cdef Py_ssize_t marked
    cdef uint32_t block
    cdef int _begin_block(self) except -1
    cdef int _check_tracked(self) except -1
    cdef object _column(self, const int32_t[::1] slots, Py_ssize_t column)
    cdef object _words(self, const int32_t[::1] slots)
    cdef object _numbers(self, const int32_t[::1] slots, Py_ssize_t column, KeyKind kind)
    cdef object _texts(self, const int32_t[::1] slots, Py_ssize_t column)
    cdef const uint8_t* _value_at(self, Py_ssize_t slot, Py_ssize_t column, uint8_t* buffer) noexcept nogil


cdef int check_selection(Keys keys, const int32_t[::1] rows, const int64_t[::1] windows) except -1
cdef int raise_group_error(int error) except -1
