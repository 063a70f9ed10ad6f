"""A wheel, installed into an environment of its own, runs jobs away from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

# Building compiles every kernel.
pytestmark = [pytest.mark.all_modes, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns(
    ".*", "build", "dist", "outputs", "*.egg-info", "__pycache__", "*.so", "*.c"
)


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this environment but its programs; its output in the message."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VELOSTREAM"))
    }
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, f"{command[0]} exits {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def copy_sources(target: Path) -> None:
    """The tracked files of a git checkout; of an unpacked archive, all that no build has made."""
    if not (ROOT / ".git").exists():
        shutil.copytree(ROOT, target, ignore=NOT_SOURCES)
        return
    for name in tracked_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = tmp_path_factory.mktemp("build") / "sources"
    copy_sources(sources)
    made = sources / "dist"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", made, ".", cwd=sources)
    [file] = made.iterdir()
    return file


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment that holds the wheel; its dependencies are those of this one.

    A `.pth` adds the folder of the dependencies behind the wheel's. Python does not read the `.pth` files in
    a folder so added, so an editable installation there stays without effect.
    """
    folder = tmp_path_factory.mktemp("installed") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    [packages] = (folder / "lib").glob("python3*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """An empty folder far from the checkout."""
    assert ROOT not in tmp_path.parents
    return tmp_path


def test_wheel_holds_kernels_configuration_and_types_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert {f"cython_ext/{file.stem}{suffix}" for file in (ROOT / "cython_ext").glob("*.pyx")} <= names
    configuration = {
        f"velostream/conf/{file.relative_to(ROOT / 'conf').as_posix()}"
        for file in (ROOT / "conf").rglob("*")
        if file.suffix in (".yaml", ".sql")
    }
    assert "velostream/conf/job/flights.sql" in configuration
    assert configuration <= names
    assert {"velostream/py.typed", "velostream/cli/main.py", "cython_ext/scan.pyi"} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"velostream", "cython_ext"}
    assert not [name for name in names if name.endswith((".pyx", ".c", ".html"))]


def test_installed_modules_are_those_of_the_wheel(environment: Path, away: Path) -> None:
    program = "import velostream, cython_ext.scan as s; print(velostream.__file__); print(s.__file__)"
    files = run(environment / "bin" / "python", "-c", program, cwd=away).stdout.split()
    assert len(files) == 2
    for file in files:
        assert environment in Path(file).parents


def test_console_script_runs_shipped_job_away_from_the_checkout(environment: Path, away: Path) -> None:
    run(environment / "bin" / "velostream", "job=trades", "source.count=10000", cwd=away)
    [report] = [json.loads(file.read_text()) for file in away.glob("outputs/trades/*/report.json")]
    assert report["records"]["in"] == report["records"]["used"] == 10_000
    [bars] = away.glob("outputs/trades/*/bars.ndjson")
    rows = [json.loads(line) for line in bars.read_text().splitlines()]
    assert len(rows) == report["rows_out"]
    assert sum(row["trades"] for row in rows) == 10_000
    assert [entry.name for entry in away.iterdir()] == ["outputs"]


def test_console_script_answers_a_query_over_a_file(environment: Path, away: Path) -> None:
    (away / "trades.csv").write_text("symbol,price\nA,1.5\nB,2\nA,3\n")
    sql = "SELECT symbol, COUNT(*) AS n, SUM(price) AS total FROM 'trades.csv' GROUP BY symbol"
    out = run(environment / "bin" / "velostream", sql, cwd=away).stdout
    header, *rows = [line.split() for line in out.splitlines()]
    assert header == ["symbol", "n", "total"]
    assert sorted(rows) == [["A", "2", "4.5"], ["B", "1", "2.0"]]
