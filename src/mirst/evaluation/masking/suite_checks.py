"""Checks of the attacks of a suite and of what they misclassified."""

from collections.abc import Mapping

from mirst.attacks import FGSM, Attack, Square, Transfer
from mirst.errors import MirstError
from mirst.evaluation.budget import reach, unwrapped
from mirst.evaluation.masking.check import Check, failing, require_count, tolerance


def budget(attacks: Mapping[str, Attack]) -> Check:
    """Suspect if an attack of fixed step length cannot reach the edge of its ball, `steps * step_size < eps`, or if
    all attacks have a fixed step length (FGSM, PGD, CW): such attacks are too weak for a verdict.

    An attack inside another one (`Transfer`, `SurrogateBackward`, `MultiTargeted`) counts too. Attacks that choose
    their own steps always reach the edge. Source: Carlini et al. 2019.

    >>> from mirst.attacks import APGD, PGD
    >>> budget({"apgd": APGD(), "pgd": PGD(eps=0.02, steps=10, step_size=0.001)}).figures
    'the steps of pgd add up to 50% of its eps'
    """
    shares: dict[str, float] = {}
    fixed = []
    for name, attack in attacks.items():
        for part in unwrapped(attack):
            share = reach(part)
            if share is not None:
                shares[name] = share
            if isinstance(part, FGSM) or getattr(part, "step_size", None) is not None:
                fixed.append(name)
    weak = [f"the steps of {name} add up to {share:.0%} of its eps" for name, share in shares.items() if share < 1]
    if fixed and len(fixed) == len(attacks):
        weak.append(f"all attacks have fixed steps ({', '.join(fixed)}), so surviving them proves nothing")
    if weak:
        return Check("budget", "suspect", ", ".join(weak))
    if not shares:
        return Check("budget", "pass", "no attack has a fixed step length")
    return Check("budget", "pass", f"every attack of fixed step length reaches the edge: {', '.join(shares)}")


def rising_eps(wrong: Mapping[float, int], images: int) -> Check:
    """Fails if fewer images are misclassified at some eps than at a smaller one.

    Args:
        wrong: number of misclassified images at each eps, 0 for clean; two eps or more.
        images: how many there are.

    Raises:
        MirstError: fewer than two eps, or a count out of range.

    Source: Athalye et al. 2018 (a larger distortion bound).

    >>> rising_eps({0.0: 4, 0.01: 20, 0.02: 9}, images=64).verdict
    'fail'
    """
    if len(wrong) < 2:
        raise MirstError("a curve needs the number of misclassified images at two or more eps")
    counts = [wrong[eps] for eps in sorted(wrong)]
    for count in counts:
        require_count(count, images)
    fall = max(max(counts[:i]) - counts[i] for i in range(1, len(counts)))
    figures = ", ".join(f"{wrong[eps]} at {eps:.4g}" for eps in sorted(wrong))
    return failing("rising eps", fall > tolerance(images), f"misclassified images by eps, of {images}: {figures}")


def gradient_free(only: int, images: int) -> Check:
    """Fails if a gradient-free attack (Square) misclassified images that white-box attacks did not.

    Args:
        only: images that it was the first to misclassify, after all white-box attacks.
        images: how many there are, the misclassified ones included.

    Raises:
        MirstError: a count out of range.

    Source: Athalye et al. 2018; Croce and Hein 2020.
    """
    return _missed("gradient-free", "gradient-free attacks", only, images)


def transfer(only: int, images: int) -> Check:
    """Fails if attacks crafted on another model misclassified images that white-box attacks did not.

    Args, raises: as `gradient_free`. Source: Athalye et al. 2018 (black-box attacks).
    """
    return _missed("transfer", "transferred attacks", only, images)


def _missed(name: str, who: str, only: int, images: int) -> Check:
    require_count(only, images)
    figures = f"{who} misclassify {only} of {images} images that white-box attacks missed"
    return failing(name, only > tolerance(images), figures)


def kind(attack: Attack) -> str:
    """ "transfer", "gradient-free" or "white-box"."""
    parts = list(unwrapped(attack))
    if any(isinstance(part, Transfer) for part in parts):
        return "transfer"
    return "gradient-free" if any(isinstance(part, Square) for part in parts) else "white-box"
