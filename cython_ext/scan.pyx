"""The scans of `simd/scan.h`, each beside its scalar twin, so that tests can compare them."""

from libc.stdint cimport uint8_t

from cython_ext.cursor cimport (
    ascii_prefix,
    ascii_prefix_scalar,
    field_prefix,
    field_prefix_scalar,
    text_prefix,
    text_prefix_scalar,
)
from cython_ext.planted cimport plant_overread


def prefixes(const uint8_t[::1] data, uint8_t delimiter):
    """For 16 bytes: (wide, scalar) of the text, the field and the ASCII scan."""
    if data.shape[0] != 16:
        raise ValueError("a scan takes 16 bytes")
    plant_overread(&data[0], &data[0] + 16)
    return (
        (text_prefix(&data[0]), text_prefix_scalar(&data[0])),
        (field_prefix(&data[0], delimiter), field_prefix_scalar(&data[0], delimiter)),
        (ascii_prefix(&data[0]), ascii_prefix_scalar(&data[0])),
    )
