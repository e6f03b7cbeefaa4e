"""A finished study as the sections of a report see it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mirst.attacks import PGD
from mirst.evaluation import CLEAN
from mirst.report.baselines import baselines_at
from mirst.study import Results
from mirst.study.named_configs import NamedDefense
from mirst.study.summary import summarise, worst_rows

PROTOCOL = "paper protocol"


class ReportContext:
    """The results of a study and the tables that several sections need, each computed once.

    A report makes one context and passes it to its sections.

    >>> from types import SimpleNamespace
    >>> results = SimpleNamespace(outcomes=pd.DataFrame({"attack": ["none"]}), suites={})
    >>> len(ReportContext(results).every_row)
    1
    """

    def __init__(self, results: Results, beside: Results | None = None) -> None:
        """With another study `beside`, only suites and eps that both were run at are used."""
        self.results = results
        self.beside = beside

    @cached_property
    def every_row(self) -> pd.DataFrame:
        """The outcome rows of the study's own attacks and of all suites."""
        return every_row(self.results)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """The study's summary, then the worst of its own attacks per image, then each suite at each eps.

        The baselines of a study of lesions come last, under every attack in their exact worst case within its eps.
        """
        results = self.results
        parts = [self.under_attack[PROTOCOL]]
        for suite, rows in results.suites.items():
            parts.append(rows.assign(attack=[suite_at(suite, eps) for eps in rows["eps"]]))
        rows = pd.concat(parts)
        kept = pd.MultiIndex.from_frame(results.summary[["defense", "drop_max"]].drop_duplicates())
        rows = rows[pd.MultiIndex.from_frame(rows[["defense", "drop_max"]]).isin(kept)]
        networks = pd.concat([results.summary, summarise(rows, results.classes, results.positive)])
        if results.baselines is None:
            return networks
        conditions = networks[["attack", "eps"]].drop_duplicates().itertuples(index=False)
        baselines = pd.concat([baselines_at(results, eps).assign(attack=attack, eps=eps) for attack, eps in conditions])
        return pd.concat([networks, summarise(baselines, results.classes, results.positive)])

    @cached_property
    def under_attack(self) -> dict[str, pd.DataFrame]:
        """Rows of all trials, one per image: clean, the worst of the study's own attacks, and each suite that was run.

        A suite that was run at several eps is taken at that of the study's own attacks if it has it, else at the
        largest.
        """
        results, beside = self.results, self.results if self.beside is None else self.beside
        own = results.outcomes[results.outcomes["attack"] != CLEAN]
        rows = {
            CLEAN: results.outcomes[results.outcomes["attack"] == CLEAN],
            PROTOCOL: worst_rows(own, PROTOCOL, results.positive),
        }
        for suite, attacked in results.suites.items():
            radii = suite_eps(results, suite) & suite_eps(beside, suite)
            if radii:
                eps = own["eps"].max() if own["eps"].max() in radii else max(radii)
                rows[suite] = attacked[attacked["eps"] == eps]
        return rows

    @cached_property
    def baselines_under_attack(self) -> dict[str, pd.DataFrame]:
        """The rows of the baselines at the eps of `under_attack`; empty unless the study is one of lesions."""
        return {name: baselines_at(self.results, rows["eps"].max()) for name, rows in self.under_attack.items()}

    @cached_property
    def conditions(self) -> dict[str, pd.DataFrame]:
        """Outcome rows by heading: clean, under the study's PGD if it has one, under the strongest suite."""
        name, strongest = list(self.under_attack.items())[-1]
        conditions = {"no attack": self.under_attack[CLEAN]}
        for entry in self.results.spec.attacks:
            if isinstance(entry.attack, PGD):
                own = self.results.outcomes[self.results.outcomes["attack"] == entry.label]
                conditions[f"{entry.label} (eps {pixels(entry.attack.eps)})"] = own
                break
        conditions[f"{name} (eps {pixels(strongest['eps'].max())})"] = strongest
        return conditions

    @property
    def clean_and_strongest(self) -> dict[str, pd.DataFrame]:
        """The first and the last of `conditions`."""
        conditions = list(self.conditions.items())
        return dict([conditions[0], conditions[-1]])


def every_row(results: Results) -> pd.DataFrame:
    """The outcome rows of the study's own attacks and of all suites."""
    return pd.concat([results.outcomes, *results.suites.values()])


def suite_eps(results: Results, suite: str) -> set[float]:
    """The radii at which the suite was run; empty if it was not."""
    return set(results.suites[suite]["eps"]) if suite in results.suites else set()


def suite_at(suite: str, eps: float) -> str:
    """The suite's name in `ReportContext.summary`."""
    return f"{suite} {eps:.6g}"


def title(defense: str, drop_max: bool) -> str:
    """The column heading of a defense."""
    return f"{defense}+dm" if drop_max else defense


def of_defense(rows: pd.DataFrame, entry: NamedDefense) -> pd.DataFrame:
    """The rows of one defense."""
    return rows[(rows["defense"] == entry.label) & (rows["drop_max"] == entry.drop_max)]


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a finite score."""
    finite: pd.DataFrame = rows[np.isfinite(rows["score"])]
    return finite


def attack_name(attack: Any) -> str:
    """The attack as readers know it."""
    return "no attack" if attack == CLEAN else str(attack)


def pixels(eps: float) -> str:
    """`5/255` if eps is a whole number of gray levels.

    >>> pixels(5 / 255), pixels(0.01)
    ('5/255', '0.01')
    """
    levels = eps * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.4g}"


def listed(names: Sequence[str]) -> str:
    """As a sentence has them.

    >>> listed(["ce", "at", "rst"])
    'ce, at and rst'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
