"""`make bench` (all scenarios) or `make bench ONLY=ndjson_tumble`."""

from __future__ import annotations

import importlib
import sys

SCENARIOS = {"ndjson_tumble": 10_000_000}


def main(names: list[str]) -> None:
    for name in names or SCENARIOS:
        if name not in SCENARIOS:
            raise SystemExit(f"no scenario '{name}'; there are {', '.join(SCENARIOS)}")
        importlib.import_module(f"benchmarks.{name}").main(SCENARIOS[name])


if __name__ == "__main__":
    main(sys.argv[1:])
