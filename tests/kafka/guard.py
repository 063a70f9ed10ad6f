"""`python guard.py FOLDER COMMAND…`: runs a command that ends with whoever started this.

Prints the command's process id. Standard input is a pipe that the starter holds: a line in it asks for a
clean stop; its end without one means that the starter is gone, and then the command is killed and FOLDER
removed. Ends when the command does, with its exit code. Imports nothing else, so that it starts quickly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading

STOP_SECONDS = 15


def watch(command: subprocess.Popen[bytes], left: threading.Event) -> None:
    """End the command when the starter asks for it or is gone; then `left` is set."""
    if os.read(0, 1):
        command.terminate()
        try:
            command.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            command.kill()
    else:
        left.set()
        command.kill()


def main(folder: str, *command: str) -> int:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno())
    print(process.pid, flush=True)
    left = threading.Event()
    threading.Thread(target=watch, args=(process, left), daemon=True).start()
    code = process.wait()
    if left.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
