"""The ways to fill the masks of `simd/csv_masks.h`, so that tests can compare them."""

from libc.stdint cimport uint8_t

from cython_ext.csv_index cimport (
    CsvMasks,
    csv_masks_best,
    csv_masks_narrow,
    csv_masks_scalar,
    csv_masks_way,
)


cdef tuple _masks(csv_masks_way fill, const uint8_t* at, uint8_t delimiter, uint8_t quote):
    cdef CsvMasks found
    cdef bint high = fill(at, 1, delimiter, quote, &found)
    return high, found.delimiters, found.newlines, found.returns, found.quotes


def masks(const uint8_t[::1] data, uint8_t delimiter, uint8_t quote):
    """For 64 bytes by each way, the widest of this CPU, the narrowest for any of its kind and the portable one:
    whether a byte is not ASCII, then the delimiters, newlines, carriage returns and quotes as bits."""
    if data.shape[0] != 64:
        raise ValueError("masks are of 64 bytes")
    return (
        _masks(csv_masks_best(), &data[0], delimiter, quote),
        _masks(csv_masks_narrow(), &data[0], delimiter, quote),
        _masks(csv_masks_scalar, &data[0], delimiter, quote),
    )
