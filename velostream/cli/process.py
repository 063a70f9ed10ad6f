"""The process of a command line: what is set once around `main`, which itself may run in any process.

Nothing here may import numpy: its threads are settled first. To profile a run, give the profiler
`-m velostream.cli.main`, which ends like any Python program.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from typing import NoReturn

# Whether the process was started for this one command line.
_ours = False


def start() -> NoReturn:
    """Run the command line of this process, and end the process with its exit code."""
    global _ours
    _ours = True
    # Start-up makes some 400,000 objects that stay; looking for garbage among them took 0.1 s of it.
    # Importing in a second thread beside Hydra was tried: 0.15 s slower, since both want the GIL.
    gc.disable()
    # numpy's linear algebra, unused here, would start a thread per CPU that spins for a while.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from velostream.cli.main import main

    _leave(main())


def without_pandas() -> None:
    """Load Arrow without pandas, which Arrow imports at its first conversion when it is installed: 0.2 s.

    Only Arrow's own look is answered with no. `import pandas` works as before, and so does `to_pandas`,
    which looks again. Does nothing in a process that `start` has not begun.
    """
    if not _ours or "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        import pyarrow as pa

        pa.array([])
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """Says that pandas is not installed: a finder for `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: object, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("not looked for", name=name)


def settle() -> None:
    """Collect garbage from now on, and only what is made from now on: going through what start-up has left
    would hold up records. Does nothing where `start` has not switched the collector off."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _leave(code: int) -> NoReturn:
    """End the process once its threads and exit handlers are through, without freeing every object one by
    one first, as an orderly end does in 0.2 s."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # whoever read it has left, or the disk is full
            code = code or 1
    os._exit(code)
