"""Every corruption with the strengths of its five severities, and which of them belong to which modality.

Which corruptions a modality has follows MedMNIST-C (Di Salvo et al., arXiv 2406.17536), except for ultrasound, which
has its own, and MRI, which MedMNIST-C lacks. docs/corruptions.md defines and shows all of them.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from mirst.data import Channels
from mirst.errors import MirstError, suggestion
from mirst.evaluation.corruptions import optical, scanners, shared, ultrasound

SEVERITIES = (1, 2, 3, 4, 5)
"""Of every corruption, from the weakest to the strongest."""
Corruption = Callable[[Tensor, float, torch.Generator], Tensor]
"""From images `(N, C, H, W)` in [0, 1], a strength and a generator to images that may leave [0, 1]."""

CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "speckle": (ultrasound.speckle, (0.05, 0.1, 0.16, 0.24, 0.35)),
    "gain up": (ultrasound.gain, (0.06, 0.12, 0.18, 0.25, 0.35)),
    "gain down": (ultrasound.gain, (-0.06, -0.12, -0.18, -0.25, -0.35)),
    "time gain": (ultrasound.time_gain, (0.1, 0.2, 0.3, 0.45, 0.6)),
    "blur axial": (ultrasound.blur_axial, (0.5, 0.8, 1.2, 1.7, 2.4)),
    "blur lateral": (ultrasound.blur_lateral, (0.5, 0.8, 1.2, 1.7, 2.4)),
    "shadow": (ultrasound.shadow, (0.2, 0.4, 0.6, 0.8, 0.95)),
    "reverberation": (ultrasound.reverberation, (0.08, 0.15, 0.25, 0.35, 0.5)),
    "jpeg": (shared.jpeg, (50, 30, 18, 10, 5)),
    "pixelation": (shared.pixelation, (1.6, 2.0, 2.7, 4.0, 6.4)),
    "contrast": (shared.contrast, (0.8, 0.65, 0.5, 0.35, 0.2)),
    "rotation": (shared.rotation, (2, 4, 7, 11, 16)),
    "clipping": (shared.clipping, (0.05, 0.1, 0.15, 0.2, 0.27)),
    "contrast up": (shared.contrast, (1.15, 1.3, 1.5, 1.75, 2.1)),
    "brightness up": (shared.brightness, (1.1, 1.2, 1.3, 1.4, 1.5)),
    "brightness down": (shared.brightness, (0.9, 0.8, 0.7, 0.6, 0.5)),
    "gamma up": (shared.gamma, (1.15, 1.3, 1.5, 1.75, 2.1)),
    "gamma down": (shared.gamma, (0.88, 0.77, 0.66, 0.57, 0.48)),
    "saturation": (shared.saturation, (1.2, 1.4, 1.7, 2.1, 2.6)),
    "noise": (shared.noise, (0.02, 0.04, 0.07, 0.11, 0.17)),
    "speckle noise": (shared.speckle_noise, (0.06, 0.12, 0.2, 0.3, 0.45)),
    "shot noise": (shared.shot_noise, (0.04, 0.08, 0.13, 0.2, 0.3)),
    "impulse noise": (shared.impulse_noise, (0.005, 0.015, 0.03, 0.06, 0.1)),
    "blur": (shared.blur, (0.5, 0.8, 1.2, 1.7, 2.4)),
    "defocus": (shared.defocus, (0.7, 1.1, 1.6, 2.3, 3.2)),
    "motion": (shared.motion, (2, 3.5, 5, 7, 10)),
    "zoom": (shared.zoom, (0.05, 0.1, 0.15, 0.22, 0.3)),
    "black corner": (optical.black_corner, (0.62, 0.56, 0.5, 0.44, 0.38)),
    "hair": (optical.hair, (2, 4, 8, 13, 20)),
    "bubble": (optical.bubble, (0.06, 0.09, 0.13, 0.18, 0.24)),
    "stain deposit": (optical.deposit, (1, 2, 4, 7, 11)),
    "stain": (optical.stain, (0.08, 0.16, 0.25, 0.36, 0.5)),
    "illumination": (optical.illumination, (0.12, 0.22, 0.34, 0.48, 0.65)),
    "halo": (optical.halo, (0.12, 0.22, 0.34, 0.48, 0.65)),
    "spots": (optical.spots, (2, 4, 7, 12, 20)),
    "rician noise": (scanners.rician_noise, (0.02, 0.04, 0.07, 0.11, 0.17)),
    "bias field": (scanners.bias_field, (0.2, 0.4, 0.6, 0.9, 1.3)),
    "ghosting": (scanners.ghosting, (0.15, 0.3, 0.45, 0.65, 0.9)),
    "k-space motion": (scanners.motion_in_k_space, (0.8, 1.4, 2.2, 3.2, 4.5)),
    "spike": (scanners.spike, (0.03, 0.06, 0.1, 0.15, 0.22)),
    "rings": (scanners.rings, (0.01, 0.02, 0.035, 0.055, 0.08)),
    "streaks": (scanners.streaks, (0.05, 0.1, 0.16, 0.24, 0.35)),
}
"""By name: the function and the strengths of the five severities."""

_DIGITAL = ("jpeg", "pixelation")
_LIGHT = ("brightness up", "brightness down", "contrast up", "contrast")
_NOISE = ("noise", "speckle noise", "impulse noise", "shot noise")
_GAMMA = ("gamma up", "gamma down")
SETS: dict[str, tuple[str, ...]] = {
    "ultrasound": (
        *("speckle", "gain up", "gain down", "time gain", "blur axial", "blur lateral", "shadow", "reverberation"),
        *("jpeg", "pixelation", "contrast", "rotation", "clipping"),
    ),
    "xray": (*_DIGITAL, *_NOISE, "blur", *_LIGHT, *_GAMMA),
    "dermoscopy": (*_DIGITAL, *_NOISE, "defocus", "motion", "zoom", *_LIGHT, "black corner", "hair", "bubble"),
    "histology": (*_DIGITAL, "defocus", "motion", *_LIGHT, "saturation", "stain", "stain deposit", "bubble"),
    "fundus": (
        *(*_DIGITAL, "noise", "speckle noise", "defocus", "motion", "brightness down", "contrast"),
        *("illumination", "halo", "spots"),
    ),
    "mri": (
        *("rician noise", "blur", "pixelation", "contrast", *_GAMMA),
        *("bias field", "ghosting", "k-space motion", "spike"),
    ),
    "ct": (*_DIGITAL, *_NOISE, "blur", *_LIGHT, *_GAMMA, "rings", "streaks"),
    "general": (*_DIGITAL, "noise", "defocus", "motion", *_LIGHT),
}
"""By modality, names of `CORRUPTIONS`."""
OF_COLOUR = ("saturation",)
"""Corruptions that leave gray images as they are; gray images do not get them."""


def corruption_set(modality: str | None, channels: Channels) -> str:
    """Which of `SETS` images get.

    Args:
        modality: of the images; `None` stands for ultrasound if they are gray, and for general if they are in colour.

    Raises:
        MirstError: an unknown modality.

    >>> corruption_set(None, 1), corruption_set(None, 3), corruption_set("fundus", 3)
    ('ultrasound', 'general', 'fundus')
    """
    if modality is None:
        return "general" if channels == 3 else "ultrasound"
    if modality not in SETS:
        raise MirstError(f"unknown modality {modality}{suggestion(modality, list(SETS))}")
    return modality


def corruptions_of(modality: str | None, channels: Channels) -> tuple[str, ...]:
    """Names of the corruptions of `corruption_set`, without those that change nothing in images of `channels`.

    >>> corruptions_of("mri", 1)[:3]
    ('rician noise', 'blur', 'pixelation')
    """
    names = SETS[corruption_set(modality, channels)]
    return tuple(name for name in names if channels == 3 or name not in OF_COLOUR)


def set_in_words(modality: str | None, channels: Channels) -> str:
    """Which set images get, and how to choose another one if no modality is named, in a sentence.

    >>> set_in_words("ct", 1)
    'Corruptions: those of ct.'
    """
    name = corruption_set(modality, channels)
    if modality is not None:
        return f"Corruptions: those of {name}."
    look = "in colour" if channels == 3 else "gray"
    others = ", ".join(other for other in SETS if other != name)
    return (
        f"Corruptions: those of {name}, since data.modality is not set and the images are {look}; choose others with "
        f"--modality ({others})."
    )


def set_of(corruptions: Iterable[str]) -> str | None:
    """The set of `SETS` that a column `corruption` of a table has; `None` if it has other corruptions.

    >>> set_of(["none", *SETS["mri"]])
    'mri'
    """
    names = set(corruptions) - {"none"}
    return next((name for name, own in SETS.items() if names <= set(own) <= names.union(OF_COLOUR)), None)
