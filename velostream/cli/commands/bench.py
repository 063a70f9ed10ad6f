"""`command=bench`: a job's rate by partitions and block size."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from velostream.cli.bench_grid import DEFAULT_SECONDS, BenchOptions, Setting, bench_options, settings
from velostream.cli.bench_table import Measure, best, save, show
from velostream.cli.command import commands, outputs_dir
from velostream.cli.execute import Outcome, execute
from velostream.cli.main import FAILED, OK
from velostream.cli.request import Request, located, unique_name
from velostream.cli.screen import Screen
from velostream.config.check import validate
from velostream.config.paths import shown
from velostream.config.schema import RESUME
from velostream.errors import raise_all

if TYPE_CHECKING:
    from velostream.config.build import Composed
    from velostream.runtime.report import Progress


@commands.register(
    "bench",
    options={
        "bench.partitions": "lanes to try, such as [1,2,4]; by default up to twice the CPUs",
        "bench.block_size": "block sizes to try; by default [1MiB,4MiB,8MiB,16MiB]",
        "bench.runs": "runs of each setting, all in turn; by default 3",
        "bench.records": "records after which a run stops; by default the whole input",
        "bench.seconds": "seconds after which a run stops; by default 5 where the input has no end",
    },
)
def bench(request: Request) -> int:
    """Measure the job by partitions and block size, without writing to its sinks; name the best setting."""
    from velostream.runtime.lane import usable_cpus
    from velostream.runtime.prepare import prepare

    options = bench_options(request.arguments.options)
    grid = settings(options, len(usable_cpus()))
    composed = _without_output(request.compose())
    raise_all(
        [
            composed.locate(error)
            for setting in grid
            for error in validate(replace(composed.job, processor=setting.processor(composed.job.processor)))
        ][:1]
    )
    with located(composed):
        prepared = prepare(composed.job)
    bounded = all(source.bounded for source in prepared.sources.values())
    folder = outputs_dir() / composed.job.name / f"bench-{unique_name()}"
    folder.mkdir(parents=True)
    screen = Screen()
    screen.line(
        f"{composed.job.name}: {len(grid)} settings, {options.runs} runs each; nothing goes to its sinks"
    )
    measures = [Measure(setting) for setting in grid]
    code = _run_all(composed, measures, options, _limit(options, bounded), folder, screen)
    show(measures, screen)
    title = f"{composed.job.name}: records/s by partitions and block size, median of {options.runs}"
    written = save(title, measures, folder)
    screen.line(f"table: {', '.join(shown(folder / name) for name in written)}")
    top = best(measures)
    if top is not None:
        screen.line(f"best: {' '.join(top.setting.overrides)}")
    failed = any(measure.reason for measure in measures)
    return code or (FAILED if failed else OK)


def _without_output(composed: Composed) -> Composed:
    """The job with its sinks discarding and its dead letters in the folder of a run, which goes away."""
    from velostream.connectors.discard import DiscardSinkConfig, discarding

    job = composed.job
    with located(composed):
        sinks = {name: discarding(name, sink) for name, sink in job.sinks.items()}
    return replace(
        composed,
        job=replace(
            job,
            sinks=sinks or {"output": DiscardSinkConfig()},
            failure=replace(job.failure, dlq_path="", log_first=0),
        ),
    )


def _limit(options: BenchOptions, bounded: bool) -> Callable[[Progress], bool] | None:
    """When a run is long enough; None for the whole of an input that ends."""
    records, seconds = options.records, options.seconds
    if records is None and seconds is None:
        if bounded:
            return None
        seconds = DEFAULT_SECONDS

    def enough(progress: Progress) -> bool:
        return (records is not None and progress.records >= records) or (
            seconds is not None and progress.seconds >= seconds
        )

    return enough


def _run_all(
    composed: Composed,
    measures: list[Measure],
    options: BenchOptions,
    enough: Callable[[Progress], bool] | None,
    folder: Path,
    screen: Screen,
) -> int:
    """All settings in turn, `runs` times; the exit code that a signal asks for, 0 without one.

    The first run of all is not counted: it brings the input into the page cache. A setting that fails is
    not run again.
    """
    total = len(measures) * options.runs
    turns = [measures[0], *measures * options.runs]
    for number, measure in enumerate(turns):
        if measure.reason:
            continue
        words = " ".join(measure.setting.overrides)
        brief = f"run {number} of {total}: {words}" if number else f"warm-up: {words}"
        outcome = _run(composed, measure.setting, enough, folder, screen, brief)
        report = outcome.report
        # A run that was long enough ends as interrupted too, but no signal asks for a code.
        if report.state == "interrupted" and outcome.code != FAILED:
            return outcome.code
        if report.state == "failed":
            measure.reason = (report.error or "failed").splitlines()[0]
        elif number and report.seconds:
            measure.rates.append(report.rate)
            measure.bytes_rates.append(report.bytes_in / report.seconds)
    return 0


def _run(
    composed: Composed,
    setting: Setting,
    enough: Callable[[Progress], bool] | None,
    folder: Path,
    screen: Screen,
    brief: str,
) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as scratch:
        state = replace(composed.job.state, path=str(Path(scratch) / "state"), start=RESUME)
        processor = setting.processor(composed.job.processor)
        job = replace(composed.job, processor=processor, output_dir=scratch, state=state)
        return execute(replace(composed, job=job), screen, brief=brief, enough=enough)
