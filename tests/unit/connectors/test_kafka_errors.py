"""What errors of aiokafka become."""

from __future__ import annotations

import aiokafka.errors as kafka_errors
import pytest

from velostream.connectors.kafka.client import connector_error
from velostream.connectors.kafka.settings import client_settings
from velostream.errors import ConnectorError, FencedError, NoAnswerError

SETTINGS = client_settings("broker:9092", {}, "sinks.out", "sink")


@pytest.mark.parametrize(
    ("error", "kind", "final"),
    [
        (kafka_errors.TopicAuthorizationFailedError("bars"), ConnectorError, True),
        (kafka_errors.SaslAuthenticationFailed("who?"), ConnectorError, True),
        (kafka_errors.InvalidSessionTimeoutError(), ConnectorError, True),
        (kafka_errors.ProducerFenced(), FencedError, True),
        (kafka_errors.UnknownMemberIdError(), FencedError, True),
        (kafka_errors.LeaderNotAvailableError(), ConnectorError, False),
        (kafka_errors.KafkaConnectionError(), ConnectorError, False),
        (kafka_errors.UnknownError(), ConnectorError, False),
        (kafka_errors.RequestTimedOutError(), NoAnswerError, False),
        (TimeoutError(), NoAnswerError, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_is_final_when_asking_again_gives_the_same(
    error: BaseException, kind: type[ConnectorError], final: bool
) -> None:
    found = connector_error(error, SETTINGS, "topic 'bars'")

    assert type(found) is kind
    assert found.final is final
    assert found.message.startswith("topic 'bars' at broker:9092: ")
