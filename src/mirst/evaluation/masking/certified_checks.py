"""What certificates say about the checks for gradient masking."""

from collections.abc import Sequence
from dataclasses import replace

from mirst.errors import MirstError
from mirst.evaluation.masking.attack_checks import COLLAPSED
from mirst.evaluation.masking.check import Check, require_count, tolerance


def settled(checks: Sequence[Check], *, surviving: int, certified: int, images: int) -> list[Check]:
    """The checks and the check `certificates`; the others pass if certificates leave nothing that a model could mask.

    Masking can hide only misclassifications of images that survived the attacks without a certificate. If these are not
    more than the `tolerance` of the other checks, the number under attack is right, whatever the gradients are. That
    the model is collapsed remains a failure.

    Args:
        surviving: images that neither misclassification without an attack nor an attack has reached.
        certified: how many of them have a certificate at the eps of the attacks.
        images: how many images the checks are about.

    Raises:
        MirstError: a count out of range.

    >>> doubt = Check("budget", "suspect", "all attacks have fixed steps")
    >>> [check.verdict for check in settled([doubt], surviving=40, certified=12, images=64)]
    ['suspect', 'pass']
    >>> [check.verdict for check in settled([doubt], surviving=40, certified=40, images=64)]
    ['pass', 'pass']
    """
    require_count(surviving, images)
    if not 0 <= certified <= surviving:
        raise MirstError(f"{certified} of {surviving} images cannot be certified; count those among them")
    figures = f"{certified} of the {surviving} images that no attack misclassifies are certified"
    if surviving - certified > tolerance(images):
        return [*checks, Check("certificates", "pass", f"{figures}; the checks are about the others")]
    return [
        *(_settled(check) for check in checks),
        Check("certificates", "pass", f"{figures}, so no gradient can hide a misclassification"),
    ]


def _settled(check: Check) -> Check:
    if check.verdict == "pass" or check.figures.removeprefix("without the box, ").startswith(COLLAPSED):
        return check
    return replace(check, verdict="pass", figures=f"{check.figures}; the certificates settle it")
