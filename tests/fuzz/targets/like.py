"""LIKE against regular expressions."""

from __future__ import annotations

import re

from tests.fuzz.draw import Draw, text_array
from velostream.kernels import like


def check(data: bytes) -> None:
    draw = Draw(data)
    lead = draw.number(10)
    constant = draw.number(2)
    escape = draw.choice(("", "\\", "%", "_", "é", "a"))
    # Backtracking expressions take exponential time on many wildcards.
    texts = [text if text is None else text[:24] for text in draw.texts()[:12]]
    half = (len(texts) + 1) // 2
    values, patterns = texts[:half], [*texts[half:], ""][:half]
    if constant:
        patterns = patterns[:1] * half
    pattern_array = text_array(patterns, lead // 2)
    result, flags = like.match_like(
        text_array(values, lead), pattern_array[0] if constant else pattern_array, escape.encode()
    )
    result.validate(full=True)
    expected: list[bool | None] = []
    for value, pattern in zip(values, patterns, strict=True):
        expected.append(None if value is None or pattern is None else matches(value, pattern, escape))
    flagged = [False] * half if flags is None else flags.tolist()
    for value, pattern, found, flag, wanted in zip(
        values, patterns, result.to_pylist(), flagged, expected, strict=True
    ):
        if value is None or pattern is None:
            assert found is None and not flag
        else:
            assert flag == (wanted is None)
            assert flag or found == wanted, (value, pattern, escape)


def matches(value: str, pattern: str, escape: str) -> bool | None:
    """What SQL says of LIKE; None for a pattern that ends in its escape."""
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            following = next(characters, None)
            if following is None:
                return None
            parts.append(re.escape(following))
        elif character == "%":
            if parts[-1:] != [".*"]:
                parts.append(".*")
        else:
            parts.append("." if character == "_" else re.escape(character))
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None
