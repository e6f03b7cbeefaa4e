"""Whether a robustness number may be an artefact of gradient masking.

Each check looks for one sign that attacks failed because they were misled, not because the model is robust. The
signs are those of Athalye et al. 2018 ("Obfuscated gradients give a false sense of security"), Carlini et al. 2019
("On evaluating adversarial robustness") and Croce and Hein 2020 (AutoAttack).
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mirst.attacks import FGSM, Attack, Square, StandIns, Transfer
from mirst.attacks.stand_in import standing_in
from mirst.errors import MirstError
from mirst.evaluation.judge import seeded
from mirst.evaluation.masking.from_model import (
    Check,
    Verdict,
    finite_differences,
    gradients,
    more_steps,
    noise,
    one_step,
    repeatable,
    require_batch,
    require_count,
    tolerance,
    unbounded,
)
from mirst.evaluation.outcomes import CLEAN
from mirst.nn.accelerate.switch import reference_mode
from mirst.nn.device import device_of

ORDER: tuple[Verdict, ...] = ("pass", "suspect", "fail")


def check_masking(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    attacks: Mapping[str, Attack],
    first_broken: Mapping[str, int],
    curve: Mapping[float, int] | None = None,
    stand_ins: StandIns | None = None,
    seed: int = 0,
) -> list[Check]:
    """Run every check on one batch, on the model itself: no faster copy of it is attacked here.

    A check whose input is missing is left out: "rising eps" without `curve`, "gradient-free" without a Square and
    "transfer" without a `Transfer` among the attacks.

    Args:
        model: any module from `(N, C, H, W)` images in [0, 1] to `(N, K)` logits, of which the largest decides; run
            in eval mode and left as found.
        x, y: images, and their labels as `(N,)` integers.
        eps: radius of the ball that the number at hand is about, above 0, in units of the [0, 1] pixel range.
        attacks: the suite, by name.
        first_broken: of the images `x`, how many each attack was the first to break, by name; those misclassified
            clean under "none". None is shown an image that is broken already:
            what Square and transferred attacks broke is what the white-box attacks before them missed.
        curve: of the images `x`, how many are misclassified at each eps, at two eps or more (0 for clean).
        stand_ins: of the layers whose gradient the attacks replaced, so that the checks follow the same gradient;
            finite differences, which no stand-in agrees with, are then left out.
        seed: of the random draws, the model's own included.

    Returns:
        The checks in the order of `docs/masking.md`; `overall` sums them up.

    Raises:
        MirstError: images outside [0, 1] or none, an eps or a count out of range, an unknown attack's count.
    """
    device = device_of(model)
    x, y = x.to(device), y.to(device)
    require_batch(x, y, eps)
    if unknown := first_broken.keys() - {CLEAN, *attacks}:
        raise MirstError(f"first_broken names {', '.join(sorted(unknown))}, which is not among the attacks")
    generator = torch.Generator().manual_seed(seed)
    with reference_mode(), seeded(seed, device):
        with standing_in(model, stand_ins or {}):
            checks = list(_checks(model, x, y, eps, attacks, first_broken, curve, generator))
        return checks if stand_ins else [*checks, finite_differences(model, x, y, generator=generator)]


def _checks(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    attacks: Mapping[str, Attack],
    first_broken: Mapping[str, int],
    curve: Mapping[float, int] | None,
    generator: torch.Generator,
) -> Iterator[Check]:
    yield budget(attacks)
    yield one_step(model, x, y, eps)
    if curve is not None:
        yield rising_eps(curve, len(x))
    yield unbounded(model, x, y, generator=generator)
    yield more_steps(model, x, y, eps, generator=generator)
    kinds = {name: _kind(attack) for name, attack in attacks.items()}
    for kind, check in (("gradient-free", gradient_free), ("transfer", transfer)):
        names = [name for name in attacks if kinds[name] == kind]
        if names:
            yield check(sum(first_broken.get(name, 0) for name in names), len(x))
    yield gradients(model, x, y)
    yield repeatable(model, x)
    yield noise(model, x, y, eps, sum(first_broken.values()), generator=generator)


def overall(checks: Sequence[Check]) -> Verdict:
    """The worst verdict: "fail" before "suspect" before "pass".

    Raises:
        MirstError: no checks.
    """
    if not checks:
        raise MirstError("no check was run, so there is no verdict")
    return max((check.verdict for check in checks), key=ORDER.index)


def budget(attacks: Mapping[str, Attack]) -> Check:
    """Suspect if an attack of fixed step length cannot reach the edge of its ball, `steps * step_size < eps`, or if
    there are no attacks but of fixed step length (FGSM, PGD, CW), which are too weak for a verdict.

    An attack inside another one (`Transfer`, `SurrogateBackward`, `MultiTargeted`) counts too. Attacks that choose
    their own steps always reach it. Source: Carlini et al. 2019.
    """
    shares, fixed = {}, []
    for name, attack in attacks.items():
        for part in _unwrapped(attack):
            steps, step_size = getattr(part, "steps", None), getattr(part, "step_size", None)
            if steps is not None and step_size is not None and part.eps > 0:
                shares[name] = steps * step_size / part.eps
            if isinstance(part, FGSM) or step_size is not None:
                fixed.append(name)
    short = {name: share for name, share in shares.items() if share < 1 and not math.isclose(share, 1)}
    found = [f"{name} reaches {share:.0%} of its eps" for name, share in short.items()]
    if fixed and len(fixed) == len(attacks):
        found.append(
            f"no attack chooses its own steps ({', '.join(fixed)} have fixed ones), so survival proves nothing"
        )
    if found:
        return Check("budget", "suspect", ", ".join(found))
    if not shares:
        return Check("budget", "pass", "no attack has a fixed step length")
    return Check("budget", "pass", f"every attack of fixed step length reaches the edge: {', '.join(shares)}")


def rising_eps(broken: Mapping[float, int], images: int) -> Check:
    """Fails if fewer images are broken at some eps than at a smaller one.

    Args:
        broken: number of misclassified images at each eps, 0 for clean; two eps or more.
        images: how many there are.

    Raises:
        MirstError: fewer than two eps, or a count out of range.

    Source: Athalye et al. 2018 (a larger distortion bound).
    """
    if len(broken) < 2:
        raise MirstError("a curve needs counts at two eps or more")
    counts = [broken[eps] for eps in sorted(broken)]
    for count in counts:
        require_count(count, images)
    fall = max(max(counts[:i]) - counts[i] for i in range(1, len(counts)))
    figures = ", ".join(f"{broken[eps]} at {eps:.4g}" for eps in sorted(broken))
    verdict: Verdict = "fail" if fall > tolerance(images) else "pass"
    return Check("rising eps", verdict, f"images broken by eps, of {images}: {figures}")


def gradient_free(only: int, images: int) -> Check:
    """Fails if a gradient-free attack (Square) broke images that white-box attacks could not.

    Args:
        only: images that it was the first to break, after all white-box attacks.
        images: how many there are, the misclassified ones included.

    Raises:
        MirstError: a count out of range.

    Source: Athalye et al. 2018; Croce and Hein 2020.
    """
    return _missed("gradient-free", "gradient-free attacks", only, images)


def transfer(only: int, images: int) -> Check:
    """Fails if attacks crafted on another model broke images that white-box attacks could not.

    Args, raises: as `gradient_free`. Source: Athalye et al. 2018 (black-box attacks).
    """
    return _missed("transfer", "transferred attacks", only, images)


def _missed(name: str, who: str, only: int, images: int) -> Check:
    require_count(only, images)
    verdict: Verdict = "fail" if only > tolerance(images) else "pass"
    return Check(name, verdict, f"{who} break {only} of {images} images that white-box attacks missed")


def _unwrapped(attack: Attack) -> Iterator[Attack]:
    """The attack, the one inside it, and so on."""
    inner: Attack | None = attack
    while inner is not None:
        yield inner
        inner = getattr(inner, "attack", None)


def _kind(attack: Attack) -> str:
    parts = list(_unwrapped(attack))
    if any(isinstance(part, Transfer) for part in parts):
        return "transfer"
    return "gradient-free" if any(isinstance(part, Square) for part in parts) else "white-box"
