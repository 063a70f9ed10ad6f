"""Clients of Kafka: how they are opened, what they find, and what their errors mean to a person.

Every client runs on the loop of `velostream.loop`; the functions here are coroutines for it.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn

from velostream.connectors.kafka.security import security_arguments
from velostream.connectors.kafka.settings import Client, ClientSettings
from velostream.connectors.kafka.settings import client_settings as client_settings
from velostream.errors import ConnectorError, FencedError, NoAnswerError, did_you_mean

# It tells of every try to reach a broker that is away, ten a second, and at DEBUG shows requests with their
# passwords. What its errors mean for the job is told by who gets them.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class _Client(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


Started = TypeVar("Started", bound=_Client)


def client_arguments(settings: ClientSettings, client: Client) -> dict[str, Any]:
    """The keyword arguments of aiokafka's `client`; reads the files of TLS. Raises ConfigError."""
    return {**settings.arguments(client), **security_arguments(settings)}


async def start(client: Started, settings: ClientSettings) -> Started:
    """Start one of aiokafka's clients and return it; one that fails is closed. Raises ConnectorError."""
    try:
        await client.start()
    except BaseException as exc:
        # The admin client has another word for it.
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
        if isinstance(exc, kafka_errors.KafkaConnectionError):
            raise await _unreachable(settings) from exc
        if isinstance(exc, (kafka_errors.KafkaError, OSError, ValueError)):
            raise connector_error(exc, settings) from exc
        raise
    return client


@asynccontextmanager
async def admin(settings: ClientSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client for a short while. Raises ConnectorError, also for aiokafka's errors inside."""
    client = await start(AIOKafkaAdminClient(**client_arguments(settings, "admin")), settings)
    try:
        yield client
    except (kafka_errors.KafkaError, TimeoutError) as exc:
        raise connector_error(exc, settings) from exc
    finally:
        await client.close()


async def topic_partitions(client: AIOKafkaAdminClient) -> dict[str, int]:
    """The number of partitions of every topic that this client may see; asking creates none."""
    topics = await client.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in topics}


def missing_topic(topic: str, topics: Iterable[str], settings: ClientSettings, hint: str) -> ConnectorError:
    """The error of a topic that is not there: the nearest name, and `hint`."""
    near = did_you_mean(topic, [name for name in topics if not name.startswith("__")])
    return ConnectorError(
        f"there is no topic '{topic}' at {settings.brokers}", hint=f"{near} Or {hint}" if near else hint
    )


class _InvalidRecord(kafka_errors.BrokerResponseError):  # type: ignore[misc]
    """Of the broker's errors one that aiokafka does not know by its number: it would be an unknown one."""

    errno = 87
    message = "INVALID_RECORD"


kafka_errors.kafka_errors.setdefault(_InvalidRecord.errno, _InvalidRecord)

# What an error of aiokafka means, and the way out; looked up by class, the most special first.
_MEANINGS: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        kafka_errors.TopicAuthorizationFailedError,
        "the broker does not allow it",
        "give this client's user the right in the broker's ACLs",
    ),
    (
        kafka_errors.GroupAuthorizationFailedError,
        "the broker does not allow this consumer group",
        "give this client's user the right in the broker's ACLs",
    ),
    (
        kafka_errors.ClusterAuthorizationFailedError,
        "the broker does not allow it",
        "give this client's user the right IdempotentWrite, or set enable.idempotence: false",
    ),
    (
        kafka_errors.TransactionalIdAuthorizationFailed,
        "the broker does not allow this transactional id",
        "give this client's user the right in the broker's ACLs",
    ),
    (
        kafka_errors.SaslAuthenticationFailed,
        "the broker does not accept the credentials",
        "see sasl.username, sasl.password and sasl.mechanism",
    ),
    (
        kafka_errors.AuthenticationFailedError,
        "the broker does not accept the credentials",
        "see sasl.username, sasl.password and sasl.mechanism",
    ),
    (
        kafka_errors.UnsupportedSaslMechanismError,
        "the broker does not offer this sasl.mechanism",
        "set one that the broker has enabled",
    ),
    (
        kafka_errors.UnknownTopicOrPartitionError,
        "there is no such topic or partition",
        "see whether the topic was deleted",
    ),
    (
        kafka_errors.NotLeaderForPartitionError,
        "a partition has no leader",
        "see whether the topic was deleted, or its brokers are down",
    ),
    (
        kafka_errors.LeaderNotAvailableError,
        "a partition has no leader",
        "see whether the topic's brokers are down",
    ),
    (
        kafka_errors.InvalidTopicError,
        "the broker does not allow this name of a topic",
        "use letters, digits, '.', '_' and '-'",
    ),
    (
        kafka_errors.MessageSizeTooLargeError,
        "a record batch is larger than the broker takes",
        "raise max.message.bytes of the topic, or lower batch.size",
    ),
    (
        kafka_errors.RecordListTooLargeError,
        "a record batch is larger than a segment of the topic",
        "raise segment.bytes of the topic, or lower batch.size",
    ),
    (
        kafka_errors.InvalidTimestampError,
        "the broker does not take the time of a record",
        "set `timestamp: clock`, or the topic's message.timestamp.before.max.ms and .after.max.ms",
    ),
    (
        kafka_errors.for_code(_InvalidRecord.errno),
        "the broker does not take a record",
        "a compacted topic needs keys: set `key` of the sink",
    ),
    (
        kafka_errors.OutOfOrderSequenceNumber,
        "the broker misses batches that were sent before",
        "start the job again: it goes on from what was committed",
    ),
    (
        kafka_errors.UnknownProducerId,
        "the broker has forgotten this producer",
        "start the job again: it goes on from what was committed",
    ),
    (
        kafka_errors.PolicyViolationError,
        "a policy of the broker forbids it",
        "ask who runs the broker",
    ),
    (
        kafka_errors.InvalidReplicationFactorError,
        "the broker cannot keep so many replicas",
        "set `create.replication` to the number of brokers at most",
    ),
    (
        kafka_errors.InvalidPartitionsError,
        "the number of partitions is not allowed",
        "set `create.partitions` to 1 or more",
    ),
    (kafka_errors.InvalidConfigurationError, "a setting of the topic is wrong", "see `create.config`"),
    (
        kafka_errors.InvalidTransactionTimeout,
        "transaction.timeout.ms is longer than the broker allows",
        "lower it to the broker's transaction.max.timeout.ms",
    ),
    (
        kafka_errors.InvalidSessionTimeoutError,
        "the broker does not allow this session.timeout.ms",
        "set it within the broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
    ),
    (
        kafka_errors.IncompatibleBrokerVersion,
        "the broker is of a version that aiokafka does not speak with",
        "use Apache Kafka 2.5 or later",
    ),
    (
        ssl.SSLCertVerificationError,
        "the broker's certificate is not trusted",
        "set ssl.ca.location to the certificate of who signed it",
    ),
    (ssl.SSLError, "TLS fails", "see whether security.protocol is that of the broker's listener"),
    (
        kafka_errors.KafkaConnectionError,
        "the connection is lost",
        "see that the broker runs, and that security.protocol is that of its listener",
    ),
)
# Of these, what a broker does not change its mind about unless a person acts.
_REFUSALS = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IncompatibleBrokerVersion,
    kafka_errors.InvalidTransactionTimeout,
    kafka_errors.InvalidSessionTimeoutError,
    ssl.SSLCertVerificationError,
)
# The broker also fences who has had a transaction open for too long.
_EXPIRED = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.InvalidProducerIdMapping,
    kafka_errors.InvalidTxnState,
)
_NO_ANSWER = (kafka_errors.KafkaTimeoutError, kafka_errors.RequestTimedOutError, TimeoutError)
_FENCED = (
    *_EXPIRED,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.RebalanceInProgressError,
)


def connector_error(exc: BaseException, settings: ClientSettings, what: str = "") -> ConnectorError:
    """An error of aiokafka for a person. `what` says what was done, and to what (`topic 'bars'`)."""
    subject = f"{what} at {settings.brokers}" if what else settings.brokers
    if isinstance(exc, ConnectorError):
        return exc
    if isinstance(exc, _FENCED):
        late = isinstance(exc, _EXPIRED)
        return FencedError(
            f"{subject}: another process has taken over"
            + (", or the transaction lasted longer than transaction.timeout.ms" if late else "")
            + f" ({type(exc).__name__})",
            hint="let one process write with this job's name; what was not committed is dropped",
        )
    detail = _detail(exc)
    if isinstance(exc, _NO_ANSWER):
        return NoAnswerError(
            f"{subject}: the broker did not answer in time{detail}",
            hint="see that it runs and is not overloaded, or raise request.timeout.ms",
        )
    for kind, meaning, hint in _MEANINGS:
        if isinstance(exc, kind):
            final = isinstance(exc, _REFUSALS)
            return ConnectorError(f"{subject}: {meaning}{detail}", hint=hint, final=final)
    return ConnectorError(f"{subject}: {type(exc).__name__}{detail}")


def _detail(exc: BaseException) -> str:
    """What the broker or the system said, in parentheses."""
    if isinstance(exc, ssl.SSLError):
        text = getattr(exc, "verify_message", "") or exc.reason or ""
    elif isinstance(exc, OSError):
        text = exc.strerror or str(exc)
    else:
        # aiokafka's own text is `[Error 29] TopicAuthorizationFailedError: …`; a cause says more.
        cause = exc.__cause__
        text = str(exc.args[0]) if exc.args else (str(cause) if cause is not None else "")
    return f" ({text})" if text else ""


# What aiokafka's connections take of a client's arguments.
_CONNECTION = (
    "client_id",
    "request_timeout_ms",
    "ssl_context",
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_kerberos_service_name",
    "sasl_oauth_token_provider",
)


async def _unreachable(settings: ClientSettings) -> ConnectorError:
    """Why none of the brokers answers: aiokafka only logs the reasons, so the first one is asked again."""
    host, port, _ = collect_hosts(settings.brokers, randomize=False)[0]
    arguments = client_arguments(settings, "admin")
    detail = ""
    try:
        connection = await create_conn(
            host, port, **{name: arguments[name] for name in _CONNECTION if name in arguments}
        )
        connection.close()
    except (OSError, ValueError, kafka_errors.KafkaError) as exc:
        # Refused, timed out, closed at once, no such host: nothing there speaks with us.
        plain = isinstance(exc, (OSError, kafka_errors.KafkaConnectionError))
        if not plain or isinstance(exc, ssl.SSLError):
            return connector_error(exc, settings)
        detail = _detail(exc)
    return ConnectorError(
        f"no broker answers at {settings.brokers}{detail}",
        hint=f"see that Kafka runs there with this security.protocol, or set {settings.key}.brokers",
    )
