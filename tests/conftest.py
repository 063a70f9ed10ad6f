"""Options of the whole test run."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-modes", action="store_true", help="run each query in every mode instead of one (make test-all)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `all_modes` belongs to `make test-all`: otherwise it is left out, not skipped."""
    if config.getoption("--all-modes"):
        return
    left_out = [item for item in items if item.get_closest_marker("all_modes")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
