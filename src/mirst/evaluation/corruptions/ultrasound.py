"""Corruptions of B-mode images.

Gray levels of a B-mode image are logarithms of the echo, so a change of gain is an offset and speckle is additive.
"""

import torch
from torch import Tensor

from mirst.evaluation.corruptions.shapes import added, blurred, depth, either_sign, lateral
from mirst.random_draws import uniform_per_image


def speckle(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Log-Rayleigh noise with a grain of about a pixel in 64, `strength` of full contrast at 20 dB."""
    real, imaginary = (
        blurred(torch.randn(x.shape[0], 1, *x.shape[2:], generator=generator), 0.6, 0.9) for _ in range(2)
    )
    amplitude = torch.hypot(real, imaginary)
    amplitude = amplitude / amplitude.mean((2, 3), keepdim=True)
    return added(x, strength * torch.log10(amplitude.clamp(min=0.05)))


def gain(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Overall gain up (positive) or down, an offset of `strength`."""
    return added(x, strength)


def time_gain(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gain that grows or falls with depth, by `strength` from top to bottom."""
    return added(x, either_sign(x, generator) * strength * (depth(x) - 0.5))


def blur_axial(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian along the beam, sigma `strength` pixels of a 64-pixel image."""
    return blurred(x, strength, 0)


def blur_lateral(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian across the beam, sigma `strength` pixels of a 64-pixel image."""
    return blurred(x, 0, strength)


def shadow(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A column below a random point, 10 to 25 % of the width, darkened by `strength`."""
    centre, half, top = (uniform_per_image(len(x), *r, generator) for r in ((0.2, 0.8), (0.05, 0.125), (0.1, 0.5)))
    across = torch.sigmoid((half - (lateral(x) - centre).abs()) / 0.015)
    below = torch.sigmoid((depth(x) - top) / 0.02)
    return x * (1 - strength * across * below)


def reverberation(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Bright horizontal lines at equal distances, fading with depth, the first one `strength` bright."""
    spacing, width = uniform_per_image(len(x), 0.08, 0.14, generator), 0.008
    number = torch.round(depth(x) / spacing).clamp(min=1)
    line = torch.exp(-(((depth(x) - number * spacing) / width) ** 2) / 2)
    return added(x, strength * line * 0.75 ** (number - 1))
