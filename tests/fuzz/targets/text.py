"""Functions of text against Python's `str`."""

from __future__ import annotations

import pyarrow as pa

from tests.fuzz.draw import Draw, text_array
from velostream.kernels import text

EXTREMES = (0, 1, -1, 2, -2, 3, -3, 7, -7, (1 << 63) - 1, -(1 << 63))


def check(data: bytes) -> None:
    draw = Draw(data)
    lead = draw.number(10)
    constant = draw.number(2)
    first, count = draw.choice(EXTREMES), draw.choice(EXTREMES)
    texts = draw.texts()
    third = (len(texts) + 2) // 3
    values = texts[:third]
    parts, news = ((texts[third * k :] + [""] * third)[:third] for k in (1, 2))
    if constant:
        parts, news = parts[:1] * third, news[:1] * third
    value_array = text_array(values, lead)
    part_array, new_array = text_array(parts, lead // 2), text_array(news, lead // 3)
    part, new = (part_array[0], new_array[0]) if constant else (part_array, new_array)
    numbers = pa.scalar(first, pa.int64()), pa.scalar(count, pa.int64())
    results = (
        text.substring(value_array, *numbers),
        text.left(value_array, numbers[0]),
        text.right(value_array, numbers[0]),
        text.find_text(value_array, part),
        text.starts_with(value_array, part),
        text.ends_with(value_array, part),
        text.replace(value_array, part, new),
        text.equal_text(value_array, part_array[0] if third else pa.scalar("")),
    )
    for result in results:
        result.validate(full=True)
    for value, piece, other, *found in zip(
        values, parts, news, *(result.to_pylist() for result in results), strict=True
    ):
        wanted = [None] * 7 if value is None else expect(value, piece, other, first, count)
        wanted.append(None if value is None or parts[0] is None else value == parts[0])
        assert found == wanted, (value, piece, other, first, count)


def expect(value: str, part: str | None, new: str | None, first: int, count: int) -> list[object]:
    found: list[object] = [between(value, first, count), left(value, first), right(value, first)]
    if part is None:
        return [*found, None, None, None, None]
    replaced = None if new is None else value.replace(part, new) if part else value
    return [*found, value.find(part) + 1, value.startswith(part), value.endswith(part), replaced]


def between(value: str, first: int, count: int) -> str:
    begin = first - 1 if first >= 0 else len(value) + first
    begin, end = (begin, begin + count) if count >= 0 else (begin + count, begin)
    return value[max(begin, 0) : max(end, 0)]


def left(value: str, count: int) -> str:
    return value[:count] if count >= 0 or -count < len(value) else ""


def right(value: str, count: int) -> str:
    if count < 0:
        return value[-count:]
    return value[max(len(value) - count, 0) :]
