"""A topic to a filter and a computed column, to a topic; beside the broker's own perf producer.

The perf producer writes as many records as the job does, of the very same bytes, with the same settings, and
has nothing to read or to compute. Rates are of records written: the filter drops about half of those read.
Each job's committed rows are compared with DuckDB's.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.data import trades
from benchmarks.filter_project import QUERY, run_duckdb, run_velostream, same_rows
from benchmarks.harness import Contender, Target, compare, entry
from benchmarks.kafka import WARM_UPS, broker, fill, make_topic, produce, read_committed, run_job, text_of
from benchmarks.tumble import COLUMNS, result_path

SCENARIO = "kafka_filter"
PARTITIONS = 4
SETTINGS = {"acks": "all", "batch.size": 1_000_000, "linger.ms": 5, "compression.type": "none"}
TITLE = (
    f"topic to filter and computed column, to a topic of {PARTITIONS} partitions, records written; "
    f"commits every 200 ms; perf producer and sink: {text_of(SETTINGS)}, records of the same bytes"
)
CONTENDERS = (
    Contender("Kafka's perf producer", "perf", needs="confluent_kafka"),
    Contender("velostream v1, at least once", "v1/at_least_once"),
    Contender("velostream v1, exactly once", "v1/exactly_once"),
    Contender("velostream v2, 2 partitions, exactly once", "v2:2/exactly_once"),
)
TARGETS = (
    Target("v1, at least once ≥ 2x perf producer", "v1/at_least_once", over="perf", at_least=2),
    Target("v1, exactly once ≥ 2x perf producer", "v1/exactly_once", over="perf", at_least=2),
)
INPUT = f"{SCENARIO}-input"


def main(records: int) -> None:
    path = trades(records)
    base = result_path(SCENARIO, "duckdb", records)

    def check(contender: Contender) -> None:
        if contender.argument != "perf":
            rows = result_path(SCENARIO, contender.argument, records)
            read_committed(_output(contender.argument), rows)
            same_rows(base, rows, contender.name)

    run_duckdb(path, base, threads=1)
    run_velostream(path, _payload(records), "v1")
    with broker():
        fill(make_topic(INPUT, PARTITIONS), path, records, PARTITIONS)
        compare(SCENARIO, TITLE, records, CONTENDERS, check, targets=TARGETS, warm_ups=WARM_UPS)


def _payload(records: int) -> Path:
    """The rows as velostream writes them, for the perf producer."""
    return result_path(SCENARIO, "payload", records)


def _output(argument: str) -> str:
    """The topic of a contender's rows."""
    return f"{SCENARIO}-{argument.replace(':', '-').replace('/', '-')}"


def run(argument: str, records: int) -> dict[str, float]:
    """One contender, once; a job's seconds are from the first block read to the last row committed."""
    output = make_topic(_output(argument), PARTITIONS)
    if argument == "perf":
        payload = _payload(records)
        with open(payload, "rb") as file:
            count = sum(1 for _ in file)
        return produce(output, count, payload, SETTINGS)
    processor, _, guarantee = argument.partition("/")
    report = run_job(
        SCENARIO,
        QUERY.format(ts="ts", trades="trades"),
        {"topic": INPUT, "schema": COLUMNS},
        {"topic": output, "options": SETTINGS},
        processor,
        guarantee,
    )
    return {"seconds": report.seconds, "records": report.rows_out}


if __name__ == "__main__":
    entry(run, main, 3_000_000)
