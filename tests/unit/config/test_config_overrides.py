from __future__ import annotations

from typing import Any

import pytest

from velostream.config.overrides import is_override, is_sweep, parse_override, parse_overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=8", 8),
        ("a=true", True),
        ("a=null", None),
        ("a=4MiB", "4MiB"),
        ("a=", ""),
        ("a=[1,2]", [1, 2]),
        ("a={x: 1}", {"x": 1}),
        ("a='x, y'", "x, y"),
        ("a=path/to a file (1).csv", "path/to a file (1).csv"),
        ("a=DECIMAL(10,2)", "DECIMAL(10,2)"),
        ("a=x,y.csv", "x,y.csv"),
        ("a=k=v", "k=v"),
        ("a=${oc.env:HOME}/x", "${oc.env:HOME}/x"),
        ("sql=SELECT a, b FROM t WHERE a = 'x'", "SELECT a, b FROM t WHERE a = 'x'"),
        ("sql=1,2", "1,2"),
        ("sql='SELECT 1'", "SELECT 1"),
    ],
)
def test_values_need_no_quotes_but_the_shells(text: str, value: Any) -> None:
    assert parse_override(text).value == value


def test_marks_and_packages_are_taken_apart() -> None:
    assert parse_override("+source@trades=file").package == "trades"
    assert parse_override("++a.b=1").key == "a.b"
    assert parse_override("~sinks.x").delete


@pytest.mark.parametrize(
    ("text", "sweeps"),
    [
        ("p=1,2", True),
        ("p=range(1,5)", True),
        ("p=choice(a,b)", True),
        ("p=1", False),
        ("p=[1,2]", False),
        ("sql=SELECT a, b FROM t", False),
    ],
)
def test_a_sweep_is_what_hydras_grammar_says(text: str, sweeps: bool) -> None:
    assert is_sweep(text) is sweeps


@pytest.mark.parametrize("text", ["a=1", "a.b@c=x", "~a", "job=dir/x.yaml", "+a=", "hydra/sweeper=optuna"])
def test_overrides_are_told_from_sql(text: str) -> None:
    assert is_override(text)


@pytest.mark.parametrize("text", ["SELECT a=1 FROM t", "flights", "=1", "a b=1"])
def test_other_arguments_are_no_overrides(text: str) -> None:
    assert not is_override(text)


def test_each_unreadable_override_is_an_error_of_its_own() -> None:
    overrides, errors = parse_overrides(["a=1", "nonsense", "9=1"])
    assert [override.key for override in overrides] == ["a"]
    assert [error.message for error in errors] == [
        "'nonsense' is not an override",
        "'9=1' is not an override",
    ]
