from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from omegaconf import MISSING

from velostream.config.fit import fit
from velostream.errors import VelostreamError


@dataclass
class Inner:
    size: int = 1


@dataclass
class Outer:
    name: str = MISSING
    flag: bool = False
    ratio: float = 0.5
    count: int | None = None
    either: int | str = 0
    choice: Literal["a", "b"] = "a"
    items: list[int] = field(default_factory=list)
    keyed: dict[str, Inner] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    anything: Any = None


def _fit(value: Any) -> tuple[Outer, list[str]]:
    errors: list[VelostreamError] = []
    fitted = fit(value, Outer, (), errors)
    return fitted, [error.render() for error in errors]


def test_data_of_the_right_types_becomes_the_dataclass() -> None:
    fitted, errors = _fit(
        {"name": "n", "items": [1, 2], "keyed": {"k": {"size": 3}}, "inner": {"size": 4}, "either": "x"}
    )
    assert errors == []
    assert fitted == Outer(name="n", items=[1, 2], keyed={"k": Inner(3)}, inner=Inner(4), either="x")


def test_text_is_converted_where_it_is_unambiguous() -> None:
    fitted, errors = _fit({"name": 7, "count": "4", "flag": "on", "ratio": "0.25"})
    assert errors == []
    assert (fitted.name, fitted.count, fitted.flag, fitted.ratio) == ("7", 4, True, 0.25)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"count": "four"}, "count: 'count' is 'four', expected an integer"),
        ({"count": True}, "count: 'count' is 'True', expected an integer"),
        ({"count": 1.5}, "count: 'count' is '1.5', expected an integer"),
        ({"flag": "maybe"}, "flag: 'flag' is 'maybe', expected true or false"),
        ({"ratio": []}, "ratio: 'ratio' is a list, expected a number"),
        ({"items": "1"}, "items: 'items' is '1', expected a list"),
        ({"items": [1, "x"]}, "items[1]: 'items[1]' is 'x', expected an integer"),
        ({"inner": 3}, "inner: 'inner' is '3', expected a mapping"),
        ({"inner": {"sise": 3}}, "inner.sise: unknown key 'sise' in 'inner'; did you mean 'size'?"),
        ({"keyed": {"k": {"size": None}}}, "keyed.k.size: 'keyed.k.size' is null, expected an integer"),
        ({"either": []}, "either: 'either' is a list, expected an integer or text"),
        ({"choice": "c"}, "choice: 'choice' cannot be 'c'; expected one of 'a', 'b'"),
    ],
)
def test_what_does_not_fit_names_its_key(value: dict[str, Any], error: str) -> None:
    _, errors = _fit({"name": "n", **value})
    assert errors == [error]


def test_all_misfits_are_found_at_once_and_the_rest_keeps_its_value() -> None:
    fitted, errors = _fit({"falg": True, "count": "x", "ratio": 2})
    assert errors == [
        "falg: unknown key 'falg'; did you mean 'flag'?",
        "count: 'count' is 'x', expected an integer",
        "'name' must be given",
    ]
    assert (fitted.count, fitted.ratio) == (None, 2.0)
