"""Secrets stay out of the saved configuration, and keys with dots in them have their places."""

from __future__ import annotations

from pathlib import Path

from velostream.cli.execute import save_config
from velostream.config.build import Composed
from velostream.config.locate import Layer, Origins
from velostream.config.schema import JobConfig

CONFIG = """\
sinks:
  out:
    options:
      sasl.username: me
      sasl.password: hunter2
      sasl.oauthbearer.client.secret: ${oc.env:SECRET}
      ssl: {key: {password: hunter3}}
"""


def test_the_saved_configuration_has_no_secret(tmp_path: Path) -> None:
    options = {
        "sasl.username": "me",
        "sasl.password": "hunter2",
        "sasl.oauthbearer.client.secret": "${oc.env:SECRET}",
        "ssl": {"key": {"password": "hunter3"}},
    }
    tree = {"sinks": {"out": {"options": options}}, "hosts": [{"password": 7}]}

    save_config(Composed(JobConfig(), tree, Origins()), tmp_path)

    assert (tmp_path / "config.yaml").read_text().splitlines() == [
        "sinks:",
        "  out:",
        "    options:",
        "      sasl.username: me",
        "      sasl.password: '***'",
        "      sasl.oauthbearer.client.secret: ${oc.env:SECRET}",
        "      ssl:",
        "        key:",
        "          password: '***'",
        "hosts:",
        "- password: '***'",
    ]
    # The job still has it.
    assert tree["sinks"]["out"]["options"]["sasl.password"] == "hunter2"


def test_a_key_with_dots_in_it_has_its_place(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(CONFIG)
    origins = Origins([Layer.read(file)])

    lines = {
        key: origins.where(f"sinks.out.options.{key}").line for key in ("sasl.password", "ssl.key.password")
    }

    assert lines == {"sasl.password": 5, "ssl.key.password": 7}
    # What is not there is placed at what is above it.
    assert origins.where("sinks.out.options.linger.ms").line == 3
