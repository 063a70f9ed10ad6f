"""What a process imports and how it ends; a run pays for nothing that it does not use."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import velostream
from velostream.cli.process import settle

CHECKOUT = Path(velostream.__file__).resolve().parent.parent
# Not needed to run a job, and a tenth of a second and more each, or many files.
HEAVY = (
    "duckdb", "IPython", "matplotlib", "optuna", "pandas", "polars", "pyarrow.parquet", "rich", "scipy",
    "sqlglot.optimizer.optimizer", "faust.livecheck.app", "faust.web.drivers.aiohttp",
)  # fmt: skip

RUN = """
import atexit, json, sys

def tell():
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)

if __name__ == "__main__":
    from velostream.cli.process import start
    atexit.register(tell)
    start()
"""


def _process(folder: Path, *arguments: str) -> tuple[int, str, set[str]]:
    (folder / "main.py").write_text(RUN)
    done = subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


def test_the_version_needs_neither_hydra_nor_arrow_nor_faust(tmp_path: Path) -> None:
    code, out, modules = _process(tmp_path, "--version")
    assert (code, out) == (0, f"velostream {velostream.__version__}\n")
    assert not modules & {"numpy", "pyarrow", "faust", "sqlglot", "aiohttp"}


def test_a_run_imports_nothing_heavy_that_it_does_not_use(tmp_path: Path) -> None:
    code, out, modules = _process(tmp_path, "job=trades", "source.count=1000")
    assert (code, out.splitlines()[0].split(" in ")[0]) == (0, "trades: completed")
    assert modules & set(HEAVY) == set()


def test_pandas_and_its_conversions_are_there_for_who_asks(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    script = (
        "import sys\n"
        "from velostream.cli import process\n"
        "process._ours = True\n"
        "process.without_pandas()\n"
        "import pyarrow as pa\n"
        "table = pa.table({'a': pa.array([1, 2])})\n"
        "print('pandas' in sys.modules)\n"
        "frame = table.to_pandas()\n"
        "print(pa.Table.from_pandas(frame).to_pydict(), pa.array(frame['a']).to_pylist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["False", "{'a': [1, 2]} [1, 2]"], done.stderr


def test_exit_handlers_run_and_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    code, out, modules = _process(tmp_path, "job=trads")
    assert (code, out) == (2, "")
    assert "velostream.cli.process" in modules


def test_the_collector_stays_as_it_is_in_a_process_that_is_not_ours() -> None:
    assert gc.isenabled()
    before = gc.get_freeze_count()
    settle()
    assert gc.get_freeze_count() == before


def test_settling_switches_the_collector_on_without_what_start_up_left() -> None:
    gc.disable()
    try:
        settle()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize(("given", "seen"), [(None, "1"), ("3", "3")])
def test_numpys_threads_are_one_unless_the_user_says_otherwise(
    tmp_path: Path, given: str | None, seen: str
) -> None:
    script = (
        "import atexit, os\n"
        "from velostream.cli.process import start\n"
        "atexit.register(lambda: print(os.environ['OPENBLAS_NUM_THREADS']))\n"
        "start()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    environment.pop("OPENBLAS_NUM_THREADS", None)
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    command = [sys.executable, "-c", script, "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == seen
