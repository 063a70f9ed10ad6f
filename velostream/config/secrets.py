"""Secrets of a configuration, kept out of what is written down."""

from __future__ import annotations

from typing import Any

HIDDEN = "***"


def redacted(tree: Any) -> Any:
    """A copy of a configuration in which the values of passwords and secrets are `***`.

    An interpolation (`${oc.env:PASSWORD}`) stays: it says where the secret comes from, not what it is.

    >>> redacted({"user": "me", "sasl.password": "hunter2", "ssl": {"key": {"password": "${oc.env:P}"}}})
    {'user': 'me', 'sasl.password': '***', 'ssl': {'key': {'password': '${oc.env:P}'}}}
    """
    if isinstance(tree, dict):
        return {
            key: HIDDEN if _is_secret(str(key)) and _is_plain(value) else redacted(value)
            for key, value in tree.items()
        }
    return [redacted(item) for item in tree] if isinstance(tree, list) else tree


def _is_secret(key: str) -> bool:
    return key.lower().endswith(("password", "secret"))


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value) and "${" not in value
    return isinstance(value, (int, float))
