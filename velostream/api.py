"""The Python interface: `query` for tables, `run` for whole jobs.

Both take the way of `run.py`: Faust, lanes and kernels, on the loop of a thread of their own, so they work
in a notebook whose loop is running.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from velostream.config.processor_text import parse_processor
from velostream.config.schema import EmitConfig, FailureConfig, JobConfig, ProcessorConfig, SourceConfig
from velostream.connectors.base import sinks, sources
from velostream.errors import ConfigError, unknown
from velostream.runtime.job import Job, JobState
from velostream.runtime.report import Report

RESULT = "result"


@dataclass(frozen=True, slots=True)
class Input:
    """A table for `query` with more to say than its rows; made by `csv`, `ndjson` and `table`."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)


def csv(path: str | os.PathLike[str], *, schema: Mapping[str, str] | None = None, **options: Any) -> Input:
    """A CSV file (or glob, or folder; plain, gzip, zstd, zip) as a table.

    `schema` maps columns to SQL types, inferred when left out. `nulls`, `delimiter`, `quote`, `header` are
    options of the format; any other is a key of the source (`event_time`, `out_of_orderness`, …).
    """
    return _file("csv", path, schema, options, ("nulls", "delimiter", "quote", "header"))


def ndjson(path: str | os.PathLike[str], *, schema: Mapping[str, str] | None = None, **options: Any) -> Input:
    """A file of JSON lines as a table; see `csv`. `max_depth` is an option of the format."""
    return _file("ndjson", path, schema, options, ("max_depth",))


def table(data: Any, **options: Any) -> Input:
    """Rows in memory as a table, with keys of the source (`event_time`, `out_of_orderness`, `late`, …)."""
    return Input("memory", {"data": data, **options})


def _file(
    format: str,
    path: str | os.PathLike[str],
    schema: Mapping[str, str] | None,
    options: dict[str, Any],
    of_format: Sequence[str],
) -> Input:
    chosen = {key: options.pop(key) for key in of_format if key in options}
    keys = {"path": os.fspath(path), "format": format, "schema": dict(schema or {}), "format_options": chosen}
    return Input("file", {**keys, **options})


def query(
    sql: str,
    processor: str = "v2",
    *,
    block_size: str = "8MiB",
    block_records: int = 0,
    changes: str = "block",
    failure: str = "log_and_continue",
    **tables: Any,
) -> pa.Table:
    """Run a query over tables and return its rows (of the last statement, when there are several).

    `tables` are by name: pyarrow Tables or RecordBatchReaders, pandas or polars frames, or what `csv`,
    `ndjson` and `table` give. `processor` is a text like `"v1"`, `"v2:4"`, `"v2:4:affinity"`. The order of
    rows is that of the input for a query without groups, and not defined with groups.

    Raises VelostreamError: a query or an input that is wrong, a run that failed.

    >>> import pyarrow as pa
    >>> trades = pa.table({"symbol": ["A", "B", "A"], "price": [1.0, 2.0, 3.0]})
    >>> query("SELECT symbol, AVG(price) AS mean FROM trades GROUP BY symbol", trades=trades).to_pylist()
    [{'symbol': 'A', 'mean': 2.0}, {'symbol': 'B', 'mean': 2.0}]
    """
    result, _ = run_query(
        sql,
        processor,
        block_size=block_size,
        block_records=block_records,
        changes=changes,
        failure=failure,
        tables=tables,
    )
    return result


def run_query(
    sql: str,
    processor: str = "v2",
    *,
    tables: Mapping[str, Any],
    block_size: str = "8MiB",
    block_records: int = 0,
    changes: str = "block",
    failure: str = "log_and_continue",
) -> tuple[pa.Table, Report]:
    """As `query`, with the run's report."""
    job = query_job(
        sql,
        processor,
        tables=tables,
        block_size=block_size,
        block_records=block_records,
        changes=changes,
        failure=failure,
    )
    report = job.run()
    return query_result(job), report


def query_job(
    sql: str,
    processor: str = "v2",
    *,
    tables: Mapping[str, Any],
    block_size: str = "8MiB",
    block_records: int = 0,
    changes: str = "block",
    failure: str = "log_and_continue",
) -> Job:
    """The job that answers a query, not started; `query_result` has its rows when it has ended."""
    config = JobConfig(
        name="query",
        sql=sql,
        sources={name: _source_config(name, value) for name, value in tables.items()},
        sinks={RESULT: sinks["memory"].Config()},
        processor=ProcessorConfig(
            **parse_processor(processor), block_size=block_size, block_records=block_records
        ),
        failure=FailureConfig(strategy=failure),
        emit=EmitConfig(changes=changes),
    )
    return Job(config)


def query_result(job: Job) -> pa.Table:
    """The rows of an ended `query_job`. Raises VelostreamError when it did not complete."""
    if job.state is not JobState.COMPLETED:
        raise job.failure()
    return job.sink(RESULT).table()  # type: ignore[attr-defined]


def _source_config(name: str, value: Any) -> SourceConfig:
    given = value if isinstance(value, Input) else table(value)
    config_class = sources[given.kind].Config
    known = config_class.__dataclass_fields__
    for key in given.options:
        if key not in known:
            message, hint = unknown(f"option of table '{name}':", key, known)
            raise ConfigError(message, hint=hint)
    return config_class(**given.options)
