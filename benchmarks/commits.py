"""About 1 GB of state: what a commit every second takes from the lanes, against the same job without any.

The first records make a group each. Those after them change groups: *any*, in no order, so that what changes
between two commits is nearly all that is read; or *hot*, one of each 1,000, as where some keys are busy. Few
groups are written at the end, since the state is what is looked at.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.data import FOLDER, write_lines
from benchmarks.group_by_keys import STRIDE
from benchmarks.harness import RATE, Contender, Figure, Target, compare, entry

SCENARIO = "commits"
CHANGED = ("hot", "any")
GUARANTEES = {"without commits": "best_effort", "a commit every second": "exactly_once"}
CONTENDERS = tuple(
    Contender(f"{changed} groups change, {name}", f"{changed}/{guarantee}", needs="duckdb")
    for changed in CHANGED
    for name, guarantee in GUARANTEES.items()
)
PAUSE = Figure("pause_ms", "ms longest pause of a lane", 1)
STATE = Figure("state_mib", "state MiB", 0)
FIGURES = (RATE, PAUSE, STATE)
TARGETS = tuple(
    target
    for changed in CHANGED
    for target in (
        Target(
            f"{changed} groups change: pause ≤ 50 ms",
            f"{changed}/exactly_once",
            figure=PAUSE.key,
            at_most=50,
        ),
        Target(
            f"{changed} groups change: ≥ 0.9x of no commits",
            f"{changed}/exactly_once",
            over=f"{changed}/best_effort",
            at_least=0.9,
        ),
    )
)
# Of each 1,000 groups.
HOT = 1
QUERY = """
SELECT key, COUNT(*) AS n, SUM(value) AS total, MIN(value) AS low, MAX(value) AS high
FROM numbers GROUP BY key HAVING SUM(value) % 1009 = 0{emit}
"""
COLUMNS = {"key": "BIGINT", "value": "BIGINT"}


def numbers(records: int, changed: str) -> Path:
    """NDJSON of about 32 bytes a record: a key below half of `records`, and a value."""
    keys = records // 2
    hot = max(1, keys * HOT // 1000)

    def line(number: int) -> str:
        if number < keys or changed == "any":
            key = number * STRIDE % keys
        else:
            # Spread over all that there are.
            key = number * STRIDE % hot * (keys // hot)
        return f'{{"key":{key},"value":{number % 1009}}}\n'

    return write_lines(FOLDER / f"{SCENARIO}-{changed}-{records}.ndjson", records, line)


def main(records: int) -> None:
    import duckdb

    for changed in CHANGED:
        query = QUERY.format(emit="").replace("FROM numbers", f"FROM {_table(numbers(records, changed))}")
        duckdb.sql(f"COPY ({query}) TO '{_result(changed, records)}' (FORMAT json)")
    title = f"GROUP BY with {records // 2:,} keys, then as many changes"
    compare(
        SCENARIO,
        title,
        records,
        CONTENDERS,
        lambda contender: check(contender, records),
        targets=TARGETS,
        figures=FIGURES,
    )


def check(contender: Contender, records: int) -> None:
    """Raises SystemExit unless the rows are those of DuckDB."""
    import duckdb

    base = _table(_result(contender.argument.partition("/")[0], records), "n", "total", "low", "high")
    other = _table(_result(contender.argument, records), "n", "total", "low", "high")
    [(rows, others, wrong)] = duckdb.sql(
        f"""
        SELECT (SELECT count(*) FROM {base}), (SELECT count(*) FROM {other}),
               (SELECT count(*) FROM (FROM {base} EXCEPT ALL FROM {other}))
        """
    ).fetchall()
    if not rows or rows != others or wrong:
        raise SystemExit(
            f"{contender.name} gives other rows than DuckDB: {others} for {rows}, {wrong} are missing"
        )


def _table(path: Path, *more: str) -> str:
    columns = ", ".join(f"{name}: 'BIGINT'" for name in ("key", *(more or ("value",))))
    return f"read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})"


def _result(argument: str, records: int) -> Path:
    """Where a contender leaves its rows, DuckDB by the name of the changed groups alone."""
    return FOLDER / f"{SCENARIO}-{argument.replace('/', '-')}-{records}.result.ndjson"


def run(argument: str, records: int) -> dict[str, float]:
    """Seconds from the first block read to the last row written, the longest pause, the state's size."""
    import velostream
    from velostream.operators.aggregate import Aggregate

    changed, _, guarantee = argument.partition("/")
    held: list[int] = []
    finish = Aggregate.finish

    def finish_measured(aggregate: Aggregate) -> object:
        held.append(aggregate.nbytes)
        return finish(aggregate)

    Aggregate.finish = finish_measured  # type: ignore[method-assign, assignment]
    result = _result(argument, records)
    result.unlink(missing_ok=True)  # giving back the former one's pages is no part of a run
    path = str(numbers(records, changed))
    commits: dict[str, object] = {"delivery": {"guarantee": guarantee}}
    if guarantee != "best_effort":
        commits["delivery"] = {"guarantee": guarantee, "interval": "1s"}
        commits["state"] = {"path": str(FOLDER / "state" / SCENARIO), "start": "reset"}
    report = velostream.run(
        {
            "name": SCENARIO,
            "sql": QUERY.format(emit=" EMIT FINAL"),
            "sources": {"numbers": {"kind": "file", "path": path, "schema": COLUMNS}},
            "sinks": {"result": {"kind": "file", "path": str(result)}},
            "processor": "v1",
            **commits,
        }
    )
    if report.state != "completed":
        raise SystemExit(report.error)
    return {
        "seconds": report.seconds,
        PAUSE.key: max(lane["longest_snapshot_seconds"] for lane in report.lanes) * 1000,
        STATE.key: sum(held) / 2**20,
    }


if __name__ == "__main__":
    entry(run, main, 26_000_000)
