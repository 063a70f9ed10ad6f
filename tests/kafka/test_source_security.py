"""Topics read over TLS and SASL: responses larger than what TLS gives at once, too."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kafka.jobs import kafka, run, values
from tests.kafka.secured import PASSWORD, Secured


def options(secured: Secured, protocol: str) -> dict[str, Any]:
    found = {"security.protocol": protocol}
    if protocol != "SASL_PLAINTEXT":
        found["ssl.ca.location"] = str(secured.folder / "ca.pem")
    if protocol == "SSL":
        return found | {
            "ssl.certificate.location": str(secured.folder / "client.pem"),
            "ssl.key.location": str(secured.folder / "client.key"),
        }
    return found | {
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "alice",
        "sasl.password": PASSWORD,
    }


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL", "SASL_PLAINTEXT"])
def test_a_topic_is_read_over(secured: Secured, protocol: str) -> None:
    topic = secured.topics.create(partitions=2)
    secured.topics.produce(topic, values(range(30_000)))
    source = kafka(f"127.0.0.1:{secured.ports[protocol]}", topic, options=options(secured, protocol))
    sql = "SELECT COUNT(*) AS n, SUM(id) AS total FROM t"
    assert run(sql, {"t": source})[1] == [(30_000, 30_000 * 29_999 // 2)]
