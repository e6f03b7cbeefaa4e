"""How a command ends. The page docs/command-line.md lists the codes."""

import signal
from enum import IntEnum


class ExitCode(IntEnum):
    done = 0
    """Also after `--help`, and if the reader of a pipe has gone."""
    finding = 1
    """Conflicting labels, or a contradicted dossier; Python ends with the same code on an error of mirst itself."""
    bad_input = 2
    """One sentence says what is wrong."""
    interrupted = 128 + signal.SIGINT
    terminated = 128 + signal.SIGTERM
