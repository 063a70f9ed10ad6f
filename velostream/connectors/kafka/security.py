"""TLS and SASL: from settings to what aiokafka takes."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from aiokafka.abc import AbstractTokenProvider

from velostream.connectors.kafka.settings import OAUTH, ClientSettings
from velostream.errors import ConfigError, ConnectorError

# A token is asked for anew when so much of its life has passed.
_REFRESH = 0.8
# How long a token endpoint may take to answer.
_TOKEN_SECONDS = 10.0


def security_arguments(settings: ClientSettings) -> dict[str, Any]:
    """aiokafka's arguments for TLS and OAUTHBEARER. Reads the files of keys; raises ConfigError."""
    arguments: dict[str, Any] = {}
    protocol = settings.get("security.protocol", "PLAINTEXT")
    if "SSL" in protocol:
        arguments["ssl_context"] = _ssl_context(settings)
    if "SASL" in protocol and settings.get("sasl.mechanism") == "OAUTHBEARER":
        arguments["sasl_oauth_token_provider"] = TokenEndpoint(settings)
    return arguments


def _ssl_context(settings: ClientSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    authority = settings.get("ssl.ca.location")
    if authority:
        # Only these: who names an authority trusts no other.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=authority)
        except (OSError, ssl.SSLError) as exc:
            raise _unreadable(settings, "ssl.ca.location", "the certificates of an authority", exc) from exc
    if settings.get("ssl.endpoint.identification.algorithm", "https") != "https":
        context.check_hostname = False
    ciphers = settings.get("ssl.cipher.suites")
    if ciphers:
        try:
            context.set_ciphers(ciphers.replace(",", ":"))
        except ssl.SSLError as exc:
            raise ConfigError(
                f"OpenSSL knows none of the ciphers '{ciphers}'",
                where=settings.where("ssl.cipher.suites"),
                hint="leave it out, or write them as `openssl ciphers` does",
            ) from exc
    certificate = settings.get("ssl.certificate.location")
    if certificate:
        key = settings.get("ssl.key.location")
        # A function, so that OpenSSL never asks the terminal.
        password = settings.get("ssl.key.password", "")
        try:
            context.load_cert_chain(certificate, key, lambda: password)
        except (OSError, ssl.SSLError) as exc:
            name = "ssl.key.location" if key else "ssl.certificate.location"
            raise _unreadable(settings, name, "a certificate and its key", exc) from exc
    return context


def _unreadable(settings: ClientSettings, name: str, what: str, exc: OSError) -> ConfigError:
    reason = exc.strerror or str(exc)
    return ConfigError(
        f"cannot read {what} from '{settings.get(name)}': {reason}",
        where=settings.where(name),
        hint="it is a PEM file, and ssl.key.password is what its key was encrypted with",
    )


class TokenEndpoint(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens by OAuth 2.0's grant for client credentials (RFC 6749, 4.4), kept until nearly spent."""

    def __init__(self, settings: ClientSettings) -> None:
        self._url = str(settings.get(f"{OAUTH}token.endpoint.url"))
        self._scope = settings.get(f"{OAUTH}scope")
        extensions = settings.get(f"{OAUTH}extensions", "")
        pairs = [pair.partition("=") for pair in extensions.split(",") if pair]
        self._extensions = {name.strip(): value.strip() for name, _, value in pairs}
        # Both are form-encoded before they are joined (RFC 6749, 2.3.1).
        user = urllib.parse.quote_plus(settings.get(f"{OAUTH}client.id"))
        secret = urllib.parse.quote_plus(settings.get(f"{OAUTH}client.secret"))
        self._credentials = base64.b64encode(f"{user}:{secret}".encode()).decode()
        self._token = ""
        self._refresh_at = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token that is still good. Raises ConnectorError."""
        async with self._lock:
            if time.monotonic() >= self._refresh_at:
                asked = time.monotonic()
                self._token, seconds = await asyncio.to_thread(self._fetch)
                self._refresh_at = asked + seconds * _REFRESH
            return self._token

    def extensions(self) -> dict[str, str]:
        """What is sent beside the token (RFC 7628)."""
        return self._extensions

    def _fetch(self) -> tuple[str, float]:
        form = {"grant_type": "client_credentials", **({"scope": self._scope} if self._scope else {})}
        request = urllib.request.Request(
            self._url,
            data=urllib.parse.urlencode(form).encode(),
            headers={"Authorization": f"Basic {self._credentials}", "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_TOKEN_SECONDS) as answer:
                body = json.load(answer)
            return str(body["access_token"]), float(body.get("expires_in", 0))
        except urllib.error.HTTPError as exc:
            # It holds the connection.
            exc.close()
            raise self._failed(f"it answered {exc.code} {exc.reason}") from exc
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            reason = getattr(exc, "reason", None) or exc
            raise self._failed(str(reason) or type(exc).__name__) from exc

    def _failed(self, reason: str) -> ConnectorError:
        return ConnectorError(
            f"no token from '{self._url}': {reason}",
            hint="see sasl.oauthbearer.token.endpoint.url, client.id and client.secret",
        )
