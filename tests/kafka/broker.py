"""One node of Apache Kafka on loopback, for tests and for people.

The jars come from Maven Central by `pom.xml`, once, into `build/kafka`. `python -m tests.kafka.broker`
(`make kafka`) runs a broker until Ctrl-C; `compose.yaml` is one in Docker. Needs a Java runtime of version 17
or later, and Maven for the first start.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

HERE = Path(__file__).parent
POM = HERE / "pom.xml"
VERSION = re.findall(r"<kafka\.version>(.*)</kafka\.version>", POM.read_text())[0]
FETCHED = HERE.parent.parent / "build" / "kafka"
# Below the ports that systems give to connections (from 32768 on Linux). A client that tries a broker that is
# down again and again may otherwise be given its port: it is connected to itself, and the broker stays away.
PORTS = range(20_000, 32_000)
START_SECONDS = 60
NODE = 1
# A broker of a test is ready in half of the time when the compiler that takes longer is left out.
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
JAVA_NEEDED = (
    "install a Java runtime of version 17 or later (Debian: apt-get install openjdk-17-jre-headless)"
)
MAVEN_NEEDED = "install Maven (Debian: apt-get install maven)"


class BrokerUnavailable(Exception):
    """No broker can be started here; the message says why and what to do."""


@cache
def java() -> str:
    """The path of a Java runtime that Kafka runs on. Raises BrokerUnavailable."""
    home = os.environ.get("JAVA_HOME")
    command = shutil.which("java", path=f"{home}/bin" if home else None)
    if command is None:
        raise BrokerUnavailable(f"a Kafka broker needs Java, and there is none: {JAVA_NEEDED}")
    shown = subprocess.run([command, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', shown.stderr)
    if version is None or int(version[1]) < 17:
        raise BrokerUnavailable(f"a Kafka broker needs Java 17, {command} is not: {JAVA_NEEDED}")
    return command


def jars() -> Path:
    """The folder of the broker's jars, fetched when they are not there yet. Raises BrokerUnavailable."""
    folder = FETCHED / f"{VERSION}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerUnavailable(f"Kafka's jars are fetched by Maven, and there is none: {MAVEN_NEEDED}")
    FETCHED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FETCHED) as scratch:
        fetched = Path(scratch) / "jars"
        command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        ran = subprocess.run(
            [*command, "-DincludeScope=runtime", f"-DoutputDirectory={fetched}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise BrokerUnavailable(f"Maven could not fetch Kafka's jars: check the network\n{ran.stdout}")
        _move(fetched, folder)
    return folder


def _move(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        # Another process was first.
        if not folder.is_dir():
            raise


def formatted() -> Path:
    """The folder of a broker's data before its first start, made when it is not there yet: nothing in it is
    of one broker alone. Raises BrokerUnavailable."""
    folder = FETCHED / f"{jars().name}-formatted"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=FETCHED) as scratch:
        data, config = Path(scratch) / "data", Path(scratch) / "server.properties"
        _write(config, {**_properties(1, 2), "log.dirs": data})
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        ran = subprocess.run(
            # An identifier may begin with a dash.
            [
                *_kafka(*QUICK),
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster}",
                "-c",
                str(config),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise BrokerUnavailable(f"Kafka could not format {data}:\n{ran.stdout}")
        _move(data, folder)
    return folder


def _kafka(*options: str) -> list[str]:
    """The command that runs a class of Kafka's, but for the class."""
    log = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
    return [java(), *options, log, "-cp", f"{jars()}/*"]


def _properties(port: int, controller: int) -> dict[str, object]:
    """Of one node on loopback that is broker and controller."""
    return {
        "process.roles": "broker,controller",
        "node.id": NODE,
        "controller.quorum.voters": f"{NODE}@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
    }


def _write(path: Path, properties: Mapping[str, object]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))


def in_use(port: int) -> bool:
    """Whether a broker could not listen on that port of loopback."""
    with socket.socket() as probe:
        # As brokers do: connections of a broker that has ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def free_port() -> int:
    """A port of loopback that nobody listens on, nor is likely to be given."""
    for port in random.sample(PORTS, 100):
        if not in_use(port):
            return port
    raise BrokerUnavailable("no port of 127.0.0.1 is free")


class Broker:
    """A broker with a folder of its own, which lives until `close`: it may be stopped, killed, started again.

    `address` is its host:port, the same for all of its life. `properties` are added to its configuration. One
    that is `lasting` starts slower and is faster in the end. When this process dies, by whatever signal, the
    broker does too.
    """

    def __init__(
        self,
        port: int = 0,
        heap: str = "512m",
        properties: Mapping[str, object] | None = None,
        lasting: bool = False,
    ) -> None:
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.pid = 0
        self._options = [f"-Xmx{heap}", "-XX:+ExitOnOutOfMemoryError", *(() if lasting else QUICK)]
        self._properties = properties or {}
        self._guard: subprocess.Popen[str] | None = None
        self._folder: Path | None = None
        self._log: IO[str] | None = None

    def start(self) -> None:
        """Start, and wait until clients are served. Raises BrokerUnavailable."""
        run = _kafka(*self._options)
        if in_use(self.port):
            raise BrokerUnavailable(f"{self.address} is in use: choose another port")
        if self._folder is None:
            self._make_folder()
        assert self._folder is not None and self._log is not None
        config = self._folder / "server.properties"
        self._guard = subprocess.Popen(
            [sys.executable, str(HERE / "guard.py"), str(self._folder), *run, "kafka.Kafka", str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # A Ctrl-C is for the starter, which then stops the broker.
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline())
        self._wait()

    def stop(self) -> None:
        """Stop as an operator would; its data stay. May be called twice."""
        if self.runs:
            assert self._guard is not None and self._guard.stdin is not None
            self._guard.stdin.write("\n")
            self._guard.stdin.flush()
        self._ended()

    def kill(self) -> None:
        """End it at once, as a crash would; its data stay."""
        os.kill(self.pid, signal.SIGKILL)
        self._ended()

    def pause(self) -> None:
        """Let it answer nothing until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, if it is paused."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended, be it paused."""
        return self._guard is not None and self._guard.poll() is None

    def wait(self) -> None:
        """Until it has ended."""
        assert self._guard is not None
        self._guard.wait()

    def close(self) -> None:
        """Stop, and remove its data. May be called twice."""
        self.stop()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def log(self) -> str:
        """What the broker has to say so far."""
        return (self._folder / "broker.log").read_text(errors="replace") if self._folder else ""

    def __enter__(self) -> Broker:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _make_folder(self) -> None:
        empty = formatted()
        self._folder = Path(tempfile.mkdtemp(prefix="velostream-kafka-"))
        self._log = (self._folder / "broker.log").open("a")
        shutil.copytree(empty, self._folder / "data")
        properties = {
            **_properties(self.port, free_port()),
            "log.dirs": self._folder / "data",
            # A topic that is missing is an error that velostream reports.
            "auto.create.topics.enable": "false",
            # One node holds the only copy; few partitions are made quickly.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # Waits that are meant for real networks and clusters.
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
            "broker.heartbeat.interval.ms": 500,
            # How long one that was killed must stay away before it may return.
            "broker.session.timeout.ms": 3000,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
            "log.cleaner.backoff.ms": 500,
            # Tests write records of any year, which a broker would delete as soon as it looks.
            "log.retention.ms": -1,
            "controlled.shutdown.enable": "false",
            # Small enough for a small heap.
            "log.cleaner.dedupe.buffer.size": 16 << 20,
            **self._properties,
        }
        _write(self._folder / "server.properties", properties)

    def _wait(self) -> None:
        assert self._guard is not None
        deadline = time.monotonic() + START_SECONDS
        admin = AdminClient(
            {"bootstrap.servers": self.address, "log_level": 0, "reconnect.backoff.max.ms": 100}
        )
        while True:
            if self._guard.poll() is not None:
                raise BrokerUnavailable(f"Kafka ended while it started:\n{self.log}")
            try:
                if admin.list_topics(timeout=0.5).brokers:
                    return
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(
                        f"Kafka did not serve {self.address} within {START_SECONDS} s: {error}\n{self.log}"
                    ) from error

    def _ended(self) -> None:
        if self._guard is not None:
            # The pipe is closed afterwards: its end would tell the guard to remove the data.
            self._guard.wait()
            self._guard.communicate()
            self._guard = None
            self.pid = 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Run Apache Kafka on loopback until Ctrl-C.")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--heap", default="512m", help="of the Java process (default: %(default)s)")
    parser.add_argument("--fetch", action="store_true", help="only fetch what it needs")
    asked = parser.parse_args()
    # What ends this process ends the broker, and removes its data.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if asked.fetch:
            java()
            print(jars())
            return 0
        with Broker(asked.port, asked.heap, lasting=True) as broker:
            print(f"Kafka {VERSION} at {broker.address}; Ctrl-C stops it and removes its data", flush=True)
            broker.wait()
    except BrokerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
