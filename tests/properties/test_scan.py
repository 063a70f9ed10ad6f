"""The wide scans against their scalar twins and a naive loop."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.kernels import scan

blocks = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.lists(st.sampled_from(b'aaaaaaaa"\\\n,\x1f\x20\x7f\x80\xff\x00!#[]'), min_size=16, max_size=16).map(
        bytes
    ),
)


@given(blocks, st.sampled_from(b",;\t|~"))
@settings(max_examples=500, deadline=None)
def test_every_scan_stops_where_a_loop_does(block: bytes, delimiter: int) -> None:
    text = next((n for n, byte in enumerate(block) if byte in b'"\\' or byte < 32 or byte > 127), 16)
    field = next((n for n, byte in enumerate(block) if byte in (delimiter, 10)), 16)
    plain = next((n for n, byte in enumerate(block) if byte > 127), 16)
    assert scan.prefixes(block, delimiter) == ((text, text), (field, field), (plain, plain))
