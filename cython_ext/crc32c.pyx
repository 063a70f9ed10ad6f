"""The checksum of Kafka's record batches: CRC-32C. See the header."""

from libc.stdint cimport uint8_t, uint32_t

from cython_ext.clock cimport enter_kernel, leave_kernel


cdef extern from "crc32c.h" nogil:
    ctypedef uint32_t (*crc32c_way)(uint32_t state, const uint8_t* at, size_t n)

    crc32c_way crc32c_open()
    uint32_t crc32c_tables(uint32_t state, const uint8_t* at, size_t n)


cdef crc32c_way _best = crc32c_open()


cdef uint32_t crc32c_of(const uint8_t* at, Py_ssize_t n) noexcept nogil:
    return ~_best(0xFFFFFFFFu, at, n)


def crc32c(const uint8_t[::1] data):
    """The CRC-32C of the bytes."""
    cdef uint32_t sum = 0
    if data.shape[0]:
        with nogil:
            enter_kernel()
            sum = crc32c_of(&data[0], data.shape[0])
            leave_kernel()
    return sum


def crc32c_by_tables(const uint8_t[::1] data):
    """The same without the CPU's instruction, for tests to compare."""
    return ~crc32c_tables(0xFFFFFFFFu, &data[0], data.shape[0]) & 0xFFFFFFFFu if data.shape[0] else 0
