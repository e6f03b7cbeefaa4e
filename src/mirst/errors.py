"""Errors that a user can cause and fix."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, line separators, changes of direction, and surrogates."""


class MirstError(ValueError):
    """Bad input. The message is one sentence: what is wrong, with the file or key, and how to fix it.

    The command line prints it and exits with code 2.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(plain(" ".join(sentence.split())))  # quoted text may contain line breaks


class Diverged(MirstError):
    """The loss or weights of a training became infinite or NaN; the message names the epoch.

    `history` has the epochs before it.
    """

    def __init__(self, sentence: str, history: Sequence[Any] = ()) -> None:
        super().__init__(sentence)
        self.history = list(history)


def plain(text: str) -> str:
    """`text` with control characters, and characters that UTF-8 cannot encode, as backslash escapes."""
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def suggestion(key: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown key: the most similar known key, else all known keys."""
    close = most_similar(key, known)
    return f"; did you mean {close}?" if close else f"; choose one of {', '.join(known)}"


def meant(key: str, known: Sequence[str]) -> str:
    """What a message adds after an unknown key, if a known one is similar.

    >>> meant("resnet_tinny", ["resnet18", "resnet_tiny"])
    ' (did you mean resnet_tiny?)'
    """
    close = most_similar(key, known)
    return f" (did you mean {close}?)" if close else ""


def most_similar(key: str, known: Sequence[str]) -> str | None:
    """The known key that is most similar to `key`, if one is similar at all.

    >>> most_similar("busi-smal", ["busi-small", "leakage"])
    'busi-small'
    """
    return next(iter(difflib.get_close_matches(key, known, 1)), None)
