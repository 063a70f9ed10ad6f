"""A fault of debug builds; see the header. Every kernel that reads raw bytes calls it with what it reads."""

from libc.stdint cimport uint8_t


cdef extern from "planted.h" nogil:
    void plant_overread(const uint8_t* at, const uint8_t* end)
