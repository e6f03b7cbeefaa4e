"""The errors that a user can cause and mend."""

import difflib
from collections.abc import Sequence
from typing import Any


class MirstError(ValueError):
    """Bad input, said in one sentence that names the file or key and the mend.

    The command line prints the sentence and exits with code 2.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(" ".join(sentence.split()))  # quoted material may hold line breaks


class Diverged(MirstError):
    """Training met a loss or weights beyond all bounds; the sentence names the epoch.

    `history` holds the epochs before it.
    """

    def __init__(self, sentence: str, history: Sequence[Any] = ()) -> None:
        super().__init__(sentence)
        self.history = list(history)


def suggestion(key: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown key: the known one that it resembles, else all of them."""
    close = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
