"""`GROUP BY` with 1 K, 1 M and 10 M distinct keys, `EMIT FINAL`: NDJSON in, one NDJSON row per key out.

DuckDB gets the types declared and one thread. The state is measured when the input has ended.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.data import FOLDER, write_lines
from benchmarks.harness import RATE, Contender, Figure, Target, compare, entry

KEYS = {"1K": 1_000, "1M": 1_000_000, "10M": 10_000_000}
# Coprime to every number of keys: each `keys` records in a row hold each key once, in no order.
STRIDE = 7_368_787
QUERY = "SELECT key, COUNT(*) AS n, SUM(value) AS total FROM numbers GROUP BY key EMIT FINAL"
COLUMNS = {"key": "BIGINT", "value": "BIGINT"}
STATE = Figure("state_mib", "state MiB", 0)
CONTENDERS = tuple(
    Contender(f"{name}, {size} keys", f"{argument}:{size}", needs=needs)
    for size in KEYS
    for name, argument, needs in (("DuckDB, 1 thread", "duckdb", "duckdb"), ("velostream v1", "v1", ""))
)
TARGETS = (
    Target("v1 ≥ 1x DuckDB, 1 M keys", "v1:1M", over="duckdb:1M", at_least=1.0),
    Target("v1 ≥ 1x DuckDB, 10 M keys", "v1:10M", over="duckdb:10M", at_least=1.0),
    Target("v1, 10 M keys ≥ 0.5x of 1 K keys", "v1:10M", over="v1:1K", at_least=0.5),
    Target("v1 state ≤ 1 GiB, 10 M keys", "v1:10M", figure=STATE.key, at_most=1024),
)


def numbers(records: int, keys: int) -> Path:
    """NDJSON of about 32 bytes a record: a key below `keys`, and a value."""
    path = FOLDER / f"numbers-{records}-{keys}.ndjson"
    return write_lines(
        path, records, lambda number: f'{{"key":{number * STRIDE % keys},"value":{number % 1009}}}\n'
    )


def main(records: int) -> None:
    for keys in KEYS.values():
        numbers(records, keys)
    compare(
        "group_by_keys",
        "GROUP BY with many keys",
        records,
        CONTENDERS,
        lambda contender: check(contender, records),
        targets=TARGETS,
        figures=(RATE, STATE),
    )


def check(contender: Contender, records: int) -> None:
    """Raises SystemExit unless the rows are those of DuckDB for the same keys."""
    import duckdb

    size = contender.argument.partition(":")[2]
    base, other = (result_path(argument, records) for argument in (f"duckdb:{size}", contender.argument))
    columns = "{key: 'BIGINT', n: 'BIGINT', total: 'BIGINT'}"
    [(rows, same)] = duckdb.sql(
        f"""
        SELECT count(*), count(*) FILTER (a.n = b.n AND a.total = b.total)
        FROM read_json('{base}', format = 'newline_delimited', columns = {columns}) a
        FULL JOIN read_json('{other}', format = 'newline_delimited', columns = {columns}) b USING (key)
        """
    ).fetchall()
    if rows != same or rows != min(records, KEYS[size]):
        raise SystemExit(f"{contender.name} gives other rows than DuckDB: {same} of {rows} are the same")


def result_path(argument: str, records: int) -> Path:
    """Where a contender leaves its rows."""
    return FOLDER / f"group_by_keys-{argument.replace(':', '-')}-{records}.ndjson"


def run(argument: str, records: int) -> dict[str, float]:
    """Seconds from the first block read to the last row written, and the state's greatest size."""
    engine, _, size = argument.partition(":")
    path, result = numbers(records, KEYS[size]), result_path(argument, records)
    result.unlink(missing_ok=True)  # giving back the former one's pages is no part of a run
    return _duckdb(path, result) if engine == "duckdb" else _velostream(engine, path, result, records)


def _duckdb(path: Path, result: Path) -> dict[str, float]:
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    begun = time.perf_counter()
    connection.sql(
        f"""
        COPY (
            SELECT key, count(*) AS n, sum(value)::BIGINT AS total
            FROM read_json('{path}', format = 'newline_delimited',
                           columns = {{key: 'BIGINT', value: 'BIGINT'}})
            GROUP BY key
        ) TO '{result}' (FORMAT json)
        """
    )
    return {"seconds": time.perf_counter() - begun, STATE.key: 0.0}


def _velostream(processor: str, path: Path, result: Path, records: int) -> dict[str, float]:
    import velostream
    from velostream.operators.aggregate import Aggregate

    held: list[int] = []
    finish = Aggregate.finish

    def finish_measured(aggregate: Aggregate) -> object:
        held.append(aggregate.nbytes)
        return finish(aggregate)

    Aggregate.finish = finish_measured  # type: ignore[method-assign, assignment]
    report = velostream.run(
        {
            "name": "group_by_keys",
            "sql": QUERY,
            "sources": {"numbers": {"kind": "file", "path": str(path), "schema": COLUMNS}},
            "sinks": {"result": {"kind": "file", "path": str(result)}},
            "processor": processor,
        }
    )
    if report.state != "completed":
        raise SystemExit(report.error)
    return {"seconds": report.seconds, STATE.key: sum(held) / 2**20}


if __name__ == "__main__":
    entry(run, main, 20_000_000)
