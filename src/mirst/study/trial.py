"""Which trials a study consists of."""

from dataclasses import dataclass

import pandas as pd

from mirst.study.named_configs import NamedDefense
from mirst.study.spec import StudySpec


@dataclass(frozen=True)
class Trial:
    """One defense on one fold with one seed."""

    entry: NamedDefense
    fold: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.entry.title}-fold{self.fold}-seed{self.seed}"

    def key(self) -> dict[str, str | bool | int]:
        """The columns that identify the rows of this trial in a table."""
        return {
            "defense": self.entry.label,
            "drop_max": self.entry.drop_max,
            "fold": self.fold,
            "seed": self.seed,
        }

    def with_key(self, rows: pd.DataFrame) -> pd.DataFrame:
        """`rows` with the columns of `key` in front."""
        keys = pd.DataFrame({name: [value] * len(rows) for name, value in self.key().items()}, index=rows.index)
        return pd.concat([keys, rows], axis=1)


def all_trials(spec: StudySpec) -> list[Trial]:
    """Every defense on every fold with every seed, in the order of the tables."""
    return [
        Trial(entry, fold, seed) for entry in spec.defenses for fold in range(spec.folds.count) for seed in spec.seeds
    ]
