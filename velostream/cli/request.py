"""What a command gets: the arguments, and the job composed of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from velostream.cli.arguments import Arguments
from velostream.cli.command import outputs_dir
from velostream.cli.process import without_pandas
from velostream.config.schema import RESUME
from velostream.errors import Problems, VelostreamError, Where, raise_all

if TYPE_CHECKING:
    from velostream.config.build import Composed, Kinds
    from velostream.config.compose import Composer
    from velostream.config.schema import JobConfig
    from velostream.state.manifest import Manifest


def all_kinds() -> Kinds:
    """The configuration dataclasses of the connectors that a file can name (not `yaml=False`)."""
    from velostream.config.build import Kinds
    from velostream.connectors.base import sinks, sources

    return Kinds(
        {entry.name: entry.value.Config for entry in sources if entry.meta.get("yaml", True)},
        {entry.name: entry.value.Config for entry in sinks if entry.meta.get("yaml", True)},
    )


def unique_name() -> str:
    """A folder name by the time, unique also among runs of one second."""
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(3)}"


@contextmanager
def located(composed: Composed) -> Iterator[None]:
    """Errors raised inside get the place of the key that they name."""
    try:
        yield
    except VelostreamError as error:
        errors = error.errors if isinstance(error, Problems) else (error,)
        raise_all([composed.locate(found) for found in errors])


@dataclass
class Request:
    """One call of the command line."""

    arguments: Arguments

    @cached_property
    def composer(self) -> Composer:
        from velostream.config.compose import Composer

        without_pandas()
        return Composer(all_kinds(), self.arguments.config_dir)

    def compose(self, more: Sequence[str] = (), run_dir: Callable[[str], Path] | None = None) -> Composed:
        """The job that the arguments describe, with `more` overrides; by default its output folder is a new
        one under `outputs/<job name>` and its state in `outputs/state` (named here, made by whoever runs it).
        A job that goes on from saved state has the folder of the run that saved it. With a `run_dir` of the
        caller's the state is in that run's folder. A bare query has neither."""
        if self.arguments.sql is not None:
            return self._query(self.arguments.sql, more)
        overrides = [*self.arguments.overrides, *more]
        if run_dir is None:
            composed = self.composer.compose(overrides, run_dir=new_run_dir, state_dir=state_dir)
            former = former_run(composed.job)
            if former is None or not former.output_dir:
                return composed
            # So that its results are whole in one place.
            folder = Path(former.output_dir)
            return self.composer.compose(overrides, run_dir=lambda _: folder, state_dir=state_dir)
        own = run_dir
        return self.composer.compose(overrides, run_dir=own, state_dir=lambda name: own(name) / "state")

    def _query(self, sql: str, more: Sequence[str]) -> Composed:
        """The job of a bare query: its inputs are the files in FROM, its output is a table on the screen."""
        from velostream.sql.parser import parse

        files = [ref for ref in parse(sql).inputs if ref.path is not None]
        given = {
            "name": "query",
            "sql": sql,
            "sources": {ref.name: {"kind": "file", "path": ref.path} for ref in files},
            "sinks": {"output": {"kind": "console"}},
        }
        composed = self.composer.compose([*self.arguments.overrides, *more], given=given)
        for ref in files:
            if ref.span is not None:
                composed.origins.places["sources", ref.name, "path"] = Where.in_text(sql, *ref.span)
        return composed


def state_dir(name: str) -> Path:
    """The folder of a job's state."""
    return outputs_dir() / "state" / name


def former_run(job: JobConfig) -> Manifest | None:
    """The last commit of the run that this one goes on from."""
    if not job.state.path or job.state.start != RESUME or job.delivery.guarantee == "best_effort":
        return None
    if not (Path(job.state.path) / "manifest.json").exists():
        return None
    from velostream.state.manifest import read_manifest

    try:
        return read_manifest(Path(job.state.path))
    except VelostreamError:
        return None  # the run says so when it takes the folder


def new_run_dir(name: str) -> Path:
    """The folder of a run that starts now."""
    return outputs_dir() / name / unique_name()
