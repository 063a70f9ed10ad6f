from __future__ import annotations

from pathlib import Path

import pytest

from velostream.cli.arguments import parse_arguments
from velostream.errors import VelostreamError


def _problems(*argv: str) -> list[str]:
    with pytest.raises(VelostreamError) as caught:
        parse_arguments(argv)
    return caught.value.render().splitlines()


def test_overrides_and_flags_come_in_any_order() -> None:
    parsed = parse_arguments(["processor=v1", "-m", "--config-dir", "mine", "job=a,b", "--debug"])
    assert parsed.overrides == ["processor=v1", "job=a,b"]
    assert parsed.config_dir == Path("mine")
    assert parsed.flags == {"multirun", "debug"}
    assert parsed.multirun


def test_the_command_takes_its_own_options() -> None:
    parsed = parse_arguments(["command=explain", "format=json", "job=x"])
    assert (parsed.command, parsed.options, parsed.overrides) == ("explain", {"format": "json"}, ["job=x"])


def test_a_sweep_is_a_multirun() -> None:
    assert parse_arguments(["sweep=tune"]).multirun


@pytest.mark.parametrize(
    "sql",
    ["SELECT a, b FROM 'x.csv'", "select a=1 from t", "  WITH x AS (SELECT 1) SELECT 2", "-- note\nSELECT 1"],
)
def test_a_query_is_no_override(sql: str) -> None:
    parsed = parse_arguments([sql, "processor=v1"])
    assert (parsed.sql, parsed.overrides) == (sql, ["processor=v1"])


def test_everything_that_cannot_be_read_is_said_at_once() -> None:
    assert _problems("flights", "--mulitrun", "command=validat", "--config-dir") == [
        "cannot read the argument 'flights'; write key=value, such as job=flights, or one query in quotes",
        "unknown flag '--mulitrun'; did you mean '--multirun'?",
        "--config-dir needs a folder",
        "override 'command=validat': unknown command 'validat'; did you mean 'validate'?",
    ]


def test_an_option_of_another_command_says_which() -> None:
    assert _problems("write_schema=x.yaml") == [
        "override 'write_schema=x.yaml': 'write_schema' is an option of command=validate, not of run; "
        "add command=validate"
    ]


def test_only_runs_are_swept() -> None:
    assert _problems("command=validate", "-m") == ["only command=run can be swept, not validate"]
