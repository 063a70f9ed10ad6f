"""Client settings by Kafka's names: what passes through, what is refused, and what is never shown."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from velostream.connectors.kafka.client import client_arguments
from velostream.connectors.kafka.settings import REFUSED, SETTINGS, client_settings
from velostream.errors import ConfigError, Problems

CLIENTS = {"consumer": AIOKafkaConsumer, "producer": AIOKafkaProducer, "admin": AIOKafkaAdminClient}


def read(options: dict[str, Any], role: Any = "sink", brokers: str = "h:1") -> Any:
    return client_settings(brokers, options, "sinks.out", role)


def refused(options: dict[str, Any], role: Any = "sink", brokers: str = "h:1") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(options, role, brokers)
    return caught.value


def test_every_argument_exists_in_the_clients_that_are_given_it() -> None:
    roles = {"consumer": "source", "producer": "sink", "admin": None}
    for client, kind in CLIENTS.items():
        known = inspect.signature(kind).parameters
        for setting in SETTINGS.values():
            if setting.argument and setting.role in (None, roles[client]):
                assert setting.argument in known, (client, setting.name)


def test_a_name_is_either_taken_or_refused() -> None:
    assert not SETTINGS.keys() & REFUSED.keys()


def test_settings_become_arguments_of_the_client_that_has_them() -> None:
    settings = read({"client.id": "me", "acks": "-1", "linger.ms": "20", "connections.max.idle.ms": -1})

    assert client_arguments(settings, "producer") == {
        "bootstrap_servers": "h:1",
        "client_id": "me",
        "acks": "all",
        "connections_max_idle_ms": None,
    }
    assert client_arguments(settings, "admin") == {
        "bootstrap_servers": "h:1",
        "client_id": "me",
        "connections_max_idle_ms": None,
    }
    assert settings.get("linger.ms") == 20
    assert settings.get("batch.size", 7) == 7


def test_nested_mappings_are_dotted_names_and_the_last_one_counts() -> None:
    settings = read({"linger.ms": 1, "linger": {"ms": 2}, "request": {"timeout": {"ms": 5}}})

    assert settings.get("linger.ms") == 2
    assert settings.get("request.timeout.ms") == 5


def test_brokers_may_be_given_by_kafkas_name() -> None:
    assert read({"bootstrap.servers": "a:1,b:2"}, brokers="").brokers == "a:1,b:2"


def test_brokers_given_twice_are_refused() -> None:
    error = refused({"bootstrap.servers": "a:1"})

    assert error.message == "the brokers are given twice, as `brokers` and as bootstrap.servers"


def test_no_brokers_are_refused_with_their_place() -> None:
    error = refused({}, brokers="")

    assert error.where is not None
    assert error.where.key == "sinks.out.brokers"


def test_an_unknown_name_is_refused_with_the_nearest_and_its_place() -> None:
    error = refused({"linger.mss": 5})

    assert error.message == "unknown setting of Kafka's clients 'linger.mss'"
    assert error.hint == "did you mean 'linger.ms'?"
    assert error.where is not None
    assert error.where.key == "sinks.out.options.linger.mss"


def test_a_name_near_to_none_is_refused_with_where_to_look() -> None:
    assert refused({"qqq": 5}).hint == "write it as Kafka's documentation of client settings does"


def test_what_aiokafka_cannot_do_is_refused_with_that_said() -> None:
    error = refused({"send.buffer.bytes": 1})

    assert error.message == "'send.buffer.bytes' does not pass through to Kafka's client"
    assert error.hint == "leave it out: aiokafka, which velostream uses, decides it"


def test_a_setting_of_the_other_role_is_refused() -> None:
    assert refused({"linger.ms": 1}, "source").message == "'linger.ms' is a setting of producers"
    assert refused({"fetch.min.bytes": 1}, "sink").message == "'fetch.min.bytes' is a setting of consumers"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("linger.ms", "soon", "'linger.ms' is 'soon', expected an integer from 0 to 2147483647"),
        ("linger.ms", 1.5, "'linger.ms' is '1.5', expected an integer from 0 to 2147483647"),
        ("linger.ms", True, "'linger.ms' is 'True', expected an integer from 0 to 2147483647"),
        ("enable.idempotence", 1, "'enable.idempotence' is '1', expected true or false"),
        ("acks", 2, "'acks' is '2', expected one of 'all', '1', '0'"),
        ("client.id", ["a"], "'client.id' is '['a']', expected text"),
        (
            "compression.type",
            "brotli",
            "'compression.type' is 'brotli', expected one of 'none', 'gzip', 'snappy', 'lz4', 'zstd'",
        ),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(name: str, value: Any, expected: str) -> None:
    assert refused({name: value}).message == expected


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(Problems) as caught:
        read({"linger.mss": 5, "acks": 7})

    assert len(caught.value.errors) == 2


def test_a_secret_is_neither_in_an_error_nor_in_the_text_of_the_settings() -> None:
    options = {"security.protocol": "SASL_SSL", "sasl.username": "u", "sasl.password": "hunter2"}

    assert "hunter2" not in repr(read(options))
    assert "hunter2" not in refused({**options, "sasl.password": ["hunter2"]}).render()


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (
            {"sasl.username": "u"},
            "'sasl.username' has no effect, since security.protocol is PLAINTEXT",
            "set security.protocol to SASL_SSL",
        ),
        (
            {"ssl.ca.location": "ca.pem"},
            "'ssl.ca.location' has no effect, since security.protocol is PLAINTEXT",
            "set security.protocol to SSL",
        ),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "scram-sha-512", "sasl.username": "u"},
            "sasl.mechanism SCRAM-SHA-512 needs 'sasl.password'",
            "set it; a secret comes from the environment: ${oc.env:NAME}",
        ),
        (
            {"security.protocol": "SSL", "ssl.key.location": "key.pem"},
            "a key without its certificate",
            "set ssl.certificate.location",
        ),
    ],
)
def test_settings_of_security_that_do_not_fit_together_are_refused(
    options: dict[str, Any], message: str, hint: str
) -> None:
    error = refused(options)

    assert (error.message, error.hint) == (message, hint)


def test_a_missing_file_of_certificates_is_named() -> None:
    settings = read({"security.protocol": "SSL", "ssl.ca.location": "/nowhere/ca.pem"})

    with pytest.raises(ConfigError) as caught:
        client_arguments(settings, "producer")

    assert caught.value.message == (
        "cannot read the certificates of an authority from '/nowhere/ca.pem': No such file or directory"
    )
    assert caught.value.where is not None
    assert caught.value.where.key == "sinks.out.options.ssl.ca.location"
