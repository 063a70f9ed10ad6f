"""The entry point of `run.py` and of the console script `velostream`."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

import velostream
from velostream.cli.screen import write_error
from velostream.errors import InternalError, Problems, VelostreamError

OK = 0
FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; prints errors, raises none.

    0 done; 1 a job failed while it ran; 2 the input was wrong; 130, 143 interrupted by SIGINT, SIGTERM.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        return _dispatch(given)
    except InternalError as error:
        return _defect(error, "--debug" in given)
    except VelostreamError as error:
        write_error(error.render())
        if isinstance(error, Problems):
            write_error(f"{len(error.errors)} problems")
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return _defect(error, "--debug" in given)


def _dispatch(given: Sequence[str]) -> int:
    # Importing takes a tenth of a second and more, and may be interrupted like the rest.
    from velostream.cli.arguments import parse_arguments
    from velostream.cli.command import commands

    arguments = parse_arguments(given)
    if "version" in arguments.flags:
        print(f"velostream {velostream.__version__}")
        return OK
    if "help" in arguments.flags:
        from velostream.cli.help import help_text

        print(help_text(arguments.config_dir))
        return OK
    from velostream.cli.request import Request

    request = Request(arguments)
    if arguments.multirun:
        from velostream.cli.sweep import sweep

        return sweep(request)
    return commands[arguments.command](request)


def _defect(error: BaseException, debug: bool) -> int:
    """Say that velostream is at fault, and where the traceback lies."""
    trace = "".join(traceback.format_exception(error))
    if debug:
        write_error(trace)
        return FAILED
    with tempfile.NamedTemporaryFile(
        "w", prefix="velostream-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(trace)
    first = (str(error).splitlines() or [""])[0]
    write_error(f"velostream: internal error: {type(error).__name__}: {first}")
    write_error(f"the traceback is in {file.name}; --debug shows it")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
