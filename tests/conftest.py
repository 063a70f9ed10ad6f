"""Options of the whole test run."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-modes", action="store_true", help="run each query in every mode instead of one (make test-all)"
    )
