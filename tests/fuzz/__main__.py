"""`python -m tests.fuzz TARGET FOLDER [libFuzzer's options]`: fuzz a target; `campaign.py` runs this.

Starts from the target's corpus and finds. New inputs go to FOLDER/TARGET, a failing one to
FOLDER/TARGET-crash-…: move that one to finds/TARGET. Exit code 0: nothing was found.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import atheris

from cython_ext import scan

HERE = Path(__file__).parent


def main(target: str, folder: str, *options: str) -> None:
    if "debug" not in Path(scan.__file__).parts:
        sys.exit("the kernels in use are not those of the debug build: run `make fuzz`")
    check = importlib.import_module(f"tests.fuzz.targets.{target}").check
    grown = Path(folder) / target
    grown.mkdir(parents=True, exist_ok=True)
    seeds = [HERE / kind / target for kind in ("corpus", "finds")]
    words = HERE / "corpus" / f"{target}.dict"
    atheris.Setup(
        [
            sys.argv[0],
            *(str(path) for path in (grown, *seeds) if path.is_dir()),
            *([f"-dict={words}"] if words.exists() else []),
            f"-artifact_prefix={folder}/{target}-",
            "-timeout=120",
            *options,
        ],
        check,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
