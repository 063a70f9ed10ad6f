"""The masks of CSV text, filled in every way, against a naive loop; quotes wherever they fall among them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.formats.base import formats
from velostream.kernels import csv_masks
from velostream.sql.types import VARCHAR, Field, Schema

CSV = formats["csv"]
blocks = st.one_of(
    st.binary(min_size=64, max_size=64),
    st.lists(st.sampled_from(b"aaaaaaa\"'\r\n,;+-\x8a\xff\x00"), min_size=64, max_size=64).map(bytes),
)


@given(blocks, st.sampled_from(b",;\t|~"), st.sampled_from(b"\"'+"))
@settings(max_examples=500, deadline=None)
def test_every_way_marks_the_bytes_that_a_loop_does(block: bytes, delimiter: int, quote: int) -> None:
    expected = (
        any(byte > 127 for byte in block),
        *(sum(1 << n for n in range(64) if block[n] == byte) for byte in (delimiter, 10, 13, quote)),
    )
    assert set(csv_masks.masks(block, delimiter, quote)) == {expected}


def rows(data: bytes) -> list[tuple[object, ...]]:
    schema = Schema((Field("a", VARCHAR), Field("b", VARCHAR)))
    decoder = CSV(CSV.Options(header=False, nulls=[])).decoder(
        schema, ["a", "b"], CSV(CSV.Options(header=False)).layout(b"")
    )
    decoded = decoder.decode(memoryview(data), 0, 10_000)
    found = [tuple(row.values()) for row in decoded.batch.to_pylist()]
    return found + [(error.code, data[error.start : error.end]) for error in decoded.errors]


odd = st.sampled_from(
    [
        b'"a""b",c\n',
        b'"","\r\n"\r\n',
        b'"x"y,z\n',
        b'x"y,"z"\n',
        b'"x"\r,y\n',
        b"\r\n",
        b"a,b,c\n",
        b'"""",""""""\n',
    ]
)


@given(st.integers(0, 130), st.lists(odd, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_quotes_read_alike_wherever_they_fall_among_the_masks(before: int, records: list[bytes]) -> None:
    # Each record alone is read by the end of the block; behind others it is read by the index.
    ahead = b"x" * before + b",y\n"
    plain = b"p,q\n" * 40
    splitter = CSV(CSV.Options()).splitter()
    expected = [row for record in records for row in rows(record)]
    found = rows(ahead + b"".join(records) + plain)
    assert sorted(map(repr, found)) == sorted(map(repr, [*rows(ahead), *expected, *rows(plain)]))
    data = ahead + b"".join(records) + b'tail,"\n'
    assert splitter.cut(memoryview(data), final=False) == len(data) - len(b'tail,"\n')
