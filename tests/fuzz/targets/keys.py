"""Keys of sliced columns of odd text and fixed width: equal ones, and only those, share a group."""

from __future__ import annotations

import pyarrow as pa

from tests.fuzz.draw import Draw, exact_buffer, text_array
from velostream.kernels import GroupTable, KeyEncoder

LAYOUTS = (("text",), ("text", "int"), ("int", "text", "text"), ("text", "tiny", "text", "flag"))


def check(data: bytes) -> None:
    draw = Draw(data)
    lead = draw.number(10)
    layout = draw.choice(LAYOUTS)
    texts = draw.texts()
    columns = [column_of(kind, texts, at, lead) for at, kind in enumerate(layout)]
    types = [column.type for column in columns]
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    keys = KeyEncoder(types).encode(columns)
    assert keys.n == len(rows)
    hashes = keys.hashes.tolist()
    table = GroupTable(types)
    known: dict[tuple[object, ...], int] = {}
    expected = [known.setdefault(row, len(known)) for row in rows]
    slots = table.assign(keys)
    assert slots.tolist() == expected
    assert len({row: value for row, value in zip(rows, hashes, strict=True)}) == len(known)
    assert len(set(zip(rows, hashes, strict=True))) == len(known), "a key has two hashes"
    decoded = table.keys(table.touched(slots))
    for column in decoded:
        column.validate(full=True)
    order = table.touched(slots).tolist()
    ordered = list(known)
    assert list(zip(*(column.to_pylist() for column in decoded), strict=True)) == [ordered[k] for k in order]


def column_of(kind: str, texts: list[str | None], at: int, lead: int) -> pa.Array:
    """The texts, turned by `at` places, or what is made of their lengths."""
    turned = texts[at:] + texts[:at]
    if kind == "text":
        return text_array(turned, lead + at)
    sizes = [0] * lead + [0 if text is None else len(text) for text in turned]
    if kind == "flag":
        return pa.array([size % 2 == 1 for size in sizes]).slice(lead)
    type = pa.int64() if kind == "int" else pa.int8()
    width = type.bit_width // 8
    values = exact_buffer(b"".join((size % 128).to_bytes(width, "little") for size in sizes))
    return pa.Array.from_buffers(type, len(texts), [None, values], offset=lead)
