"""Several workers of one job: what workers and broker take by workers, tasks and exchange; and handovers.

Broker, workers and loader share the CPUs, so that rates say little of other machines; CPU seconds do, and
`benchmarks.scaling_model` is fitted to them. Linux only: the broker's are read from /proc.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.data import FOLDER, trades
from benchmarks.group_by_keys import numbers
from benchmarks.harness import RATE, Contender, Figure, compare, entry, session
from benchmarks.kafka import PATIENCE_SECONDS, address, broker, client, fill, make_topic, read_committed
from benchmarks.restart import AGAIN, same_totals
from benchmarks.tumble import COLUMNS, QUERY, result_path, same_rows

SCENARIO = "kafka_workers"
PARTITIONS = 8
RUNS = 3
EXCHANGES = ("none", "topic")
INTERVAL = "200ms"
CONTENDERS = tuple(
    Contender(f"{workers} workers, {tasks} tasks, exchange {exchange}", f"load/{workers}/{tasks}/{exchange}")
    for exchange in EXCHANGES
    for workers in (1, 2, 3)
    for tasks in (1, 2, 4, 8)
    if tasks > 1 or (workers == 1 and exchange == "none")
)
# What tells the cost of a commit from that of a task, and of a task at work from its start.
PACED = tuple(
    Contender(f"{tasks} tasks, commits every {interval}", f"pace/{tasks}/{interval}")
    for tasks in (1, 4, 8)
    for interval in ("100ms", "2s")
)
PACED_SECONDS = 6.0
PACED_RATE = 2000
HANDOVERS = tuple(
    Contender(f"{keys:,} keys, {tasks} tasks", f"handover/{keys}/{tasks}", needs="confluent_kafka")
    for keys, tasks in ((AGAIN, 2), (AGAIN, 4), (AGAIN, 8), (100_000, 2), (1_000_000, 2))
)
WORKER_CPU = Figure("worker_cpu", "CPU s of workers", 2)
BROKER_CPU = Figure("broker_cpu", "CPU s of broker", 2)
COMMITS = Figure("commits", "commits")
START_UP = Figure("start_up", "s start-up", 2)
HANDOVER = Figure("handover", "s to all results elsewhere", 2)
TOTALS = "SELECT key, COUNT(*) AS n, SUM(value) AS total FROM numbers GROUP BY key EMIT CHANGES"
# One process of a job: the configuration on stdin, the report as the last line of stdout.
WORKER = "from benchmarks.kafka_workers import work; work()"


def main(records: int) -> None:
    from benchmarks.peers import duckdb

    path = trades(records)
    base = result_path(SCENARIO, "duckdb", records)
    duckdb.run(path, base, threads=1)

    def check(contender: Contender) -> None:
        rows = result_path(SCENARIO, contender.argument, records)
        read_committed(_topic(contender.argument), rows)
        same_rows(base, rows, contender.name)

    # Of so many contenders more would take too long.
    runs = min(session.runs, RUNS)
    with broker():
        fill(make_topic(f"{SCENARIO}-topic", PARTITIONS), path, records, PARTITIONS)
        _fill_by(make_topic(f"{SCENARIO}-none", PARTITIONS), path, "symbol", 0, records)
        figures = (RATE, WORKER_CPU, BROKER_CPU, COMMITS, START_UP)
        title = f"topic of {PARTITIONS} partitions to 60 s tumbling window per symbol, to a topic, by workers"
        compare(SCENARIO, title, records, CONTENDERS, check, runs, figures=figures)
        title = f"{PACED_RATE:,} records/s for {PACED_SECONDS:g} s, by one worker"
        paced = int(PACED_SECONDS * PACED_RATE)
        compare(SCENARIO, title, paced, PACED, runs=runs, figures=(WORKER_CPU, BROKER_CPU, COMMITS))
        title = "one of two workers leaves: SIGTERM to the results of all tasks"
        compare(SCENARIO, title, records, HANDOVERS, runs=runs, figures=(HANDOVER,))


def run(argument: str, records: int) -> dict[str, float]:
    what, first, second, *rest = argument.split("/")
    if what == "load":
        return load(argument, int(first), int(second), rest[0], records)
    if what == "pace":
        return pace(int(first), second, records)
    return handover(int(first), int(second))


def load(argument: str, workers: int, tasks: int, exchange: str, records: int) -> dict[str, float]:
    """Seconds from the first block read to the last row written over all workers, and what they took."""
    source = {
        "topic": f"{SCENARIO}-{exchange}",
        "schema": COLUMNS,
        "out_of_orderness": "5s",
        "until": "latest",
    }
    if exchange == "none":
        source["partitioned_by"] = ["symbol"]
    output = make_topic(_topic(argument), PARTITIONS)
    name = f"{SCENARIO}-{argument.replace('/', '-')}"
    config = _config(name, QUERY, {"trades": source}, output, tasks)
    begun_at, before = time.time(), broker_cpu()
    running = [_start(config) for _ in range(workers)]
    reports, spent = [], 0.0
    for worker in running:
        report, seconds = _end(worker)
        reports.append(report)
        spent += seconds
    read = [report for report in reports if report["begun_at"]]
    first = min(report["begun_at"] for report in read)
    return {
        "seconds": max(report["begun_at"] + report["seconds"] for report in read) - first,
        "records": records,
        "workers": workers,
        "tasks": tasks,
        "exchanged": records if exchange == "topic" else 0,
        "task_seconds": sum(report["seconds"] for report in read) / len(read) * tasks,
        "reading_workers": len(read),
        WORKER_CPU.key: spent,
        BROKER_CPU.key: broker_cpu() - before,
        COMMITS.key: sum(report["commits"] for report in reports),
        START_UP.key: first - begun_at,
    }


def pace(tasks: int, interval: str, records: int) -> dict[str, float]:
    """What one worker and the broker take for records that come evenly."""
    topic, output = (
        make_topic(f"{SCENARIO}-paced", PARTITIONS),
        make_topic(f"{SCENARIO}-paced-out", PARTITIONS),
    )
    source = {"topic": topic, "schema": COLUMNS, "partitioned_by": ["symbol"]}
    name = f"{SCENARIO}-pace-{tasks}-{interval}"
    config = _config(name, QUERY + " EMIT CHANGES", {"trades": source}, output, tasks)
    config["delivery"]["interval"] = interval
    path = trades(records)
    before = broker_cpu()
    worker = _start(config)
    try:
        _wait_for_members(name, 1)
        begun = time.monotonic()
        step = records // int(PACED_SECONDS * 10)
        for first in range(0, records, step):
            time.sleep(max(0.0, begun + first / PACED_RATE - time.monotonic()))
            _fill_by(topic, path, "symbol", first, first + step)
        worker.send_signal(signal.SIGTERM)
        report, spent = _end(worker, "interrupted")
    finally:
        worker.kill()
    return {
        "seconds": report["seconds"],
        "records": records,
        "workers": 1,
        "tasks": tasks,
        "exchanged": 0,
        "task_seconds": report["seconds"] * tasks,
        WORKER_CPU.key: spent,
        BROKER_CPU.key: broker_cpu() - before,
        COMMITS.key: report["commits"],
    }


def handover(keys: int, tasks: int) -> dict[str, float]:
    """Seconds from SIGTERM to one of two workers to new committed results of keys of all tasks.

    Raises SystemExit unless the results are of both what was read before and after.
    """
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    path = numbers(keys + AGAIN, keys)
    topic = make_topic(f"{SCENARIO}-keys", PARTITIONS)
    schema = {"key": "BIGINT", "value": "BIGINT"}
    source = {"topic": topic, "schema": schema, "partitioned_by": ["key"]}
    output = make_topic(f"{SCENARIO}-totals", 1)
    consumer = Consumer(client({"group.id": "benchmarks", "isolation.level": "read_committed"}))
    consumer.assign([TopicPartition(output, 0, OFFSET_BEGINNING)])
    # Of an earlier run's name that run's state would be gone on with by who joins first.
    config = _config(f"{SCENARIO}-{keys}-{tasks}-{os.getpid()}", TOTALS, {"numbers": source}, output, tasks)
    config["state"]["start"] = "resume"
    stays, leaves = _start(config), _start(config)
    try:
        _wait_for_members(config["name"], 2)
        _fill_by(topic, path, "key", 0, keys)
        _results(consumer, keys)
        begun = time.perf_counter()
        leaves.send_signal(signal.SIGTERM)
        _fill_by(topic, path, "key", keys, keys + AGAIN)
        found = _results(consumer, AGAIN)
        seconds = time.perf_counter() - begun
        report = _report(leaves)
        if report["state"] != "interrupted":
            raise SystemExit(f"the worker that leaves is {report['state']}: {report['error']}")
    finally:
        consumer.close()
        for worker in (leaves, stays):
            worker.kill()
            worker.communicate()
    same_totals(found, path, keys)
    return {HANDOVER.key: seconds, "keys": keys, "tasks": tasks}


def work() -> None:
    """A worker, in a process of its own."""
    from velostream.cli.request import all_kinds
    from velostream.cli.signals import Signals
    from velostream.config.build import from_mapping
    from velostream.runtime.worker import make_job

    job = make_job(from_mapping(json.load(sys.stdin), all_kinds()).job)
    with Signals(job.stop, job.abort):
        print(json.dumps(job.run().to_dict()))


def broker_cpu() -> float:
    """CPU seconds that the process behind the broker's port has taken. Raises SystemExit."""
    port = int(address().rpartition(":")[2])
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: listens
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(file) in inodes for file in (process / "fd").iterdir()):
                # proc(5): fields 14 and 15, counted from the state, the third, behind the name.
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:  # of another user, or ended
            continue
    raise SystemExit(f"no process of this machine listens on {address()}: the broker's CPU cannot be read")


def _topic(argument: str) -> str:
    return f"{SCENARIO}-out-{argument.replace('/', '-')}"


def _config(name: str, sql: str, sources: dict[str, Any], output: str, tasks: int) -> dict[str, Any]:
    at = {"kind": "kafka", "brokers": address()}
    return {
        "name": name,
        "sql": sql,
        "sources": {key: {**at, "start": "earliest", **source} for key, source in sources.items()},
        "sinks": {"result": {**at, "topic": output}},
        "processor": {"version": "v1", "tasks": tasks},
        "delivery": {"guarantee": "exactly_once", "interval": INTERVAL},
        "state": {"path": str(FOLDER / "state" / name), "start": "reset"},
    }


def _start(config: dict[str, Any]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    )
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(config).encode())
    worker.stdin.close()
    worker.stdin = None
    return worker


def _end(worker: subprocess.Popen[bytes], state: str = "completed") -> tuple[dict[str, Any], float]:
    """The report and the CPU seconds of a worker. Raises SystemExit when it does not end so."""
    assert worker.stdout is not None
    output = worker.stdout.read()
    _, status, usage = os.wait4(worker.pid, 0)
    worker.returncode = os.waitstatus_to_exitcode(status)
    if worker.returncode:
        raise SystemExit(f"a worker ended with {worker.returncode}")
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    if report["state"] != state:
        raise SystemExit(f"a worker is {report['state']}: {report['error']}")
    return report, usage.ru_utime + usage.ru_stime


def _report(worker: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The report of a worker that has been told to end."""
    output, _ = worker.communicate(timeout=PATIENCE_SECONDS)
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    return report


def _fill_by(topic: str, path: Path, key: str, first: int, last: int) -> None:
    """Lines `first` to `last`, those of one value of `key` in one partition."""
    from confluent_kafka import Producer

    producer = Producer(client({"linger.ms": 20, "queue.buffering.max.messages": 1_000_000}))
    with open(path, "rb") as file:
        for line in islice(file, first, last):
            value = json.loads(line)[key]
            partition = (value if isinstance(value, int) else int(value[3:])) % PARTITIONS
            while True:
                try:
                    producer.produce(topic, line[:-1], partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
    if producer.flush(PATIENCE_SECONDS):
        raise SystemExit(f"topic '{topic}' could not be filled within {PATIENCE_SECONDS:.0f} s")


def _wait_for_members(job: str, count: int) -> None:
    """Until so many workers of the job have tasks. Raises SystemExit."""
    from tests.kafka.chaos import shares

    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = shares(address(), f"velostream-{job}")
        if len([each for each in found.values() if each]) == count:
            return
        time.sleep(0.1)
    raise SystemExit(f"job '{job}' has no {count} workers with tasks after {PATIENCE_SECONDS:.0f} s")


def _results(consumer: Any, count: int) -> list[bytes]:
    """The next `count` committed results. Raises SystemExit."""
    found: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count:
        found += [
            message.value() for message in consumer.consume(10_000, timeout=0.02) if not message.error()
        ]
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(found)} results of {count} after {PATIENCE_SECONDS:.0f} s")
    return found


if __name__ == "__main__":
    entry(run, main, 1_000_000)
