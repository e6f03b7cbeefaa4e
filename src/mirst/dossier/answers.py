"""What a check of a dossier says, one line for each claim."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How far a claim of a dossier was checked.

    >>> str(Verdict.UNCHECKED)
    'not checkable here'
    """

    PROVED = "proved"
    """It holds on this machine, whoever made the dossier and however."""
    RECOMPUTED = "recomputed"
    """It follows from other parts of the dossier, or from the images."""
    UNCHECKED = "not checkable here"
    """Something is missing for the check; the line says what."""
    CONTRADICTED = "CONTRADICTED"
    """It does not agree with other parts of the dossier, or with the images."""


@dataclass(frozen=True)
class Answer:
    """One line.

    >>> print(Answer(Verdict.PROVED, "witnesses", "all 3 are in their balls"))
    proved: witnesses: all 3 are in their balls
    """

    verdict: Verdict
    claim: str
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.claim}: {self.detail}"


def is_contradicted(answers: Iterable[Answer]) -> bool:
    """Whether any of the answers is a contradiction."""
    return any(answer.verdict == Verdict.CONTRADICTED for answer in answers)


def judged(claim: str, faults: list[str], otherwise: Verdict, detail: str) -> Answer:
    """A contradiction that names the first of the faults; without faults, the other verdict."""
    if not faults:
        return Answer(otherwise, claim, detail)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Answer(Verdict.CONTRADICTED, claim, f"{faults[0]}{more}")
