"""What a person and a pipe see of the results."""

from __future__ import annotations

import datetime
import io
import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from velostream.connectors.base import SinkWriter
from velostream.connectors.console import ConsoleSink, ConsoleSinkConfig
from velostream.errors import ConfigError, ConnectorError
from velostream.operators.batch import DELETE, Batch

ROWS = pa.record_batch(
    {
        "carrier": pa.array(["AA", None, "[b]x"]),
        "delay": pa.array([0.1, 2.0, None]),
        "flights": pa.array([1, None, 300]),
        "cost": pa.array([Decimal("1.50"), None, Decimal("0.00")], pa.decimal128(38, 2)),
        "at": pa.array([datetime.datetime(2013, 1, 1, 5), None, datetime.datetime(2013, 1, 1, 5, 0, 0, 500)]),
        "day": pa.array([datetime.date(2013, 1, 1), None, datetime.date(1, 1, 1)]),
        "late": pa.array([True, False, None]),
    }
)
TSV = (
    "carrier\tdelay\tflights\tcost\tat\tday\tlate\n"
    "AA\t0.1\t1\t1.50\t2013-01-01T05:00:00Z\t2013-01-01\ttrue\n"
    "\t2.0\t\t\t\t\tfalse\n"
    "[b]x\t\t300\t0.00\t2013-01-01T05:00:00.000500Z\t0001-01-01\t\n"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def opened(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, bounded: bool = True, **settings: object
) -> SinkWriter:
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", "120")
    return ConsoleSink("out", ConsoleSinkConfig(**settings)).open(ROWS.schema, bounded)  # type: ignore[arg-type]


def write(writer: SinkWriter, *batches: pa.RecordBatch) -> None:
    for batch in batches:
        writer.write(writer.encode(Batch(batch)), batch.num_rows)


def test_a_pipe_gets_tab_separated_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    writer = opened(monkeypatch, stream)
    write(writer, ROWS.slice(0, 1), ROWS.slice(1))
    writer.close(True)
    assert stream.getvalue() == TSV


@pytest.mark.parametrize(("bounded", "style"), [(True, "lines"), (False, "auto")])
def test_lines_are_json_as_rows_come(monkeypatch: pytest.MonkeyPatch, bounded: bool, style: str) -> None:
    stream = Terminal()
    writer = opened(monkeypatch, stream, bounded, style=style)
    write(writer, ROWS.slice(1, 1))
    expected = '{"carrier":null,"delay":2.0,"flights":null,"cost":null,"at":null,"day":null,"late":false}\n'
    assert stream.getvalue() == expected
    writer.close(False)
    assert stream.getvalue() == expected


def test_a_terminal_gets_a_table_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    writer = opened(monkeypatch, stream)
    write(writer, ROWS)
    assert stream.getvalue() == ""
    writer.close(True)
    writer.close(True)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
    cells = [[cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")] for line in lines]
    assert cells[1] == ROWS.schema.names
    assert cells[3:6] == [
        ["AA", "0.1", "1", "1.50", "2013-01-01 05:00:00", "2013-01-01", "true"],
        ["NULL", "2.0", "NULL", "NULL", "NULL", "NULL", "false"],
        ["[b]x", "NULL", "300", "0.00", "2013-01-01 05:00:00.000500", "0001-01-01", "NULL"],
    ]
    assert len(lines) == 7
    # Numbers stand at the right.
    assert "│       1 │" in lines[3]


def test_a_long_table_says_how_many_rows_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    writer = opened(monkeypatch, stream, style="table", max_rows=2)
    write(writer, ROWS.slice(0, 1), *[ROWS] * 1000)
    writer.close(True)
    assert stream.getvalue().endswith("… 2,999 more rows\n")
    assert stream.getvalue().count("2013") == 4


def test_an_incomplete_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    writer = opened(monkeypatch, stream, style="table")
    writer.close(False)
    assert stream.getvalue().startswith("incomplete ")


def test_times_beyond_the_calendar_of_python_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    far = pa.record_batch(
        {"at": pa.array([2**62], pa.timestamp("us")), "day": pa.array([2**30], pa.date32())}
    )
    writer = ConsoleSink("out", ConsoleSinkConfig(style="table")).open(far.schema, True)
    write(writer, far)
    writer.close(True)
    assert "+148108-07-06 14:00:27.387904" in stream.getvalue()
    assert "+2941775-04-07" in stream.getvalue()


def test_deletes_need_a_changelog(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = Batch(ROWS.slice(0, 1), np.array([DELETE], dtype=np.uint8))
    with pytest.raises(ConnectorError, match=r"set sinks\.out\.changelog=true"):
        opened(monkeypatch, io.StringIO()).encode(deleted)
    stream = io.StringIO()
    writer = opened(monkeypatch, stream, changelog=True)
    writer.write(writer.encode(deleted), 1)
    assert stream.getvalue().splitlines()[1].startswith("delete\tAA\t")


def test_a_broken_pipe_and_an_unknown_style_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(ConnectorError, match="cannot write to standard output: Broken pipe"):
        opened(monkeypatch, Broken())
    with pytest.raises(ConfigError, match=r"sinks\.out\.style: unknown style 'tabel'; did you mean 'table'"):
        opened(monkeypatch, io.StringIO(), style="tabel")
