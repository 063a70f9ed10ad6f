"""Where a splitter cuts, against the records that the oracles of both formats read."""

from __future__ import annotations

from tests.fuzz.csv_oracle import records_of
from tests.fuzz.draw import Draw, exact
from velostream.kernels import last_csv_record, last_line, take_csv_records, take_lines


def check(data: bytes) -> None:
    draw = Draw(data)
    wanted = draw.number(8)
    delimiter, quote = draw.choice(b",;\t|"), draw.choice((0x22, 0x27, -1))
    body = draw.rest()
    block = exact(body)
    assert last_line(block) == body.rfind(b"\n") + 1
    taken = 0
    count = 0
    for line in lines_of(body):
        if count == wanted or not line.endswith(b"\n"):
            break
        taken += len(line)
        count += bool(line.strip(b" \t\r\n"))
    assert take_lines(block, wanted) == taken
    taken = last = 0
    count = 0
    for record in records_of(body, delimiter, quote):
        # A record is whole when its newline is there, outside of quotes.
        if record.next == record.end or body[record.next - 1 : record.next] != b"\n":
            break
        last = record.next
        if count < wanted:
            taken = last
            count += record.start != record.end
    assert last_csv_record(block, delimiter, quote) == last
    assert take_csv_records(block, wanted, delimiter, quote) == taken


def lines_of(body: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in body.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines
