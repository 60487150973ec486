"""The command line. `main` is the entry point; each verb is one file, imported when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from depthscope.errors import DepthscopeError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0, the exit code of the error, or 130 after Ctrl-C.

    Errors of depthscope come as one line on standard error, without a traceback. With --json they come as
    `{"error": class, "message": text}` on standard output.
    """
    # Waiting OpenMP threads spin by default: on a machine that others use too, two threads are then slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What transformers warns of (kernels that are missing, settings that are old) is nothing that a reader could mend.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Large tensors come and go in every decode and sweep; in pages of 2 MiB the kernel hands them out 500 times faster.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # The verb `list` is a module of this package, so the name stands for that module here once it is loaded.
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    sys.exit(_run(given))


def _run(given: Sequence[str]) -> int:
    import typer

    from depthscope.cli.app import UsageProblem, command

    try:
        return command()(given, prog_name="depthscope", standalone_mode=False) or 0
    except DepthscopeError as error:
        return _failed(given, type(error).__name__, str(error), error.exit_code)
    except UsageProblem as error:
        return _failed(given, type(error).__name__, error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _failed(given, "Interrupted", "stopped; the same command resumes", INTERRUPTED)


def _failed(given: Sequence[str], kind: str, message: str, code: int) -> int:
    import typer

    from depthscope.cli.output import say_json

    if "--json" in given:
        say_json({"error": kind, "message": message})
    else:
        typer.echo(f"depthscope: {message}", err=True)
    return code
