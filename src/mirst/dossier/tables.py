"""The tables of the study in a dossier."""

import pandas as pd

from mirst.study.layout import SUITES, StudyFolder
from mirst.study.misclassified_rows import misclassified_rows
from mirst.study.results import read_csv

CLAIMS = ("outcomes", *SUITES, "certificates")
"""Tables whose rows say that an image is misclassified."""


def read_tables(study: StudyFolder) -> dict[str, pd.DataFrame]:
    """Those of `CLAIMS` that the study has, by name."""
    return {name: read_csv(study.table(name)) for name in CLAIMS if study.table(name).exists()}


def claimed_rows(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows that need a witness."""
    return misclassified_rows(tables)
