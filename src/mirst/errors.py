"""The errors that a user can cause and mend."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, line separators, changes of direction, and surrogates."""


class MirstError(ValueError):
    """Bad input, said in one sentence that names the file or key and the mend.

    The command line prints the sentence and exits with code 2.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(plain(" ".join(sentence.split())))  # quoted material may hold line breaks and worse


class Diverged(MirstError):
    """Training met a loss or weights beyond all bounds; the sentence names the epoch.

    `history` holds the epochs before it.
    """

    def __init__(self, sentence: str, history: Sequence[Any] = ()) -> None:
        super().__init__(sentence)
        self.history = list(history)


def plain(text: str) -> str:
    """`text` with what steers a terminal, or cannot be written as UTF-8, as backslash escapes."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def suggestion(key: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown key: the known one that it resembles, else all of them."""
    close = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
