"""The command line. Only `mirst.cli.stop` and `exit_codes` are imported before signals are handled."""

import os
import sys

from mirst.cli.exit_codes import ExitCode
from mirst.cli.stop import stoppable
from mirst.errors import MirstError


def main() -> None:
    """Run the command line; bad input ends it with one sentence and exit code 2."""
    try:
        with stoppable():
            _run()
    except MirstError as error:
        print(f"mirst: {error}", file=sys.stderr)
        sys.exit(ExitCode.bad_input)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run() -> None:
    import warnings

    from mirst.allocator import keep_freed_memory
    from mirst.cli.commands import app

    keep_freed_memory()

    warnings.formatwarning = lambda message, *_, **__: f"mirst: {message}\n"
    app()
