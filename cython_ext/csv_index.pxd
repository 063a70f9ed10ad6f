"""The index of CSV text: see `csv_index.h`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "csv_index.h" nogil:
    ctypedef struct CsvMasks:
        uint64_t delimiters
        uint64_t newlines
        uint64_t returns
        uint64_t quotes

    ctypedef struct CsvIndex:
        uint32_t* bounds
        uint32_t* lines
        size_t records
        bint ascii
        bint doubled

    ctypedef int (*csv_masks_way)(const uint8_t*, size_t, uint8_t, uint8_t, CsvMasks*)

    int csv_masks_scalar(const uint8_t* at, size_t blocks, uint8_t delimiter, uint8_t quote, CsvMasks* masks)
    csv_masks_way csv_masks_narrow()
    csv_masks_way csv_masks_best()
    void csv_index(
        csv_masks_way fill, const uint8_t* at, size_t n, uint8_t delimiter, int quote, CsvIndex* index
    )
    size_t csv_last_end(
        csv_masks_way fill, const uint8_t* at, size_t n, uint8_t delimiter, uint8_t quote, bint* hold
    )
