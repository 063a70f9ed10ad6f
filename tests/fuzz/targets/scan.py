"""The wide scans of 16 bytes against their scalar twins and Python."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.draw import Draw, exact
from velostream.kernels import plain_bytes, scan


def check(data: bytes) -> None:
    draw = Draw(data)
    delimiter = draw.number(128)
    body = draw.rest()[:16].ljust(16, b" ")
    text, field, ascii = scan.prefixes(exact(body), delimiter)
    assert text == twice(body, lambda byte: byte < 0x20 or byte > 0x7F or byte in b'"\\')
    assert field == twice(body, lambda byte: byte in (delimiter, 0x0A))
    assert ascii == twice(body, lambda byte: byte > 0x7F)
    json_marks, csv_marks = plain_bytes(exact(body), b',"')
    assert json_marks == twice(body, lambda byte: byte < 0x20 or byte in b'"\\')
    assert csv_marks == twice(body, lambda byte: byte in b',"\r\n')


def twice(body: bytes, stops: Callable[[int], bool]) -> tuple[int, int]:
    count = next((at for at, byte in enumerate(body) if stops(byte)), len(body))
    return count, count
