"""A job from a program: what `velostream.run` is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velostream.cli.request import all_kinds, located
from velostream.config.build import from_mapping

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from velostream.runtime.report import Report


def run(config: Mapping[str, Any] | DictConfig) -> Report:
    """Run the job of a mapping with the keys that YAML gives, and return its report.

    `processor` may be text (`"v2:8"`). Relative paths are relative to the working directory. Nothing is
    written but what sinks name, unless `output_dir` is given. Works inside a Hydra application, with its
    `DictConfig`. Raises VelostreamError when the configuration is wrong; a job that fails while it runs
    gives a report that says so.
    """
    from velostream.runtime.worker import make_job

    composed = from_mapping(config, all_kinds())
    if composed.job.output_dir:
        Path(composed.job.output_dir).mkdir(parents=True, exist_ok=True)
    with located(composed):
        return make_job(composed.job).run()
