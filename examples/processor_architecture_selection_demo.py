"""Choose between the processors V1 (one lane) and V2 (many lanes), and measure what the choice is worth here.

python examples/processor_architecture_selection_demo.py [--records N]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import pyarrow as pa
from rich.console import Console
from rich.table import Table

import velostream
from velostream.connectors.file.sink import FileSinkConfig
from velostream.connectors.file.source import FileSourceConfig
from velostream.errors import ConfigError
from velostream.processors import JobProcessorConfig, make_processor
from velostream.runtime.lane import usable_cpus
from velostream.server import StreamJobServer

RECORDS = 500_000
RUNS = 5
# A factor below this is noise.
WORTH = 1.1
BROKERS, GROUP, MAX_JOBS = "localhost:9092", "demo-group", 100

SCHEMA = {"symbol": "VARCHAR", "price": "DOUBLE", "quantity": "BIGINT", "ts": "TIMESTAMP"}
TRADES = {
    "kind": "generator",
    "seed": 42,
    "schema": SCHEMA,
    "columns": {
        "symbol": {"distribution": "cycle", "pattern": "SYM{:03d}", "count": 200},
        "price": {"distribution": "uniform", "low": 10.0, "high": 500.0},
        "quantity": {"distribution": "uniform", "low": 1, "high": 1000},
        "ts": {"distribution": "sequence", "start": "2025-01-02 09:30:00", "step": "10ms"},
    },
}
BATCH_QUERY = (
    "SELECT symbol, COUNT(*) AS trades, SUM(quantity) AS volume, MIN(price) AS low, MAX(price) AS high "
    "FROM records GROUP BY symbol"
)
JOB_QUERY = (
    "SELECT symbol, _window_start, COUNT(*) AS trades, SUM(quantity) AS volume "
    "FROM trades GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"
)


@dataclass(frozen=True)
class Measured:
    """A processor's rate (records/s): the median of a few runs."""

    config: JobProcessorConfig
    rate: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=RECORDS, metavar="N", help="records to measure with")
    records = max(1, parser.parse_args(arguments).records)
    out = Console()
    show_configurations(out)
    pinned = JobProcessorConfig.V2(lane_counts()[-1], enable_core_affinity=True)
    configs = [JobProcessorConfig.V1, *(JobProcessorConfig.V2(lanes) for lanes in lane_counts()), pinned]
    with tempfile.TemporaryDirectory(prefix="velostream-demo-") as folder:
        path = make_trades(Path(folder), records)
        out.rule("5. Performance comparison, measured now")
        out.print(f"{records:,} trades, {len(usable_cpus())} usable CPUs, median of {RUNS} runs")
        batch = compare_batches(path, configs)
        show(out, "Interface level: process_batch on one batch in memory", batch)
        job = compare_jobs(path, configs)
        show(out, "Real execution: a deployed job, NDJSON file to windows to NDJSON file", job)
    show_strings(out)
    show_guidelines(out, records, batch, job)
    return 0


def lane_counts() -> list[int]:
    """2, 4, 8 as far as there are CPUs, and the number of CPUs; at least 2."""
    cpus = len(usable_cpus())
    return sorted({max(2, cpus), *(count for count in (2, 4, 8) if count <= cpus)})


# --- 1 to 4 ---------------------------------------------------------------------------------------


def show_configurations(out: Console) -> None:
    parts = [
        ("1. The default: V2, one lane per CPU", None),
        ("2. V1: one lane", JobProcessorConfig.V1),
        ("3. V2 with 8 partitions", JobProcessorConfig.V2(num_partitions=8)),
        ("4. V2 with core affinity", JobProcessorConfig.V2(num_partitions=8, enable_core_affinity=True)),
    ]
    for title, config in parts:
        out.rule(title)
        server = StreamJobServer.new(BROKERS, GROUP, MAX_JOBS)
        if config is not None:
            server = server.with_processor_config(config)
        chosen = server.processor_config()
        out.print(f"{chosen.description()}", highlight=False)
        out.print(f"lanes of a job: {chosen.lanes}; as text: '{chosen}'", highlight=False)


# --- 5 --------------------------------------------------------------------------------------------


def make_trades(folder: Path, records: int) -> Path:
    """A file of generated trades, one JSON object per line: written by a job as well."""
    path = folder / "trades.ndjson"
    report = velostream.run(
        {
            "name": "make-trades",
            "sql": "SELECT * FROM trades",
            "sources": {"trades": {**TRADES, "count": records}},
            "sinks": {"file": {"kind": "file", "path": str(path)}},
            "processor": "v1",
        }
    )
    if report.state != "completed":
        raise SystemExit(report.error)
    return path


def compare_batches(path: Path, configs: Sequence[JobProcessorConfig]) -> list[Measured]:
    """Rates of `process_batch`; all processors must give the same rows."""
    trades = velostream.query("SELECT * FROM trades", trades=velostream.ndjson(path, schema=SCHEMA))

    def run(config: JobProcessorConfig) -> tuple[pa.Table, float]:
        begun = time.perf_counter()
        result = make_processor(config).process_batch(trades, BATCH_QUERY)
        return result.sort_by("symbol"), trades.num_rows / (time.perf_counter() - begun)

    return compare(configs, run)


def compare_jobs(path: Path, configs: Sequence[JobProcessorConfig]) -> list[Measured]:
    """Rates of a whole job on a server; all processors must give the same rows."""
    target = path.with_name("volumes.ndjson")

    def run(config: JobProcessorConfig) -> tuple[pa.Table, float]:
        server = StreamJobServer.new(BROKERS, GROUP, MAX_JOBS).with_processor_config(config)
        server.deploy_job(
            "volumes",
            "1.0",
            JOB_QUERY,
            "volumes",
            sources={"trades": FileSourceConfig(path=str(path), schema=SCHEMA)},
            sinks={"file": FileSinkConfig(path=str(target))},
        )
        report = server.wait_job("volumes")
        if report is None or report.state != "completed":
            raise SystemExit(server.get_job_status("volumes").error)
        rows = velostream.query("SELECT * FROM rows", rows=velostream.ndjson(target))
        return rows.sort_by([("symbol", "ascending"), ("_window_start", "ascending")]), report.rate

    return compare(configs, run)


def compare(
    configs: Sequence[JobProcessorConfig], run: Callable[[JobProcessorConfig], tuple[pa.Table, float]]
) -> list[Measured]:
    """Run all in turn, a first time to warm up, so that what else the machine does meets each alike."""
    check_same([run(config)[0] for config in configs])
    rates = [[run(config)[1] for config in configs] for _ in range(RUNS)]
    return [
        Measured(config, median(rate)) for config, rate in zip(configs, zip(*rates, strict=True), strict=True)
    ]


def check_same(results: Sequence[pa.Table]) -> None:
    if any(result != results[0] for result in results):
        raise SystemExit("the processors gave different rows")


def show(out: Console, title: str, measured: Sequence[Measured]) -> None:
    out.print(f"\n{title}:")
    table = Table()
    for heading in ("processor", "lanes", "records/s", "against V1"):
        table.add_column(heading, justify="left" if heading == "processor" else "right")
    for each in measured:
        lanes, factor = str(each.config.lanes), each.rate / measured[0].rate
        table.add_row(str(each.config), lanes, f"{each.rate:,.0f}", f"{factor:.2f}x")
    out.print(table)
    out.print("The same rows from each processor.")


# --- 6 and 7 --------------------------------------------------------------------------------------


def show_strings(out: Console) -> None:
    out.rule("6. Configuration strings, for YAML and TOML")
    table = Table()
    table.add_column("text")
    table.add_column("means")
    for text in ("v1", "v2", "v2:8", "v2:affinity", "V2:Affinity:8", "v25", "v2:0", "v2:many"):
        try:
            meaning = JobProcessorConfig.parse(text).description()
        except ConfigError as error:
            meaning = f"error: {error}"
        table.add_row(text, meaning)
    out.print(table)


def show_guidelines(out: Console, records: int, batch: Sequence[Measured], job: Sequence[Measured]) -> None:
    out.rule("7. Which one to choose, by what was measured")
    for line in guidelines(records, len(usable_cpus()), batch, job):
        out.print(f"- {line}", highlight=False)


def guidelines(records: int, cpus: int, batch: Sequence[Measured], job: Sequence[Measured]) -> list[str]:
    """What the figures say, V1 being the first of each."""
    lines = []
    for what, measured in (("one batch in memory", batch), ("a whole job", job)):
        first, best = measured[0], max(measured, key=lambda each: each.rate)
        factor = best.rate / first.rate
        if factor < WORTH:
            lines.append(f"{what} of {records:,} records: take v1; more lanes bring nothing here")
        else:
            lines.append(f"{what} of {records:,} records: take {best.config}, {factor:.1f} times v1")
    pinned = next(each for each in job if each.config.enable_core_affinity)
    free = next(each for each in job if each.config == replace(pinned.config, enable_core_affinity=False))
    gain = pinned.rate / free.rate
    if gain > WORTH:
        lines.append(f"affinity pays here: {pinned.config} is {gain:.2f} times {free.config}")
    else:
        lines.append(
            f"affinity brings nothing here ({pinned.config} is {gain:.2f} times {free.config}); it pays on a "
            "machine whose CPUs do nothing else"
        )
    over = [each for each in job if each.config.lanes > cpus]
    if over:
        lines.append(f"{over[0].config} has more lanes than the {cpus} CPUs here, which only adds switching")
    if records < 100_000:
        lines.append("so few records measure mostly the start of a job: try --records 500000")
    lines.append("v1 is the one to debug with: one thread, and the order of all rows is that of the input")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
