"""Runs every record of the `.slt` files beside this one: one test item per query and mode.

`slt.py` says how records are written, `data.py` what is in the tables.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import data
import pyarrow as pa
import pytest
from modes import MODES, Mode, mode_of
from slt import Query, Refusal, read

from velostream.errors import VelostreamError
from velostream.testing import oracle, run_query

FILES = sorted(Path(__file__).parent.rglob("*.slt"))
RECORDS = [record for file in FILES for record in read(file)]


def tables_of(sql: str) -> dict[str, pa.Table]:
    """The tables that a script may read: those whose names stand in it."""
    words = set(re.findall(r"\w+", sql.lower()))
    return {name: data.table(name) for name in data.BUILDERS if name in words}


@cache
def expected(query: Query) -> pa.Table:
    if query.rows is not None:
        return query.rows
    if query.oracle is not None:
        return oracle.run([(None, query.oracle)], tables_of(query.oracle), query.types)
    return oracle.answer(query.sql, tables_of(query.sql), query.types)


def latest(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """The last row of each key."""
    last = {
        tuple(row): at for at, row in enumerate(zip(*(table[key].to_pylist() for key in keys), strict=True))
    }
    return table.take(pa.array(sorted(last.values()), pa.int64()))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = metafunc.config.getoption("--all-modes")
    if "query" in metafunc.fixturenames:
        cases = [
            pytest.param(record, mode, id=f"{record.id}-{mode.id}")
            for record in RECORDS
            if isinstance(record, Query) and (every or not record.full)
            for mode in (MODES if every else [mode_of(record.id)])
        ]
        metafunc.parametrize(("query", "mode"), cases)
    if "refusal" in metafunc.fixturenames:
        refusals = [pytest.param(record, id=record.id) for record in RECORDS if isinstance(record, Refusal)]
        metafunc.parametrize("refusal", refusals)


def test_query_answers_as_the_oracle(query: Query, mode: Mode) -> None:
    tables = tables_of(query.sql)
    rows = sum(table.num_rows for table in tables.values())
    got, report = run_query(
        query.sql, mode.processor, tables=tables, block_size="1MiB", block_records=mode.blocks_for(rows)
    )
    if query.latest:
        got = latest(got, query.latest)
    problem = oracle.difference(
        got,
        expected(query),
        exact=not re.search(r"\b(SUM|AVG)\s*\(", query.sql, re.IGNORECASE),
        ordered=not re.search(r"\b(GROUP BY|COUNT|SUM|AVG|MIN|MAX)\b", query.sql, re.IGNORECASE),
    )
    assert problem is None, problem
    counts = report.records
    assert counts["failed"] == query.failed
    assert counts["late"] == 0  # the input is bounded, so its disorder is unlimited
    assert counts["used"] + counts["filtered"] + counts["late"] + counts["failed"] == counts["in"]
    if ";" not in query.sql:
        assert counts["in"] == rows


def test_script_is_refused_with_its_place(refusal: Refusal) -> None:
    with pytest.raises(VelostreamError) as caught:
        run_query(refusal.sql, "v1", tables={"trades": data.table("trades"), **tables_of(refusal.sql)})
    text = caught.value.render()
    assert re.search(refusal.pattern, text, re.DOTALL), text
