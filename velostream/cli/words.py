"""Numbers as people read them."""

from __future__ import annotations

from datetime import datetime


def count(number: float) -> str:
    """A whole number with separators.

    >>> count(336776.4)
    '336,776'
    """
    return f"{number:,.0f}"


def seconds(number: float) -> str:
    """A time with three digits that matter.

    >>> seconds(0.0123), seconds(1.5), seconds(75.2)
    ('12.3 ms', '1.50 s', '75.2 s')
    """
    if number < 0.1:
        return f"{number * 1000:.1f} ms"
    return f"{number:.2f} s" if number < 10 else f"{number:.1f} s"


def size(number: float) -> str:
    """Bytes in the largest unit of 1024 that leaves a number of one or more.

    >>> size(812), size(3 << 20)
    ('812 B', '3.0 MiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def trouble(what: str, since: float, tries: int, given_up: bool = False) -> str:
    """What fails, and since when by the local time; without a try it is waited for.

    >>> trouble("sink 'out'", 0.0, 3).split(" since ")[0], trouble("the state", 0.0, 1, True)[-23:]
    ("sink 'out' fails", ' (given up after 1 try)')
    """
    time = datetime.fromtimestamp(since).strftime("%Y-%m-%d %H:%M:%S")
    if not tries:
        return f"{what} is waited for since {time}"
    counted = f"{tries} {'try' if tries == 1 else 'tries'}"
    return f"{what} fails since {time} ({'given up after ' if given_up else ''}{counted})"


def aligned(rows: list[list[str]], gap: str = "  ") -> list[str]:
    """Rows as lines with their cells in columns.

    >>> aligned([["a", "1"], ["long", "2"]])
    ['a     1', 'long  2']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
