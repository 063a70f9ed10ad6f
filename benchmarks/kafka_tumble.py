"""A topic to a 60 s tumbling window per symbol, to a topic; beside the broker's own perf consumer.

The perf consumer fetches the same messages with the same settings and throws them away: reading, and nothing
else. Windows close all the time, so that every commit has rows; each job's committed rows are compared with
DuckDB's over the same records.
"""

from __future__ import annotations

from benchmarks.data import trades
from benchmarks.harness import Contender, Target, compare, entry
from benchmarks.kafka import WARM_UPS, broker, consume, fill, make_topic, read_committed, run_job, text_of
from benchmarks.tumble import COLUMNS, QUERY, result_path, same_rows

SCENARIO = "kafka_tumble"
PARTITIONS = 4
FETCH = {"max.partition.fetch.bytes": 2 << 20, "fetch.max.bytes": 50 << 20}
TITLE = (
    f"topic of {PARTITIONS} partitions to 60 s tumbling window per symbol, to a topic; commits every 200 ms; "
    f"perf consumer and source: {text_of(FETCH)}"
)
CONTENDERS = (
    Contender("Kafka's perf consumer, fetch.nMsg.sec", "perf", needs="confluent_kafka"),
    Contender("velostream v1, at least once", "v1/at_least_once"),
    Contender("velostream v1, exactly once", "v1/exactly_once"),
    Contender("velostream v2, 2 partitions, exactly once", "v2:2/exactly_once"),
)
TARGETS = (
    Target("v1, at least once ≥ 1.5x fetch.nMsg.sec", "v1/at_least_once", over="perf", at_least=1.5),
    Target("v1, exactly once ≥ 0.9x at least once", "v1/exactly_once", over="v1/at_least_once", at_least=0.9),
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

    from benchmarks.peers import duckdb

    duckdb.run(path, base, threads=1)
    with broker():
        fill(make_topic(INPUT, PARTITIONS), path, records, PARTITIONS)
        compare(SCENARIO, TITLE, records, CONTENDERS, check, targets=TARGETS, warm_ups=WARM_UPS)


def _output(argument: str) -> str:
    """The topic of a contender's rows."""
    return f"{SCENARIO}-{argument.replace(':', '-').replace('/', '-')}"


def run(argument: str, records: int) -> dict[str, float]:
    """One contender, once; seconds from the first block read to the last row committed."""
    if argument == "perf":
        return consume(INPUT, records, FETCH)
    processor, _, guarantee = argument.partition("/")
    output = make_topic(_output(argument), PARTITIONS)
    # Declared, since a bounded source would close its windows at its end.
    source = {"topic": INPUT, "schema": COLUMNS, "options": FETCH, "out_of_orderness": "5s"}
    report = run_job(SCENARIO, QUERY, source, {"topic": output}, processor, guarantee)
    return {"seconds": report.seconds}


if __name__ == "__main__":
    entry(run, main, 3_000_000)
