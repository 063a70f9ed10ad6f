"""The examples run, and say what they are there to say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from velostream.processors import JobProcessorConfig

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_each_example_is_listed_and_tested() -> None:
    files = {path.name for path in EXAMPLES.glob("*.py")}
    listed = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))
    assert listed == files
    assert files == {
        "processor_architecture_selection_demo.py",
        "notebook_style_query.py",
        "testing_a_query.py",
    }


def test_the_processor_demo_shows_its_seven_points(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert load("processor_architecture_selection_demo").main(["--records", "2000"]) == 0
    out = capsys.readouterr().out
    for number, title in enumerate(
        [
            "The default: V2, one lane per CPU",
            "V1: one lane",
            "V2 with 8 partitions",
            "V2 with core affinity",
            "Performance comparison, measured now",
            "Configuration strings, for YAML and TOML",
            "Which one to choose, by what was measured",
        ],
        1,
    ):
        assert f"{number}. {title}" in out
    for config in (JobProcessorConfig(), JobProcessorConfig.V1, JobProcessorConfig.V2(8, True)):
        assert config.description() in out
    assert out.count("The same rows from each processor.") == 2
    assert len(re.findall(r"│ v1 +│ +1 │ +[\d,]+ │ +1\.00x │", out)) == 2
    assert "error: Unknown processor config: 'v25'" in out
    assert "so few records measure mostly the start of a job" in out


def test_the_guidelines_follow_the_figures() -> None:
    demo = load("processor_architecture_selection_demo")
    v1, v2, pinned = JobProcessorConfig.V1, JobProcessorConfig.V2(4), JobProcessorConfig.V2(4, True)

    def lines(*rates: float) -> list[str]:
        measured = [demo.Measured(config, rate) for config, rate in zip((v1, v2, pinned), rates, strict=True)]
        return list(demo.guidelines(10**6, 2, measured, measured))

    assert any("a whole job of 1,000,000 records: take v2:4, 3.0 times v1" in line for line in lines(1, 3, 2))
    assert any("a whole job of 1,000,000 records: take v1;" in line for line in lines(1, 1.05, 0.9))
    assert any("affinity pays here: v2:4:affinity is 2.00 times v2:4" in line for line in lines(1, 2, 4))
    assert any("v2:4 has more lanes than the 2 CPUs here" in line for line in lines(1, 2, 4))


def test_the_notebook_example_gives_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert load("notebook_style_query").main() == 0
    out = capsys.readouterr().out
    assert re.search(r"ACME +460 +11\.2", out)
    assert re.search(r"BOLT +70 +98\.0", out)
    assert "v1 and v2:4 agree: True" in out
    assert "did you mean 'price'?" in out and "^^^^^" in out
    assert re.search(r"JFK +2 +12", out)


def test_the_example_of_tests_passes() -> None:
    module = load("testing_a_query")
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()
