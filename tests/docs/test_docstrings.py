"""Runs the examples in the docstrings of every module."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import velostream

PACKAGE = Path(velostream.__file__).parent


def modules_with_examples() -> list[str]:
    """Names of the modules whose text holds `>>>`. Found in the text, so that collecting imports nothing."""
    files = [file for file in sorted(PACKAGE.rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]
    parts = [file.relative_to(PACKAGE.parent).with_suffix("").parts for file in files]
    return [".".join(names[:-1] if names[-1] == "__init__" else names) for names in parts]


def test_modules_with_examples_are_found() -> None:
    assert "velostream.api" in modules_with_examples()


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_module_give_what_they_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tests = [test for test in doctest.DocTestFinder().find(importlib.import_module(name)) if test.examples]
    assert tests, f"{name} holds '>>>' where doctest finds no example"
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
