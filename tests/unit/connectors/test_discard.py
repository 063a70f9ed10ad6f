"""The discard sink does a file's work, and keeps nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from velostream.connectors.console import ConsoleSinkConfig
from velostream.connectors.discard import DiscardSink, DiscardSinkConfig, discarding
from velostream.connectors.file.sink import FileSink, FileSinkConfig
from velostream.connectors.memory import MemorySinkConfig
from velostream.errors import ConfigError
from velostream.operators.batch import Batch

ROWS = pa.record_batch({"a": pa.array([1, 2, None]), "b": pa.array(["x", 'y"', "z"])})


def _bytes_of(sink: FileSink) -> int:
    writer = sink.open(ROWS.schema, True)
    for _ in range(2):
        writer.write(writer.encode(Batch(ROWS)), ROWS.num_rows)
    writer.close(True)
    return writer.bytes_written


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("rows.ndjson", {}),
        ("rows.csv", {"format_options": {"delimiter": ";"}}),
        ("rows.ndjson.gz", {}),
        ("rows.csv.zst", {"changelog": True}),
        ("rows.parquet", {"format_options": {"compression": "none"}}),
        ("rows", {"format": "csv", "compression": "gzip"}),
    ],
)
def test_as_many_bytes_are_encoded_as_the_replaced_file_would_have(
    tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    config = FileSinkConfig(path=str(tmp_path / name), stream="s", **more)
    replaced = discarding("out", config)
    assert replaced.stream == "s"
    dropped = _bytes_of(DiscardSink("out", replaced))
    assert list(tmp_path.iterdir()) == []
    assert dropped == _bytes_of(FileSink("out", config)) == (tmp_path / name).stat().st_size


def test_ndjson_is_the_default_and_what_a_table_on_the_screen_or_in_memory_becomes() -> None:
    assert discarding("out", MemorySinkConfig(stream="s")) == DiscardSinkConfig(stream="s", format="ndjson")
    console = ConsoleSinkConfig(changelog=True)
    assert discarding("out", console) == DiscardSinkConfig(changelog=True)
    assert DiscardSink("out", DiscardSinkConfig()).describe() == {"kind": "discard", "format": "ndjson"}
    assert _bytes_of(DiscardSink("out", DiscardSinkConfig())) == 2 * len(
        '{"a":1,"b":"x"}\n{"a":2,"b":"y\\""}\n{"a":null,"b":"z"}\n'
    )


def test_a_discarding_sink_stays_as_it_is() -> None:
    config = DiscardSinkConfig(format="csv")
    assert discarding("out", config) is config


def test_an_unknown_format_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        DiscardSink("out", DiscardSinkConfig(format="ndjsn")).open(ROWS.schema, True)
    assert "did you mean 'ndjson'?" in caught.value.render()
