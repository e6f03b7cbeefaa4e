"""Evidence for the numbers of a study in one archive, and its check on another machine without any attack."""

from mirst.dossier.answers import Answer, Verdict, is_contradicted
from mirst.dossier.verify import verify_dossier
from mirst.dossier.writing import Dossier, write_dossier

__all__ = [
    "Answer",
    "Dossier",
    "Verdict",
    "is_contradicted",
    "verify_dossier",
    "write_dossier",
]
