"""Which study a results folder of ensembles was made from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

KEY = "ensemble"
"""Of `run.json`."""


@dataclass(frozen=True)
class Origin:
    """The study whose models are the members.

    >>> str(Origin("results/busi", "2026-01-01T00:00:00+00:00", seeds=(0, 1)))
    'ensembles of the seeds 0, 1 of results/busi'
    """

    of: str
    """Its results folder."""
    started: str
    """When it was started, as in its `run.json`."""
    seeds: tuple[int, ...]
    """Of the members of each ensemble."""

    def entry(self) -> dict[str, Any]:
        """What is added to `run.json`."""
        return {KEY: asdict(self)}

    def __str__(self) -> str:
        return f"ensembles of the seeds {', '.join(map(str, self.seeds))} of {self.of}"


def origin_of(run: Mapping[str, Any]) -> Origin | None:
    """The origin that a `run.json` names; `None` if its models are no ensembles.

    Raises:
        LookupError, TypeError: a damaged entry.
    """
    if KEY not in run:
        return None
    entry = run[KEY]
    return Origin(str(entry["of"]), str(entry["started"]), tuple(int(seed) for seed in entry["seeds"]))
