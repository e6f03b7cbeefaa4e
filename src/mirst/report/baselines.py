"""The baselines of a lesion study, as tables show them beside its networks."""

import numpy as np
import pandas as pd

from mirst.study import Results


def baseline_title(name: str) -> str:
    """The heading of a baseline. No defense has such a label.

    >>> baseline_title("box")
    'box (baseline)'
    """
    return f"{name} (baseline)"


def baseline_titles(results: Results) -> list[str]:
    """The headings of all baselines of a study; none unless it is one of lesions."""
    return [] if results.baselines is None else [baseline_title(name) for name in results.baselines["defense"].unique()]


def baselines_at(results: Results, eps: float) -> pd.DataFrame:
    """The outcome rows of the baselines at an eps, 0 for none, with their headings as `defense`."""
    rows = results.outcomes.iloc[:0] if results.baselines is None else results.baselines
    own = rows[np.isclose(rows["eps"], eps)]
    return own.assign(defense=own["defense"].map(baseline_title))


def for_every_seed(rows: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Rows that depend on no seed, those of baselines or ensembles, repeated for each seed of the study."""
    return pd.concat([rows.assign(seed=seed) for seed in results.spec.seeds])
