"""A job without an end that is killed before its first commit leaves nothing that comes twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import velostream
from tests.crash.processes import Zygote


@pytest.mark.parametrize("name", ["out.ndjson", "out.csv", "out-{part}.parquet"])
def test_rows_of_a_run_that_never_committed_do_not_stay(tmp_path: Path, name: str) -> None:
    source, out = tmp_path / "in.ndjson", tmp_path / name
    source.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(1000)))
    if name == "out.ndjson":
        out.write_text('{"n":-1}\n')
    config = {
        "name": "endless",
        "sql": "CREATE STREAM out AS SELECT n FROM t",
        "sources": {"t": {"kind": "file", "path": str(source), "follow": True, "schema": {"n": "BIGINT"}}},
        "sinks": {"out": {"kind": "file", "path": str(out)}},
        "processor": {"version": "v1"},
        "delivery": {"guarantee": "exactly_once", "interval": "20ms"},
        "state": {"path": str(tmp_path / "state")},
    }
    with Zygote() as zygote:
        # The first commit has no rows; those of the second are written, and lost three times.
        for _ in range(3):
            assert zygote.run(config, "epoch.begin:2").killed
        assert zygote.run(config, "epoch.published:2").killed
    rows = velostream.committed(out).read()
    if isinstance(rows, bytes):
        numbers = [int(line.strip('{}"n:')) for line in rows.decode().splitlines() if line != "n"]
    else:
        numbers = rows["n"].to_pylist()
    assert numbers == ([-1] if name == "out.ndjson" else []) + list(range(1000))
