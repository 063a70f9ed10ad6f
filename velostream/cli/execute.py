"""Runs one composed job where a person can see it, and leaves its folder."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from velostream.cli.main import FAILED, OK
from velostream.cli.process import settle
from velostream.cli.progress import display
from velostream.cli.request import located
from velostream.cli.screen import Screen
from velostream.cli.signals import Signals
from velostream.cli.summary import brief_lines, summary_lines
from velostream.config.check import warnings
from velostream.config.secrets import redacted

if TYPE_CHECKING:
    from velostream.config.build import Composed
    from velostream.config.schema import JobConfig
    from velostream.runtime.prepare import Prepared
    from velostream.runtime.report import Progress, Report


@dataclass(frozen=True)
class Outcome:
    """An ended run: its report, and the exit code it asks for."""

    report: Report
    code: int


def results_on_stdout(job: JobConfig) -> bool:
    """Whether a sink prints to standard output, so that a person's lines must go elsewhere."""
    return not job.sinks or any(sink.kind == "console" for sink in job.sinks.values())


def execute(
    composed: Composed,
    screen: Screen,
    *,
    prepared: Any = None,
    brief: str = "",
    enough: Callable[[Progress], bool] | None = None,
) -> Outcome:
    """Prepare, run, report. Raises VelostreamError before anything is made when the job is wrong.

    The folder `output_dir` gets the composed configuration and `report.json`; an empty one means none.
    `brief` is the beginning of the line that is then shown in place of the summary. The job is stopped once
    `enough` says so, which is asked about ten times a second.
    """
    from velostream.runtime.prepare import prepare
    from velostream.runtime.worker import make_job

    config = composed.job
    set_up_logging(config.observability.log_level)
    with located(composed):
        prepared = prepared or prepare(config)
    folder = Path(config.output_dir) if config.output_dir else None
    if folder is not None:
        save_config(composed, folder)
    screen.lines(f"warning: {text}" for text in warnings(config))
    if not brief:
        screen.lines(inferred_lines(prepared))
    with display(config.name, config.observability.progress, screen) as shown:

        def on_progress(progress: Progress) -> None:
            shown.show(progress)
            # A signal that came before the job ran has not stopped it.
            if signals.name is not None:
                job.stop(signals.name)
            elif enough is not None and enough(progress):
                job.stop("enough")

        job = make_job(config, prepared, on_progress)
        settle()
        with Signals(job.stop, job.abort) as signals, located(composed):
            report = job.run()
    if folder is not None:
        save_report(report, folder)
    screen.lines(brief_lines(brief, report) if brief else summary_lines(report, folder))
    return Outcome(report, signals.code or exit_code(report))


def inferred_lines(prepared: Prepared) -> Iterator[str]:
    """What was inferred about the sources: a wrong guess must be seen where it is made."""
    from velostream.sql.typenames import type_name

    for name in sorted(prepared.inferred):
        fields = prepared.schemas[name].fields
        columns = ", ".join(f"{field.name} {type_name(field.type)}" for field in fields)
        yield f"{name}, inferred: {columns}"


def exit_code(report: Report) -> int:
    """0 for a job that came to its end."""
    return OK if report.state == "completed" else FAILED


def save_config(composed: Composed, folder: Path) -> None:
    """Make the folder and leave the composed configuration there: interpolations as they are, no secrets."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(redacted(composed.tree), sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")


def save_report(report: Report, folder: Path) -> None:
    """Leave `report.json` in the folder."""
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")


class _Stderr(logging.StreamHandler[Any]):
    """Writes to the standard error of the moment: a progress bar takes its place while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        raise AttributeError("the stream is standard error")


def set_up_logging(level: str) -> None:
    """Messages of velostream from `level` on, of libraries from WARNING on, to standard error."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Stderr) for handler in root.handlers):
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
    logging.getLogger("velostream").setLevel(level)
    # Faust logs under the name of its app's module, and warns at every start of a sensor that it misses.
    logging.getLogger("velostream.runtime.app").setLevel(logging.ERROR)
