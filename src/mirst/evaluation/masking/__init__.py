"""Whether a robustness number may be an artefact of gradient masking.

Each check looks for one sign that attacks failed because they were misled, not because the model is robust. The
signs are those of Athalye et al. 2018 ("Obfuscated gradients give a false sense of security"), Carlini et al. 2019
("On evaluating adversarial robustness") and Croce and Hein 2020 (AutoAttack). `docs/masking.md` explains each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mirst.attacks import Attack, StandIns
from mirst.attacks.stand_in import standing_in
from mirst.errors import MirstError
from mirst.evaluation.masking.attack_checks import more_steps, noise, one_step, unbounded
from mirst.evaluation.masking.certified_checks import settled
from mirst.evaluation.masking.check import Check, require_batch
from mirst.evaluation.masking.gradient_checks import finite_differences, gradients, repeatable
from mirst.evaluation.masking.suite_checks import budget, gradient_free, kind, rising_eps, transfer
from mirst.evaluation.outcomes import CLEAN
from mirst.nn.accelerate.switch import reference_mode
from mirst.nn.box_fusion import pixel_part, split_box
from mirst.nn.device import device_of
from mirst.random_draws import seeded


def check_masking(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    attacks: Mapping[str, Attack],
    misclassified_by: Mapping[str, int],
    curve: Mapping[float, int] | None = None,
    stand_ins: StandIns | None = None,
    certified: Tensor | None = None,
    seed: int = 0,
) -> list[Check]:
    """Run every check on one batch. The checks run on the model itself, not on an accelerated copy.

    Of a model that takes a box, the checks that call it run on its pixel part, without the box and its bound: no attack
    on the pixels can move a box beyond the bound, and that is no masking. Their figures begin with "without the box".
    The exceptions are noise and the checks of counts, which look at what the suite did to the whole model.

    A check whose input is missing is left out: "rising eps" without `curve`, "gradient-free" without a Square and
    "transfer" without a `Transfer` among the attacks.

    Args:
        model: any module from `(N, C, H, W)` images in [0, 1] to `(N, K)` logits, of which the largest decides; run
            in eval mode and left as found.
        x, y: images, and their labels as `(N,)` integers.
        eps: radius of the ball that the robustness number is about, above 0, in units of the [0, 1] pixel range.
        attacks: the suite, by name.
        misclassified_by: how many of the images `x` each attack was the first to misclassify, by name; those
            misclassified clean under "none". No attack runs on an image that is already misclassified, so what Square
            and transferred attacks misclassified is what the white-box attacks before them missed.
        curve: how many of the images `x` are misclassified at each eps, at two eps or more (0 for clean).
        stand_ins: of the layers whose gradient the attacks replaced, so that the checks follow the same gradient.
            Finite differences, which agree with no stand-in, are then left out.
        certified: `(N,)`, which of the images have a certificate at `eps` (`mirst.evaluation.certify`). The checks are
            then `settled`.
        seed: of the random draws, including those of the model.

    Returns:
        The checks in the order of `docs/masking.md`; `overall` gives their common verdict.

    Raises:
        MirstError: images outside [0, 1] or none, an eps or a count out of range, a count for an unknown attack.
    """
    device = device_of(model)
    x, y = x.to(device), y.to(device)
    require_batch(x, y, eps)
    if unknown := misclassified_by.keys() - {CLEAN, *attacks}:
        raise MirstError(f"misclassified_by contains {', '.join(sorted(unknown))}, which is not among the attacks")
    generator = torch.Generator().manual_seed(seed)
    with reference_mode(), seeded(seed, device):
        with standing_in(model, stand_ins or {}):
            checks = list(_checks(model, x, y, eps, attacks, misclassified_by, curve, generator))
        if not stand_ins:
            pixels, images = _pixel_part(model, x)
            checks.append(_of(pixels, model, finite_differences(pixels, images, y, generator=generator)))
    if certified is None:
        return checks
    surviving = len(x) - sum(misclassified_by.values())
    return settled(checks, surviving=surviving, certified=int(certified.sum()), images=len(x))


def _checks(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    attacks: Mapping[str, Attack],
    misclassified_by: Mapping[str, int],
    curve: Mapping[float, int] | None,
    generator: torch.Generator,
) -> Iterator[Check]:
    pixels, images = _pixel_part(model, x)
    yield budget(attacks)
    yield _of(pixels, model, one_step(pixels, images, y, eps))
    if curve is not None:
        yield rising_eps(curve, len(x))
    yield _of(pixels, model, unbounded(pixels, images, y, generator=generator))
    yield _of(pixels, model, more_steps(pixels, images, y, eps, generator=generator))
    kinds = {name: kind(attack) for name, attack in attacks.items()}
    for name, check in (("gradient-free", gradient_free), ("transfer", transfer)):
        of_kind = [attack for attack in attacks if kinds[attack] == name]
        if of_kind:
            yield check(sum(misclassified_by.get(attack, 0) for attack in of_kind), len(x))
    yield _of(pixels, model, gradients(pixels, images, y))
    yield _of(pixels, model, repeatable(pixels, images))
    yield noise(model, x, y, eps, sum(misclassified_by.values()), generator=generator)


def _pixel_part(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """What the checks call, and on which images."""
    return pixel_part(model) or model, split_box(model, x)[0]


def _of(pixels: nn.Module, model: nn.Module, check: Check) -> Check:
    return check if pixels is model else replace(check, figures=f"without the box, {check.figures}")
