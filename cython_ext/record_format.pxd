"""Kafka's record batch, format version 2, as it lies in bytes; all fixed numbers are big-endian.

| at | bytes | field |
|---|---|---|
| 0 | 8 | base offset: that of the batch's first record when it was written |
| 8 | 4 | length of all that follows |
| 12 | 4 | partition leader epoch |
| 16 | 1 | magic: the format version |
| 17 | 4 | CRC-32C of all that follows |
| 21 | 2 | attributes: bits 0-2 codec, 3 log-append time, 4 transactional, 5 control, 6 delete horizon |
| 23 | 4 | the last record's offset less the base offset |
| 27 | 8 | base timestamp, ms (the delete horizon, when bit 6 is set; records count from it all the same) |
| 35 | 8 | largest timestamp, ms |
| 43 | 8 | producer id |
| 51 | 2 | producer epoch |
| 53 | 4 | base sequence |
| 57 | 4 | number of records |
| 61 | … | the records, one after the other, together compressed |

A record: length of what follows (varint), attributes (1 byte, unused), timestamp less the base timestamp
(varlong), offset less the base offset (varint), length of the key (varint, -1: null) and the key, length of the
value (varint, -1: null) and the value, number of headers (varint); a header: length of its key (varint) and the
key in UTF-8, length of its value (varint, -1: null) and the value. Varints are those of protocol buffers in
zigzag encoding.

Source: Apache Kafka's documentation, "Message Format" (https://kafka.apache.org/documentation/#messageformat).
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from cython_ext.cursor cimport Cursor


cdef enum:
    AT_LENGTH = 8
    AT_LEADER_EPOCH = 12
    AT_MAGIC = 16
    AT_CRC = 17
    AT_ATTRIBUTES = 21
    AT_LAST_DELTA = 23
    AT_BASE_TIMESTAMP = 27
    AT_MAX_TIMESTAMP = 35
    AT_PRODUCER_ID = 43
    AT_PRODUCER_EPOCH = 51
    AT_BASE_SEQUENCE = 53
    AT_COUNT = 57
    AT_RECORDS = 61

    MAGIC = 2
    CODEC_BITS = 0x07
    LOG_APPEND_TIME = 0x08
    TRANSACTIONAL = 0x10
    CONTROL = 0x20

    # The fewest bytes of a record and of a header.
    LEAST_RECORD = 7
    LEAST_HEADER = 2


cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "bytes are swapped from little-endian order"
    #endif
    static inline int16_t load_big16(const uint8_t *at) { uint16_t v; memcpy(&v, at, 2); return (int16_t)__builtin_bswap16(v); }
    static inline int32_t load_big32(const uint8_t *at) { uint32_t v; memcpy(&v, at, 4); return (int32_t)__builtin_bswap32(v); }
    static inline int64_t load_big64(const uint8_t *at) { uint64_t v; memcpy(&v, at, 8); return (int64_t)__builtin_bswap64(v); }
    static inline void store_big16(uint8_t *at, uint16_t v) { v = __builtin_bswap16(v); memcpy(at, &v, 2); }
    static inline void store_big32(uint8_t *at, uint32_t v) { v = __builtin_bswap32(v); memcpy(at, &v, 4); }
    static inline void store_big64(uint8_t *at, uint64_t v) { v = __builtin_bswap64(v); memcpy(at, &v, 8); }
    """
    int leading_zeros "__builtin_clzll"(uint64_t value)
    int16_t load_big16(const uint8_t* at)
    int32_t load_big32(const uint8_t* at)
    int64_t load_big64(const uint8_t* at)
    void store_big16(uint8_t* at, int16_t value)
    void store_big32(uint8_t* at, int32_t value)
    void store_big64(uint8_t* at, int64_t value)


cdef extern from "record_copy.h" nogil:
    enum: RECORD_SLACK
    void record_copy(uint8_t* to, const uint8_t* source, size_t n, const uint8_t* end)
    void record_copy_line(uint8_t* to, const uint8_t* source, size_t n, const uint8_t* end)


cdef inline bint read_zigzag(Cursor* cursor, int bits, int64_t* out) noexcept nogil:
    """A varint (`bits` 32) or varlong (64); False when the bytes end within it or it has more bits."""
    cdef uint64_t raw
    cdef uint8_t byte
    cdef int shift = 0
    # Most lengths and differences take one byte or two.
    if cursor.end - cursor.at >= 2:
        raw = cursor.at[0]
        if raw < 0x80:
            cursor.at += 1
            out[0] = <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)
            return True
        if cursor.at[1] < 0x80:
            raw = (raw & 0x7F) | <uint64_t>cursor.at[1] << 7
            cursor.at += 2
            out[0] = <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)
            return True
    raw = 0
    while cursor.at < cursor.end:
        byte = cursor.at[0]
        cursor.at += 1
        # Bits that do not fit, or a byte too many.
        if shift > bits - 7 and byte >> (bits - shift):
            return False
        raw |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            out[0] = <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)
            return True
        shift += 7
    return False


cdef inline int zigzag_size(int64_t value) noexcept nogil:
    """The bytes that a varint or varlong takes: seven bits each."""
    cdef uint64_t raw = (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)
    return (70 - leading_zeros(raw | 1)) // 7


cdef inline uint8_t* write_zigzag(uint8_t* at, int64_t value) noexcept nogil:
    """Write a varint or varlong; gives the byte behind it."""
    cdef uint64_t raw = (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)
    while raw >= 0x80:
        at[0] = <uint8_t>(raw | 0x80)
        raw >>= 7
        at += 1
    at[0] = <uint8_t>raw
    return at + 1
