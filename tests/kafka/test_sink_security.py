"""TLS, SASL and rights, with a broker that demands them. Sources have the same settings."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.kafka.secured import PASSWORD, Secured
from velostream.errors import ConnectorError


def arrived(secured: Secured, topic: str) -> list[bytes | None]:
    return [record.value for record in secured.topics.consume(topic)]


def test_mutual_tls_with_an_encrypted_key(secured: Secured) -> None:
    topic = secured.topics.create()

    secured.write(
        "SSL",
        topic,
        ssl_certificate_location=str(secured.folder / "client.pem"),
        ssl_key_location=str(secured.folder / "locked.key"),
        ssl_key_password=PASSWORD,
    )

    assert arrived(secured, topic) == [b'{"protocol":"SSL"}']


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_user_and_password(
    secured: Secured, caplog: pytest.LogCaptureFixture, protocol: str, mechanism: str
) -> None:
    topic = secured.topics.create()
    caplog.set_level(logging.DEBUG)

    secured.write(protocol, topic, sasl_mechanism=mechanism, sasl_username="alice", sasl_password=PASSWORD)

    assert arrived(secured, topic) == [b'{"protocol":"%s"}' % protocol.encode()]
    assert PASSWORD not in caplog.text


class _Tokens(BaseHTTPRequestHandler):
    """A token endpoint: unsecured JSON web tokens of one hour for who knows the secret."""

    asked: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(body)  # type: ignore[attr-defined]
        credentials = base64.b64decode(self.headers["Authorization"].removeprefix("Basic "))
        if credentials != b"me%3A1:correct-horse":
            self.send_error(401, "Unauthorized")
            return
        now = int(time.time())
        parts = ({"alg": "none"}, {"sub": "alice", "iat": now, "exp": now + 3600})
        token = ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
        )
        answer = json.dumps({"access_token": token + ".", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def token_endpoint() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Tokens)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def oauth(server: HTTPServer, secret: str) -> dict[str, str]:
    return {
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_token_endpoint_url": f"http://127.0.0.1:{server.server_port}/token",
        "sasl_oauthbearer_client_id": "me:1",
        "sasl_oauthbearer_client_secret": secret,
        "sasl_oauthbearer_scope": "kafka write",
    }


def test_tokens_of_an_endpoint(secured: Secured, token_endpoint: HTTPServer) -> None:
    topic = secured.topics.create()

    secured.write("SASL_SSL", topic, **oauth(token_endpoint, PASSWORD))

    assert arrived(secured, topic) == [b'{"protocol":"SASL_SSL"}']
    # Each client asks once, however many connections it has: one that finds the topic, one that writes.
    asked = token_endpoint.asked  # type: ignore[attr-defined]
    assert asked == [b"grant_type=client_credentials&scope=kafka+write"] * 2


def test_an_endpoint_that_gives_no_token_is_named(secured: Secured, token_endpoint: HTTPServer) -> None:
    topic = secured.topics.create()

    with pytest.raises(ConnectorError) as caught:
        secured.write("SASL_SSL", topic, **oauth(token_endpoint, "wrong"))

    assert caught.value.message == (
        f"no token from 'http://127.0.0.1:{token_endpoint.server_port}/token': it answered 401 Unauthorized"
    )
    assert "wrong" not in caught.value.render()


def error_of(secured: Secured, protocol: str, **options: Any) -> ConnectorError:
    topic = secured.topics.create()
    with pytest.raises(ConnectorError) as caught:
        secured.write(protocol, topic, **options)
    return caught.value


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told(secured: Secured, mechanism: str) -> None:
    error = error_of(
        secured, "SASL_SSL", sasl_mechanism=mechanism, sasl_username="alice", sasl_password="wrong"
    )

    assert error.message.startswith(
        f"127.0.0.1:{secured.ports['SASL_SSL']}: the broker does not accept the credentials (Auth"
    )
    assert error.hint == "see sasl.username, sasl.password and sasl.mechanism"


def test_a_certificate_of_another_authority_is_told(secured: Secured) -> None:
    error = error_of(
        secured,
        "SASL_SSL",
        ssl_ca_location=str(secured.folder / "other.pem"),
        sasl_username="alice",
        sasl_password=PASSWORD,
    )

    assert "the broker's certificate is not trusted" in error.message
    assert error.hint == "set ssl.ca.location to the certificate of who signed it"


def test_no_tls_where_the_broker_speaks_it_is_told(secured: Secured) -> None:
    secured.ports["PLAINTEXT"] = secured.ports["SSL"]

    error = error_of(secured, "PLAINTEXT")

    assert error.message.startswith(f"no broker answers at 127.0.0.1:{secured.ports['SSL']} (")
    assert error.hint == "see that Kafka runs there with this security.protocol, or set sinks.out.brokers"


def test_tls_where_the_broker_does_not_speak_it_is_told(secured: Secured) -> None:
    plain = dict(secured.ports)
    secured.ports["SASL_SSL"] = secured.broker.port
    try:
        error = error_of(secured, "SASL_SSL", sasl_username="alice", sasl_password=PASSWORD)
    finally:
        secured.ports.update(plain)

    assert "TLS fails" in error.message or "no broker answers" in error.message


def test_a_topic_that_may_not_be_written_is_told(secured: Secured) -> None:
    topic = secured.topics.create()
    denied = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:alice",
        "*",
        AclOperation.WRITE,
        AclPermissionType.DENY,
    )
    for future in secured.topics.admin.create_acls([denied]).values():
        future.result(30)
    allowed = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:alice",
        "*",
        AclOperation.DESCRIBE,
        AclPermissionType.ALLOW,
    )
    for future in secured.topics.admin.create_acls([allowed]).values():
        future.result(30)

    with pytest.raises(ConnectorError) as caught:
        secured.write("SASL_SSL", topic, sasl_username="alice", sasl_password=PASSWORD)

    assert caught.value.message.startswith(
        f"topic '{topic}' at 127.0.0.1:{secured.ports['SASL_SSL']}: the broker does not allow it"
    )
    assert caught.value.hint == "give this client's user the right in the broker's ACLs"
