"""Multirun: a Hydra sweeper decides what is run, this runs it and keeps the table.

A sweeper asks a launcher to run lists of overrides. Hydra's launchers end the sweep at the first run that
fails or cannot be composed; the launcher here composes and runs like the command line does, and makes a
failure a row.
"""

from __future__ import annotations

import importlib.util
import logging
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from velostream.cli.command import outputs_dir
from velostream.cli.execute import execute, results_on_stdout
from velostream.cli.main import FAILED, OK
from velostream.cli.request import Request, unique_name
from velostream.cli.screen import Screen
from velostream.cli.sweep_table import Row, SweepTable
from velostream.config.overrides import is_sweep, parse_override
from velostream.config.paths import shown
from velostream.errors import ConfigError, Problems, VelostreamError, Where, unknown


class Interrupted(Exception):
    """A signal ended a run, and so the sweep. `code` is the exit code it asks for."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def sweep(request: Request) -> int:
    """Run every combination; 0 when all completed. What is not swept is checked before anything runs."""
    overrides = request.arguments.overrides
    of_hydra = [text for text in overrides if text.startswith(("hydra.", "hydra/"))]
    swept = [text for text in overrides if text not in of_hydra and is_sweep(text)]
    fixed = [text for text in overrides if text not in of_hydra and text not in swept]
    composed = Request(replace(request.arguments, overrides=fixed)).compose()
    screen = Screen(results_on_stdout(composed.job))
    folder = outputs_dir() / composed.job.name / f"multirun-{unique_name()}"
    sweeper_config = _sweeper_config(request, of_hydra, folder)
    # A value given for a key that the sweeper varies by its own settings takes the place of those.
    varied = [text for text in fixed if text.partition("=")[0] in (sweeper_config.hydra.sweeper.params or {})]
    fixed = [text for text in fixed if text not in varied]
    swept += varied
    folder.mkdir(parents=True)
    table = SweepTable(folder)
    runs = Runs(Request(replace(request.arguments, overrides=fixed)), table, screen)
    code = OK
    try:
        _run_sweeper(sweeper_config, runs, swept, request)
    except Interrupted as interrupted:
        code = interrupted.code
    table.show(screen)
    screen.line(f"table: {shown(folder)}/table.csv, table.json" + _plot_words(folder))
    best = table.best()
    if best is not None and len(table.rows) > 1:
        words = [*fixed, *(f"{key}={value}" for key, value in best.swept.items())]
        screen.line(f"best: {shlex.join(words)}")
    failed = [row for row in table.rows if not row.completed]
    return code or (FAILED if failed else OK)


class Runs(Launcher):  # type: ignore[misc]
    """Runs what a sweeper asks for, one after another, each in its numbered folder."""

    def __init__(self, base: Request, table: SweepTable, screen: Screen) -> None:
        self._base = base
        self._table = table
        self._screen = screen

    def setup(self, **_: Any) -> None:
        """Nothing: all is given at the start."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run each list of overrides. What a sweeper optimizes is the rate, 0 for a failed run."""
        returns = []
        for overrides in job_overrides:
            row = self._run(list(overrides))
            done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            done.return_value = row.report.rate if row.completed and row.report is not None else 0.0
            returns.append(done)
        return returns

    def _run(self, overrides: list[str]) -> Row:
        number = len(self._table.rows) + 1
        swept = {text.partition("=")[0]: _plain(text) for text in overrides}
        words = shlex.join(f"{key}={value}" for key, value in swept.items())
        row = Row(number, swept, None)
        code = 0
        try:
            composed = self._base.compose(overrides, run_dir=lambda _: self._table.folder / f"{number:03}")
            outcome = execute(composed, self._screen, brief=f"run {number}: {words}")
            row.report = outcome.report
            code = outcome.code if outcome.report.state == "interrupted" else 0
        except VelostreamError as error:
            row.reason = _reason(error)
            self._screen.line(f"run {number}: {words}: failed, {row.reason}")
        self._table.add(row)
        if code:
            raise Interrupted(code)
        return row


def _plain(override: str) -> str:
    """The value as a person would type it: sweepers escape it for Hydra's grammar."""
    value = parse_override(override).value
    return value if isinstance(value, str) else override.partition("=")[2]


def _reason(error: VelostreamError) -> str:
    """All that was wrong, in one line."""
    errors = error.errors if isinstance(error, Problems) else (error,)
    return " | ".join(found.render().splitlines()[0] for found in errors)


def _plot_words(folder: Path) -> str:
    if (folder / "plot.png").exists():
        return ", plot.png"
    if importlib.util.find_spec("matplotlib") is None:
        return "; for a plot: pip install 'velostream[plot]'"
    return ""


def _sweeper_config(request: Request, of_hydra: Sequence[str], folder: Path) -> Any:
    """Hydra's own part of the configuration: which sweeper, with which settings."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    quoted = str(folder).replace("'", "\\'")
    arguments = [f"hydra.sweep.dir='{quoted}'", *of_hydra]
    chosen = request.arguments.sweep
    if chosen is not None:
        options = request.composer.options("sweep")
        if chosen not in options:
            message, hint = unknown("sweep", chosen, options)
            raise ConfigError(message, where=Where(key=f"override 'sweep={chosen}'"), hint=hint)
        if importlib.util.find_spec("optuna") is None:
            raise ConfigError(f"sweep={chosen} needs Optuna", hint="pip install 'velostream[tune]'")
        _silence_optuna()
        arguments.insert(0, f"+sweep={chosen}")
    main, *others = request.composer.folders
    arguments += [f"hydra.searchpath=['{other}']" for other in others]
    try:
        with initialize_config_dir(str(main), version_base="1.3"):
            return compose("config", arguments, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        first = str(cause).splitlines()[0]
        raise ConfigError(f"the sweep's settings do not compose: {first}") from error


def _silence_optuna() -> None:
    """Its news of each trial are the rows of the table; its use of old interfaces is not the user's."""
    for module in ("optuna", "sqlalchemy", "hydra_plugins"):
        warnings.filterwarnings("ignore", module=rf"{module}\.")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _run_sweeper(config: Any, runs: Runs, swept: Sequence[str], request: Request) -> None:
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    # Sweepers compose each run to check it, and would end the sweep for one that does not; `Runs` does it.
    loader = SimpleNamespace(
        load_sweep_config=lambda **_: None,
        get_group_options=lambda group, **_: request.composer.options(group),
    )
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    logging.getLogger("hydra_plugins").setLevel(logging.WARNING)
    sweeper = Plugins.instance().instantiate_sweeper(
        hydra_context=context, task_function=lambda _: None, config=config
    )
    # Optuna's plugin is a shell around its implementation.
    getattr(sweeper, "sweeper", sweeper).launcher = runs
    sweeper.sweep(list(swept))
