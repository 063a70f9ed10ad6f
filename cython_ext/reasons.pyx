"""Why a record or a value is refused, as kernels report it; `velostream.formats.decoding` has the words."""
