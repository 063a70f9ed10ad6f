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

SHOWN = ("pyx", "pxd")


def count_lines(objects: Path) -> dict[str, dict[int, int]]:
    """For each source the runs of its lines, summed over the modules."""
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    with tempfile.TemporaryDirectory() as folder:
        for notes in sorted(objects.resolve().rglob("*.gcda")):
            subprocess.run(["gcov", "--json-format", str(notes)], cwd=folder, check=True, capture_output=True)
        for report in Path(folder).glob("*.json.gz"):
            for file in json.loads(gzip.decompress(report.read_bytes()))["files"]:
                if "cython_ext/" in file["file"] and file["file"].endswith(SHOWN):
                    name = file["file"].rpartition("cython_ext/")[2]
                    for line in file["lines"]:
                        counts[name][line["line_number"]] += line["count"]
    return counts


def main(objects: str) -> None:
    print(f"{'source':24}{'lines':>7}{'ran':>7}{'share':>8}  not run")
    for name, lines in sorted(count_lines(Path(objects)).items()):
        missed = sorted(number for number, runs in lines.items() if runs == 0)
        ran = len(lines) - len(missed)
        print(f"{name:24}{len(lines):>7}{ran:>7}{ran / len(lines):>8.1%}  {' '.join(map(str, missed))}")


if __name__ == "__main__":
    main(sys.argv[1])
