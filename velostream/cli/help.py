"""What `--help` prints: made from the registries and the groups, so that it cannot be behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from velostream.cli.command import commands
from velostream.cli.words import aligned

_EXAMPLES = """\
  velostream job=flights processor=v2 processor.partitions=8 processor.affinity=true
  velostream job=path/to/job.yaml source.path=other.csv
  velostream "SELECT carrier, AVG(arr_delay) FROM 'flights.csv' GROUP BY carrier"
  velostream job=flights command=validate
  velostream job=flights command=explain format=json
  velostream -m job=flights processor=v2 processor.partitions=1,2,4
  velostream job=flights sweep=tune
  velostream command=deploy deployment=example"""


def help_text(config_dir: Path | None) -> str:
    """The whole help, the options of the user's own folder included."""
    return "\n".join(_lines(config_dir))


def _lines(config_dir: Path | None) -> Iterator[str]:
    from velostream.cli.request import all_kinds
    from velostream.config.compose import SINGLE_GROUPS, Composer

    composer = Composer(all_kinds(), config_dir)
    yield "usage: velostream [SQL] [key=value ...] [-m] [--config-dir DIR] [--help] [--version] [--debug]"
    yield "       python run.py takes the same arguments"
    yield "\ncommands (command=...; run is the default)"
    rows = [[f"  {entry.name}", entry.doc] for entry in commands]
    for entry in commands:
        rows += [[f"    {entry.name}: {option}=", about] for option, about in entry.meta["options"].items()]
    yield from aligned(rows)
    yield "\ngroups (group=option)"
    groups = (*SINGLE_GROUPS, "source", "sink", "deployment", "sweep")
    yield from aligned([[f"  {group}", ", ".join(composer.options(group))] for group in groups])
    yield "\nkeys (key=value)"
    yield "  processor.partitions=8       any key of the composed job"
    yield "  source.path=new.csv          of the job's only source (sink); source.NAME.path of one of several"
    yield "  source=KIND                  another kind in its place; source.NAME=KIND of one of several"
    yield "  processor=v2:8:affinity      the processor as text"
    yield "  state=reset                  forget what the job has saved; state=PATH starts from a savepoint"
    yield "  ~sinks.NAME                  without that sink"
    yield "\nflags"
    yield "  -m, --multirun               run every combination of a,b and range(1,5), end with one table"
    yield "  --config-dir DIR             more groups of your own: DIR/job/x.yaml is job=x"
    yield "  --debug                      show the traceback of an internal error"
    yield "\nexamples"
    yield _EXAMPLES
