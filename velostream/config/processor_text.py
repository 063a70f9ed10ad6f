"""The processor as text: `v1`, `v1_transactional`, `v2`, `v2:8`, `v2:8:affinity`."""

from __future__ import annotations

import re
from typing import Any

from velostream.errors import ConfigError, did_you_mean

TRANSACTIONAL = "v1_transactional"
# All but v2 have one lane.
VERSIONS = ("v1", TRANSACTIONAL, "v2")
_COUNT = re.compile("[0-9]{1,9}")


def parse_processor(text: str) -> dict[str, Any]:
    """The keys of ProcessorConfig that the text sets; letter case and the order of parameters are free.

    Raises ConfigError.

    >>> parse_processor("v2:8:affinity")
    {'version': 'v2', 'partitions': 8, 'affinity': True}
    """
    version, *parameters = [part.strip() for part in text.strip().lower().split(":")]
    if version not in VERSIONS or (version != "v2" and parameters):
        raise ConfigError(
            f"Unknown processor config: '{text}'. Supported: 'v1', 'v2', 'v2:8', 'v2:affinity'",
            hint=did_you_mean(version, [TRANSACTIONAL]),
        )
    keys: dict[str, Any] = {"version": version}
    for parameter in filter(None, parameters):
        if parameter == "affinity":
            keys["affinity"] = True
        elif _COUNT.fullmatch(parameter) and int(parameter) > 0:
            keys["partitions"] = int(parameter)
        elif _COUNT.fullmatch(parameter):
            raise ConfigError(f"Invalid partition count: {int(parameter)}")
        else:
            raise ConfigError(f"Unknown V2 parameter: {parameter}")
    return keys
