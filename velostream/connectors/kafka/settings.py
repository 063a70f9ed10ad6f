"""Client settings by Kafka's own dotted names: the one table of them, and their check.

A source or sink of Kafka takes any of them under `options`, as in a properties file:

    options: {security.protocol: SASL_SSL, sasl.mechanism: PLAIN, linger.ms: 20}

Overrides split keys at dots, so that `sink.options.linger.ms=20` comes as nested mappings: the same.
The names are those of Kafka's documentation; where librdkafka has a name for what the Java client does
by a class or a key store (PEM files, user name and password), it is librdkafka's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from velostream.errors import ConfigError, VelostreamError, Where, raise_all, unknown

Client = Literal["consumer", "producer", "admin"]
Role = Literal["source", "sink"]


class _Misfit(Exception):
    """What a value should have been."""


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _Misfit("text")
    return str(value)


def _flag(value: Any) -> bool:
    text = str(value).lower()
    if text in ("true", "false"):
        return text == "true"
    raise _Misfit("true or false")


def _number(minimum: int, maximum: int = (1 << 31) - 1) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        try:
            number = None if isinstance(value, (bool, float)) else int(value)
        except (TypeError, ValueError):
            number = None
        if number is None or not minimum <= number <= maximum:
            raise _Misfit(f"an integer from {minimum} to {maximum}")
        return number

    return convert


def _choice(*options: str) -> Callable[[Any], str]:
    """One of the texts, whatever its letter case."""

    def convert(value: Any) -> str:
        for option in options:
            if str(value).lower() == option.lower():
                return option
        raise _Misfit("one of " + ", ".join(f"'{option}'" for option in options))

    return convert


def _acks(value: Any) -> int | str:
    text = str(value).lower()
    if text in ("all", "-1"):
        return "all"
    if text in ("0", "1"):
        return int(text)
    raise _Misfit("one of 'all', '1', '0'")


def _idle_ms(value: Any) -> int | None:
    number = _number(-1)(value)
    return None if number == -1 else number


CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
OAUTH = "sasl.oauthbearer."
_MS = _number(0)
_BYTES = _number(1)


@dataclass(frozen=True, slots=True)
class Setting:
    """One name. `argument` is aiokafka's keyword of the same meaning, "" where velostream acts on it itself.

    `role` is None for a setting of every client; else only that connector takes it. `secret` values are
    never shown.
    """

    name: str
    convert: Callable[[Any], Any]
    argument: str = ""
    role: Role | None = None
    secret: bool = False


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("bootstrap.servers", _text, "bootstrap_servers"),
        Setting("client.id", _text, "client_id"),
        Setting("metadata.max.age.ms", _MS, "metadata_max_age_ms"),
        Setting("request.timeout.ms", _number(1), "request_timeout_ms"),
        Setting("retry.backoff.ms", _MS, "retry_backoff_ms"),
        Setting("connections.max.idle.ms", _idle_ms, "connections_max_idle_ms"),
        Setting(
            "security.protocol",
            _choice("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
            "security_protocol",
        ),
        Setting("ssl.ca.location", _text),
        Setting("ssl.certificate.location", _text),
        Setting("ssl.key.location", _text),
        Setting("ssl.key.password", _text, secret=True),
        Setting("ssl.endpoint.identification.algorithm", _choice("https", "none", "")),
        Setting("ssl.cipher.suites", _text),
        Setting(
            "sasl.mechanism",
            _choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"),
            "sasl_mechanism",
        ),
        Setting("sasl.username", _text, "sasl_plain_username"),
        Setting("sasl.password", _text, "sasl_plain_password", secret=True),
        Setting("sasl.kerberos.service.name", _text, "sasl_kerberos_service_name"),
        Setting("sasl.oauthbearer.token.endpoint.url", _text),
        Setting("sasl.oauthbearer.client.id", _text),
        Setting("sasl.oauthbearer.client.secret", _text, secret=True),
        Setting("sasl.oauthbearer.scope", _text),
        Setting("sasl.oauthbearer.extensions", _text),
        # Of members of a job's group (`membership.py`).
        Setting("session.timeout.ms", _number(1)),
        # Of consumers.
        Setting("group.id", _text, "group_id", "source"),
        Setting("group.instance.id", _text, "group_instance_id", "source"),
        Setting("heartbeat.interval.ms", _number(1), "heartbeat_interval_ms", "source"),
        Setting("max.poll.interval.ms", _number(1), "max_poll_interval_ms", "source"),
        Setting("fetch.min.bytes", _BYTES, "fetch_min_bytes", "source"),
        Setting("fetch.max.bytes", _BYTES, "fetch_max_bytes", "source"),
        Setting("fetch.max.wait.ms", _MS, "fetch_max_wait_ms", "source"),
        Setting("max.partition.fetch.bytes", _BYTES, "max_partition_fetch_bytes", "source"),
        Setting(
            "isolation.level",
            _choice("read_committed", "read_uncommitted"),
            "isolation_level",
            "source",
        ),
        Setting("exclude.internal.topics", _flag, "exclude_internal_topics", "source"),
        Setting("client.rack", _text, "client_rack", "source"),
        # Where to go on when an offset is gone, and of partitions of which nothing was committed.
        Setting("auto.offset.reset", _choice("earliest", "latest", "none"), "auto_offset_reset", "source"),
        # Of producers.
        Setting("acks", _acks, "acks", "sink"),
        Setting("enable.idempotence", _flag, "enable_idempotence", "sink"),
        Setting("transaction.timeout.ms", _number(1), "transaction_timeout_ms", "sink"),
        Setting("compression.type", _choice(*CODECS), role="sink"),
        Setting("linger.ms", _MS, role="sink"),
        Setting("batch.size", _BYTES, role="sink"),
        Setting("buffer.memory", _BYTES, role="sink"),
        Setting("max.request.size", _BYTES, role="sink"),
        Setting("delivery.timeout.ms", _number(1), role="sink"),
    )
}

_PEM = "set ssl.ca.location, ssl.certificate.location and ssl.key.location to PEM files"
_TOKENS = "set sasl.oauthbearer.token.endpoint.url, client.id and client.secret"
_LEVEL = "leave it out: record batches are compressed at one level, gzip at 1 and zstd at 3"
_LIBRARY = "leave it out: aiokafka, which velostream uses, decides it"

# Settings of Kafka's clients that do not pass through, each with the way out.
REFUSED = {
    "sasl.jaas.config": "set sasl.username and sasl.password",
    "sasl.login.callback.handler.class": _TOKENS,
    "sasl.client.callback.handler.class": _TOKENS,
    "sasl.login.class": _TOKENS,
    "sasl.oauthbearer.method": f"the method is 'oidc'; {_TOKENS}",
    "sasl.oauthbearer.config": _TOKENS,
    "ssl.ca.pem": _PEM,
    "ssl.certificate.pem": _PEM,
    "ssl.key.pem": _PEM,
    "ssl.keystore.location": _PEM,
    "ssl.keystore.password": _PEM,
    "ssl.keystore.type": _PEM,
    "ssl.keystore.key": _PEM,
    "ssl.keystore.certificate.chain": _PEM,
    "ssl.truststore.location": _PEM,
    "ssl.truststore.password": _PEM,
    "ssl.truststore.type": _PEM,
    "ssl.truststore.certificates": _PEM,
    "enable.ssl.certificate.verification": "name the broker's authority in ssl.ca.location",
    "ssl.protocol": "leave it out: Python's ssl and the broker agree on the newest",
    "ssl.enabled.protocols": "leave it out: Python's ssl and the broker agree on the newest",
    "enable.auto.commit": "leave it out: positions are committed with the results of their records",
    "auto.commit.interval.ms": "leave it out: positions are committed with the results of their records",
    "check.crcs": "leave it out: checksums are always verified",
    "partition.assignment.strategy": "leave it out: Faust assigns partitions, each to where it was",
    "group.protocol": "leave it out: aiokafka has the classic protocol only",
    "group.remote.assignor": "leave it out: aiokafka has the classic protocol only",
    "max.poll.records": "set processor.block_size, the bytes that are read at once",
    "allow.auto.create.topics": "leave it out: reading creates no topic",
    "transactional.id": "leave it out: a job with delivery=exactly_once names its transactions itself",
    "retries": "set delivery.timeout.ms: a batch is sent again until then",
    "max.block.ms": "set delivery.timeout.ms: writing waits while the buffer is full, until then",
    "max.in.flight.requests.per.connection": "leave it out: aiokafka has one for each broker",
    "partitioner.class": "set `partitioner` of the sink",
    "partitioner": "set `partitioner` of the sink, beside `options`",
    "partitioner.ignore.keys": "set `partitioner: round_robin` of the sink",
    "partitioner.adaptive.partitioning.enable": _LIBRARY,
    "partitioner.availability.timeout.ms": _LIBRARY,
    "key.serializer": "set `key_format` of the sink",
    "value.serializer": "set `format` of the sink",
    "key.deserializer": "keys are columns of the source",
    "value.deserializer": "set `format` of the source",
    "compression.gzip.level": _LEVEL,
    "compression.lz4.level": _LEVEL,
    "compression.zstd.level": _LEVEL,
    "compression.level": _LEVEL,
    "client.dns.lookup": _LIBRARY,
    "default.api.timeout.ms": "set request.timeout.ms",
    "enable.metrics.push": _LIBRARY,
    "interceptor.classes": _LIBRARY,
    "metadata.max.idle.ms": _LIBRARY,
    "metadata.recovery.strategy": _LIBRARY,
    "metadata.recovery.rebootstrap.trigger.ms": _LIBRARY,
    "metric.reporters": _LIBRARY,
    "metrics.num.samples": _LIBRARY,
    "metrics.recording.level": _LIBRARY,
    "metrics.sample.window.ms": _LIBRARY,
    "receive.buffer.bytes": _LIBRARY,
    "send.buffer.bytes": _LIBRARY,
    "reconnect.backoff.ms": _LIBRARY,
    "reconnect.backoff.max.ms": _LIBRARY,
    "retry.backoff.max.ms": _LIBRARY,
    "socket.connection.setup.timeout.ms": _LIBRARY,
    "socket.connection.setup.timeout.max.ms": _LIBRARY,
    "security.providers": _LIBRARY,
    "sasl.kerberos.kinit.cmd": _LIBRARY,
    "sasl.kerberos.min.time.before.relogin": _LIBRARY,
    "sasl.kerberos.ticket.renew.jitter": _LIBRARY,
    "sasl.kerberos.ticket.renew.window.factor": _LIBRARY,
}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The checked settings of one connector: `values` by Kafka's name, converted. `key` is where they stand
    in the configuration (`sinks.bars`)."""

    key: str
    values: Mapping[str, Any] = field(repr=False)

    @property
    def brokers(self) -> str:
        """Hosts and ports, comma-separated."""
        return str(self.values["bootstrap.servers"])

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a setting by Kafka's name; `default` when it was not given."""
        assert name in SETTINGS, name
        return self.values.get(name, default)

    def where(self, name: str) -> Where:
        """The place of a setting, for errors."""
        return Where(key=f"{self.key}.options.{name}")

    def arguments(self, client: Client) -> dict[str, Any]:
        """aiokafka's arguments for what was given; those of `security.py` are left to it."""
        role = {"consumer": "source", "producer": "sink"}.get(client)
        return {
            setting.argument: self.values[setting.name]
            for setting in SETTINGS.values()
            if setting.argument and setting.name in self.values and setting.role in (None, role)
        }


def client_settings(brokers: str, options: Mapping[str, Any], key: str, role: Role) -> ClientSettings:
    """The settings of a connector, whose configuration key is `key`. Looks at nothing outside.

    Raises ConfigError or Problems with all that is wrong: no brokers, a name that does not exist, that
    belongs to the other role or that cannot be had, a value of a wrong type, security that does not fit
    together.
    """
    errors: list[VelostreamError] = []
    values: dict[str, Any] = {}
    for name, value in _flat(options):
        where = Where(key=f"{key}.options.{name}")
        setting = SETTINGS.get(name)
        if setting is None:
            errors.append(_refusal(name, where))
        elif setting.role not in (None, role):
            owner = "consumers" if setting.role == "source" else "producers"
            hint = f"leave it out of this {role}"
            errors.append(ConfigError(f"'{name}' is a setting of {owner}", where=where, hint=hint))
        else:
            try:
                values[name] = setting.convert(value)
            except _Misfit as expected:
                shown = "a secret" if setting.secret else f"'{value}'"
                errors.append(ConfigError(f"'{name}' is {shown}, expected {expected}", where=where))
    if brokers:
        if values.setdefault("bootstrap.servers", brokers) != brokers:
            errors.append(
                ConfigError(
                    "the brokers are given twice, as `brokers` and as bootstrap.servers",
                    where=Where(key=f"{key}.brokers"),
                    hint="leave one of them",
                )
            )
    elif "bootstrap.servers" not in values:
        errors.append(
            ConfigError(
                "no brokers are given",
                where=Where(key=f"{key}.brokers"),
                hint="set it to host:port, several comma-separated",
            )
        )
    raise_all(errors)
    settings = ClientSettings(key, values)
    raise_all(list(_security_problems(settings)))
    return settings


def _flat(options: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _refusal(name: str, where: Where) -> ConfigError:
    if name in REFUSED:
        return ConfigError(
            f"'{name}' does not pass through to Kafka's client", where=where, hint=REFUSED[name]
        )
    # The nearest of all names: that of a refused one tells what to set in its place.
    message, hint = unknown("setting of Kafka's clients", name, [*SETTINGS, *REFUSED])
    if hint.startswith("expected one of"):
        hint = "write it as Kafka's documentation of client settings does"
    return ConfigError(message, where=where, hint=hint)


def _security_problems(settings: ClientSettings) -> Iterator[VelostreamError]:
    """What is wrong with the settings of TLS and SASL together; looks at no file."""
    protocol = settings.get("security.protocol", "PLAINTEXT")
    for prefix, wanted, mark in (("sasl.", "SASL_SSL", "SASL"), ("ssl.", "SSL", "SSL")):
        given = next((name for name in settings.values if name.startswith(prefix)), None)
        if given is not None and mark not in protocol:
            yield ConfigError(
                f"'{given}' has no effect, since security.protocol is {protocol}",
                where=settings.where(given),
                hint=f"set security.protocol to {wanted}",
            )
    if "SASL" in protocol:
        mechanism = settings.get("sasl.mechanism", "PLAIN")
        yield from _missing(settings, mechanism, _needed(mechanism))
        if mechanism == "GSSAPI" and find_spec("gssapi") is None:
            yield ConfigError(
                "sasl.mechanism GSSAPI needs the package 'gssapi', which is not installed",
                where=settings.where("sasl.mechanism"),
                hint="pip install gssapi",
            )
    if settings.get("ssl.key.location") and not settings.get("ssl.certificate.location"):
        yield ConfigError(
            "a key without its certificate",
            where=settings.where("ssl.key.location"),
            hint="set ssl.certificate.location",
        )


def _needed(mechanism: str) -> tuple[str, ...]:
    if mechanism == "OAUTHBEARER":
        return (f"{OAUTH}token.endpoint.url", f"{OAUTH}client.id", f"{OAUTH}client.secret")
    return () if mechanism == "GSSAPI" else ("sasl.username", "sasl.password")


def _missing(settings: ClientSettings, mechanism: str, needed: tuple[str, ...]) -> Iterator[VelostreamError]:
    for name in needed:
        if not settings.get(name):
            yield ConfigError(
                f"sasl.mechanism {mechanism} needs '{name}'",
                where=settings.where(name),
                hint="set it; a secret comes from the environment: ${oc.env:NAME}",
            )
