"""A broker that demands TLS, SASL and rights."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka.admin import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.kafka.broker import Broker, free_port
from tests.kafka.topics import Topics
from velostream.connectors.kafka.sink import KafkaSink, KafkaSinkConfig
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


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """Such a broker while it runs, with certificates in the folder. Raises BrokerUnavailable."""
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
    with Broker(port, properties=properties) as broker, Topics(broker.address) as topics:
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            user = UserScramCredentialUpsertion(
                "alice", ScramCredentialInfo(mechanism, 4096), PASSWORD.encode()
            )
            topics.admin.alter_user_scram_credentials([user])["alice"].result(30)
        yield Secured(broker, ports, folder, topics)
