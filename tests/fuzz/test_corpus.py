"""Every target over its seeds and over what it once found, on whichever build of the kernels is in use."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("*.py") if path.stem != "__init__")
INPUTS = [
    (target, path)
    for target in TARGETS
    for kind in ("corpus", "finds")
    for path in sorted((HERE / kind / target).glob("*"))
]


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_seeds_and_takes_no_bytes(target: str) -> None:
    assert any(name == target for name, _ in INPUTS)
    importlib.import_module(f"tests.fuzz.targets.{target}").check(b"")


@pytest.mark.parametrize(("target", "path"), INPUTS, ids=[f"{name}-{path.name}" for name, path in INPUTS])
def test_an_input_is_read_as_its_oracle_reads_it(target: str, path: Path) -> None:
    importlib.import_module(f"tests.fuzz.targets.{target}").check(path.read_bytes())
