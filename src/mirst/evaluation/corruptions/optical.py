"""Corruptions of photographs: of the skin, of stained slides, of the retina."""

import math

import torch
from torch import Tensor

from mirst.evaluation.corruptions.shapes import depth, distance, either_sign, lateral, on_content, painted, point
from mirst.random_draws import uniform_per_image

HAIR = (0.16, 0.1, 0.07)
DEPOSIT = (0.24, 0.1, 0.34)
STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical densities of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston 2001)."""


def black_corner(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Black outside of a circle around the centre, of radius `strength` widths of the image."""
    return x * torch.sigmoid((strength - distance(x)) / 0.008)


def hair(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """`strength` dark curved hairs, 1 % of the width thick, across the image."""
    cover = torch.zeros(1)
    for _ in range(round(strength)):
        angle, bend, offset = (
            uniform_per_image(len(x), low, high, generator) for low, high in ((0, math.pi), (-0.6, 0.6), (-0.45, 0.45))
        )
        along = angle.cos() * (lateral(x) - 0.5) + angle.sin() * (depth(x) - 0.5)
        aside = angle.cos() * (depth(x) - 0.5) - angle.sin() * (lateral(x) - 0.5)
        off = (aside - offset - bend * along**2).abs()
        cover = torch.maximum(cover, torch.sigmoid((0.006 - off) / 0.003))
    return painted(x, 0.9 * cover, HAIR)


def bubble(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A round air bubble of radius `strength` widths: paler inside, with a dark rim."""
    far = distance(x, *point(x, generator, 0.25, 0.75))
    inside = torch.sigmoid((strength - far) / 0.01)
    rim = torch.exp(-(((far - strength) / 0.015) ** 2) / 2)
    return on_content(x, (x + 0.45 * inside * (1 - x)) * (1 - 0.7 * rim))


def deposit(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """`strength` dark violet grains of stain, 2 to 6 % of the width in radius."""
    cover = torch.zeros(1)
    for _ in range(round(strength)):
        far, radius = distance(x, *point(x, generator)), uniform_per_image(len(x), 0.02, 0.06, generator)
        cover = torch.maximum(cover, torch.sigmoid((radius - far) / 0.01))
    return painted(x, 0.9 * cover, DEPOSIT)


def stain(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Each stain stronger or weaker by the share `strength` of its density; in gray images, the density of the pixel.

    Source: Tellez et al., IEEE Transactions on Medical Imaging 37 (2018), who draw the shares at random.
    """
    density = -torch.log(x.clamp(min=1 / 255))
    count = 3 if x.shape[1] == 3 else 1
    factor = 1 + strength * torch.cat([either_sign(x, generator) for _ in range(count)], 1)
    if count == 3:
        mixing = STAINS / STAINS.norm(dim=1, keepdim=True)
        amounts = torch.einsum("nchw,cs->nshw", density, torch.linalg.inv(mixing))
        density = torch.einsum("nshw,sc->nchw", amounts * factor, mixing)
    else:
        density = density * factor
    return on_content(x, torch.exp(-density))


def illumination(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Uneven light: brighter by the share `strength` at a random point, and darker by it far from there.

    Source: Shen et al., IEEE Transactions on Medical Imaging 40 (2021), the light transmission disturbance.
    """
    spot = torch.exp(-((distance(x, *point(x, generator, 0.2, 0.8)) / 0.35) ** 2) / 2)
    return x * (1 + strength * (2 * spot - 1))


def halo(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A white veil of opacity `strength` towards one side of the edge, as of stray light on the cornea."""
    veil = torch.sigmoid((distance(x, *point(x, generator, 0.35, 0.65)) - 0.42) / 0.05)
    return on_content(x, x + strength * veil * (1 - x))


def spots(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """`strength` gray blurred spots, as of dust on the lens."""
    for _ in range(round(strength)):
        far, radius = distance(x, *point(x, generator)), uniform_per_image(len(x), 0.02, 0.05, generator)
        x = x * (1 - 0.5 * torch.exp(-((far / radius) ** 2) / 2))
    return x
