"""TLS, SASL and rights, with a broker that demands them. Sources have the same settings."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.kafka.broker import Broker, free_port
from tests.kafka.conftest import start
from tests.kafka.topics import Topics
from velostream.connectors.kafka.sink import KafkaSink, KafkaSinkConfig
from velostream.errors import ConnectorError
from velostream.operators.batch import Batch

PASSWORD = "correct-horse"
MODULES = "org.apache.kafka.common.security"
# The port of each listener, by its protocol.
PROTOCOLS = ("SSL", "SASL_SSL", "SASL_PLAINTEXT")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> None:
    """An authority, and a server's and a client's key that it signed; the client's key is encrypted."""
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(folder, *new, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, *new, "-subj", f"/CN={name}", *files)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    openssl(
        folder, "pkcs8", "-topk8", "-in", "client.key", "-passout", f"pass:{PASSWORD}", "-out", "locked.key"
    )
    key, chain = (folder / "server.key").read_text(), (folder / "server.pem").read_text()
    (folder / "server-all.pem").write_text(key + chain)


@dataclass
class Secured:
    """A broker with one listener of each protocol."""

    broker: Broker
    ports: dict[str, int]
    folder: Path
    topics: Topics

    def write(self, protocol: str, topic: str, **options: Any) -> None:
        """Write a row with these settings."""
        dotted = {"security.protocol": protocol, **{k.replace("_", "."): v for k, v in options.items()}}
        if "SSL" in protocol and "ssl.ca.location" not in dotted:
            dotted["ssl.ca.location"] = str(self.folder / "ca.pem")
        dotted = {name: value for name, value in dotted.items() if value is not None}
        address = f"127.0.0.1:{self.ports[protocol]}"
        batch = Batch(pa.record_batch({"protocol": [protocol]}))
        config = KafkaSinkConfig(brokers=address, topic=topic, options=dotted)
        writer = KafkaSink("out", config).open(batch.data.schema, True)
        writer.write(writer.encode(batch), 1)
        writer.close(True)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if shutil.which("openssl") is None:
        pytest.fail("these tests make certificates: install openssl", pytrace=False)
    folder = tmp_path_factory.mktemp("certificates")
    certificates(folder)
    port, controller = free_port(), free_port()
    ports = {protocol: free_port() for protocol in PROTOCOLS}
    listeners = {"PLAINTEXT": port, **ports}
    properties: dict[str, object] = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": ",".join(
            f"{name}://127.0.0.1:{at}" for name, at in (*listeners.items(), ("CONTROLLER", controller))
        ),
        "advertised.listeners": ",".join(f"{name}://127.0.0.1:{at}" for name, at in listeners.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{name}" for name in listeners)
        + ",CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": folder / "server-all.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": folder / "ca.pem",
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
    }
    for listener in ("sasl_ssl", "sasl_plaintext"):
        prefix = f"listener.name.{listener}"
        properties |= {
            f"{prefix}.plain.sasl.jaas.config": f"{MODULES}.plain.PlainLoginModule required "
            f'user_alice="{PASSWORD}";',
            f"{prefix}.scram-sha-256.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
            f"{prefix}.scram-sha-512.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
            f"{prefix}.oauthbearer.sasl.jaas.config": f"{MODULES}.oauthbearer.OAuthBearerLoginModule "
            'required unsecuredLoginStringClaim_sub="broker";',
        }
    broker = Broker(port, properties=properties)
    try:
        start(broker)
        with Topics(broker.address) as topics:
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
                user = UserScramCredentialUpsertion(
                    "alice", ScramCredentialInfo(mechanism, 4096), PASSWORD.encode()
                )
                topics.admin.alter_user_scram_credentials([user])["alice"].result(30)
            yield Secured(broker, ports, folder, topics)
    finally:
        broker.close()


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
