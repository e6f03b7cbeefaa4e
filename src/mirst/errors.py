"""The errors that a user can cause and mend."""


class MirstError(ValueError):
    """Bad input, said in one sentence that names the file or key and the mend.

    The command line prints the sentence and exits with code 2.
    """


class Diverged(MirstError):
    """Training met a loss that is not finite; the sentence names the epoch."""
