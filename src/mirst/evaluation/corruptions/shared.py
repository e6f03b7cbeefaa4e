"""Corruptions that several modalities share: noise, blur, compression, gray levels."""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mirst.evaluation.corruptions.shapes import (
    added,
    affine,
    blurred,
    content,
    convolved,
    either_sign,
    moved,
    on_content,
)
from mirst.random_draws import uniform_per_image

STEPS = 9
"""Number of moved copies of an image that a motion or a zoom is averaged over."""


def noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of standard deviation `strength` on every pixel and channel."""
    return added(x, strength * _normal(x, generator))


def speckle_noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise whose standard deviation is `strength` of the pixel."""
    return added(x, strength * x * _normal(x, generator))


def shot_noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Noise of few photons: Gaussian of standard deviation `strength` times the square root of the pixel."""
    return added(x, strength * x.clamp(min=0).sqrt() * _normal(x, generator))


def impulse_noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The share `strength` of all pixels is black or white."""
    at, white = (torch.rand(x.shape[0], 1, *x.shape[2:], generator=generator) for _ in range(2))
    return on_content(x, torch.where(at < strength, (white < 0.5).to(x), x))


def blur(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian, sigma `strength` pixels of a 64-pixel image."""
    return blurred(x, strength, strength)


def defocus(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Averaged over a disc of radius `strength` pixels of a 64-pixel image."""
    radius = strength * max(x.shape[2:]) / 64
    reach = min(math.ceil(radius), min(x.shape[2:]) - 1)
    offsets = torch.arange(-reach, reach + 1)
    disc = (radius + 0.5 - torch.hypot(offsets[:, None].float(), offsets[None].float())).clamp(0, 1)
    return convolved(x, (disc / disc.sum()).to(x)[None, None], (reach, reach, reach, reach))


def motion(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Averaged along a line `strength` pixels of a 64-pixel image long, in a random direction."""
    angle = uniform_per_image(len(x), 0, math.pi, generator).view(-1)
    steps = [step / (STEPS - 1) - 0.5 for step in range(STEPS)]
    reach = 2 * strength / 64
    maps = [affine(1.0, step * reach * angle.sin(), step * reach * angle.cos(), len(x)) for step in steps]
    return torch.stack([moved(x, one, "border") for one in maps]).mean(0)


def zoom(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Averaged over enlargements from 1 to `1 + strength`."""
    scales = [1 / (1 + strength * step / (STEPS - 1)) for step in range(STEPS)]
    return torch.stack([moved(x, affine(scale, 0.0, 0.0, len(x))) for scale in scales]).mean(0)


def jpeg(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """JPEG at quality `strength`."""
    decoded = []
    for image in (x * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy():
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze()).save(buffer, format="jpeg", quality=int(strength))
        decoded.append(np.atleast_3d(np.asarray(Image.open(buffer))))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(x) / 255


def pixelation(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Averaged over blocks `strength` pixels wide, then enlarged without smoothing."""
    size = [max(1, round(side / strength)) for side in x.shape[2:]]
    return F.interpolate(F.interpolate(x, size=size, mode="area"), size=x.shape[2:], mode="nearest-exact")


def brightness(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """All values multiplied by `strength`."""
    return x * strength


def contrast(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Contrast multiplied by `strength` around the mean of the content."""
    inside = content(x).float()
    mean = (x * inside).sum((1, 2, 3), keepdim=True) / (inside.sum((1, 2, 3), keepdim=True) * x.shape[1]).clamp(min=1)
    return added(x, (1 - strength) * (mean - x))


def gamma(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """All values to the power `strength`."""
    return x**strength


def saturation(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Distances from gray multiplied by `strength`; gray images stay as they are."""
    gray = x.mean(1, keepdim=True)
    return gray + strength * (x - gray)


def rotation(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotated by `strength` degrees, in either direction."""
    angle = either_sign(x, generator).view(-1) * math.radians(strength)
    zero = torch.zeros_like(angle)
    return moved(x, torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero], 1).view(-1, 2, 3))


def clipping(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The darkest and the brightest `strength` of the gray scale saturate."""
    return (x - strength) / (1 - 2 * strength)


def _normal(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator).to(x)
