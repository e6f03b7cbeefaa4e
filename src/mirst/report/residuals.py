"""Residual maps: the part of an attack that passes the first pooling, for each defense of a study."""

from dataclasses import dataclass

import numpy as np
import torch

from mirst.errors import MirstError
from mirst.nn import is_factory, load_model, read_card
from mirst.report.paper_figures import residual_maps
from mirst.report.pictures import perturbation_uri, picture_uri
from mirst.study import Results
from mirst.study.named_configs import NamedDefense
from mirst.study.trial import Trial

ATTACK = "pgd"
SHOWN = 2
"""Number of images of each defense."""


@dataclass(frozen=True)
class Residual:
    """An image and its residual map under each pooling; all pictures are data URIs.

    >>> Residual("data:", "data:", maps={"max-pool": "data:"}, means={"max-pool": 0.25}).means
    {'max-pool': 0.25}
    """

    clean: str
    attacked: str
    maps: dict[str, str]
    """On the colour scale of all maps of the defense."""
    means: dict[str, float]
    """Of the absolute values of each map."""


def residuals_of(results: Results, entry: NamedDefense, *, trusted: str | None = None) -> list[Residual]:
    """Of the first examples that a study kept of a defense, under its strongest gradient attack, PGD.

    Empty if it kept none, was not attacked by PGD, has no pooling layer, or is a model of code that is not trusted.

    Args:
        trusted: the `package.module:factory` whose code may be run, as for `mirst.nn.load_model`.
    """
    folder = results.files.trial(Trial(entry, 0, results.spec.seeds[0]).name)
    if not folder.examples.exists():
        return []
    with np.load(folder.examples, allow_pickle=False) as file:
        names, clean, attacked = list(file["attacks"]), file["clean"][:SHOWN], file["attacked"][:, :SHOWN]
    if ATTACK not in names:
        return []
    moved = attacked[names.index(ATTACK)]
    if is_factory(name := read_card(folder.model).model) and name != trusted:
        return []
    model, _ = load_model(folder.model, trusted)
    try:
        found = residual_maps(model, torch.from_numpy(clean), torch.from_numpy(moved))
    except MirstError:
        return []
    maps = {pooling: one.numpy() for pooling, one in found.items()}
    limit = max(float(np.abs(one).max()) for one in maps.values())
    return [
        Residual(
            picture_uri(clean[number]),
            picture_uri(moved[number]),
            {pooling: perturbation_uri(one[number][None], limit) for pooling, one in maps.items()},
            {pooling: float(np.abs(one[number]).mean()) for pooling, one in maps.items()},
        )
        for number in range(len(clean))
    ]
