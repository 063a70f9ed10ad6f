"""The processor as text: `v1`, `v2`, `v2:8`, `v2:8:affinity`."""

from __future__ import annotations

from typing import Any

from velostream.errors import ConfigError


def parse_processor(text: str) -> dict[str, Any]:
    """The keys of ProcessorConfig that the text sets; letter case and the order of parameters are free.

    Raises ConfigError.

    >>> parse_processor("v2:8:affinity")
    {'version': 'v2', 'partitions': 8, 'affinity': True}
    """
    version, *parameters = text.strip().lower().split(":")
    parameters = [parameter.strip() for parameter in parameters if parameter.strip()]
    if version not in ("v1", "v2") or (version == "v1" and parameters):
        raise ConfigError(f"Unknown processor config: '{text}'. Supported: 'v1', 'v2', 'v2:8', 'v2:affinity'")
    keys: dict[str, Any] = {"version": version}
    for parameter in parameters:
        if parameter == "affinity":
            keys["affinity"] = True
        elif parameter.isdecimal() and int(parameter) > 0:
            keys["partitions"] = int(parameter)
        elif parameter.isdecimal():
            raise ConfigError(f"Invalid partition count: {int(parameter)}")
        else:
            raise ConfigError(f"Unknown V2 parameter: {parameter}")
    return keys
