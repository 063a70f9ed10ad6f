"""`python -m tests.fuzz.coverage OBJECTS`: for each source of the kernels, the lines that ran and the others.

Reads gcov's counts of a coverage build, whose lines are those of the `.pyx` and `.pxd` files. A line counts
when it has code in any module that includes it, and ran when it ran in one.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

SHOWN = (".pyx", ".pxd")


def count_lines(objects: Path) -> dict[Path, dict[int, int]]:
    """For each source the runs of its lines, summed over the modules."""
    counts: dict[Path, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    with tempfile.TemporaryDirectory() as folder:
        for notes in sorted(objects.resolve().rglob("*.gcda")):
            subprocess.run(["gcov", "--json-format", str(notes)], cwd=folder, check=True, capture_output=True)
        for report in Path(folder).glob("*.json.gz"):
            for file in json.loads(gzip.decompress(report.read_bytes()))["files"]:
                name = Path("cython_ext") / file["file"].rpartition("cython_ext/")[2]
                if name.suffix in SHOWN and name.exists():
                    for line in file["lines"]:
                        counts[name][line["line_number"]] += line["count"]
    return counts


def has_code(text: str) -> bool:
    """Whether a line can have code: Cython counts its helpers on whatever lines follow the last statement."""
    text = text.strip()
    return bool(text) and not text.startswith(("#", '"""', "from ", "import ", "cimport "))


def main(objects: str) -> None:
    print(f"{'source':24}{'lines':>7}{'ran':>7}{'share':>8}  not run")
    for name, counts in sorted(count_lines(Path(objects)).items()):
        source = name.read_text(encoding="utf-8").splitlines()
        lines = {at: runs for at, runs in counts.items() if at <= len(source) and has_code(source[at - 1])}
        missed = sorted(number for number, runs in lines.items() if runs == 0)
        ran = len(lines) - len(missed)
        share = ran / max(1, len(lines))
        print(f"{name.name:24}{len(lines):>7}{ran:>7}{share:>8.1%}  {' '.join(map(str, missed))}")


if __name__ == "__main__":
    main(sys.argv[1])
