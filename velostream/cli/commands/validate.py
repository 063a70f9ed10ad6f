"""`command=validate`: everything that can be known of a job without running it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from velostream.cli.command import commands
from velostream.cli.main import OK
from velostream.cli.request import Request, located
from velostream.cli.screen import Screen
from velostream.config.check import warnings
from velostream.errors import ConfigError

if TYPE_CHECKING:
    from velostream.runtime.prepare import Prepared
    from velostream.sql.types import Schema


@commands.register(
    "validate", options={"write_schema": "file to write the sources' schemas to, as YAML for a job"}
)
def validate(request: Request) -> int:
    """Check the job, its SQL and its schemas; run nothing, leave nothing behind."""
    from velostream.runtime.prepare import prepare

    composed = request.compose()
    with located(composed):
        prepared = prepare(composed.job)
    screen = Screen()
    screen.line(f"ok  job {composed.job.name}")
    screen.lines(_sources(prepared))
    screen.lines(f"ok  sink {name} takes {stream}" for name, stream in prepared.plan.sinks.items())
    screen.lines(f"warning: {text}" for text in warnings(composed.job))
    if "write_schema" in request.arguments.options:
        _write(Path(request.arguments.options["write_schema"]), prepared.schemas)
    return OK


def schema_keys(schema: Schema) -> dict[str, str]:
    """The schema as the `schema` key of a source takes it.

    >>> import pyarrow as pa
    >>> from velostream.sql.types import Field, Schema
    >>> schema_keys(Schema((Field("price", pa.decimal128(10, 2)),)))
    {'price': 'DECIMAL(10, 2)'}
    """
    from velostream.sql.typenames import type_name

    return {field.name: type_name(field.type) for field in schema.fields}


def _sources(prepared: Prepared) -> Iterator[str]:
    for name, schema in prepared.schemas.items():
        how = "inferred" if name in prepared.inferred else "declared"
        yield f"ok  source {name}: {len(schema.fields)} columns, {how}"
        width = max((len(field.name) for field in schema.fields), default=0)
        for column, kind in schema_keys(schema).items():
            yield f"      {column:<{width}}  {kind}"


def _write(file: Path, schemas: Mapping[str, Schema]) -> None:
    tree = {"sources": {name: {"schema": schema_keys(schema)} for name, schema in schemas.items()}}
    try:
        file.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"cannot write '{file}': {reason}") from error
