"""Corruptions of magnetic resonance and of computed tomography."""

import math

import torch
from torch import Tensor

from mirst.evaluation.corruptions.shapes import added, depth, distance, either_sign, lateral, on_content, point
from mirst.random_draws import uniform_per_image


def rician_noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The magnitude of the pixel with Gaussian noise of deviation `strength` on its real and imaginary part."""
    real, imaginary = (strength * torch.randn(x.shape, generator=generator).to(x) for _ in range(2))
    return on_content(x, torch.hypot(x + real, imaginary))


def bias_field(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Multiplied by `exp(strength f)`, with `f` a random plane and saddle of at most 1."""
    down, across, both = (uniform_per_image(len(x), -1, 1, generator) for _ in range(3))
    v, u = 2 * depth(x) - 1, 2 * lateral(x) - 1
    field = (down * v + across * u + both * u * v) / (down.abs() + across.abs() + both.abs())
    return x * torch.exp(strength * field)


def ghosting(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Every third line of k-space but the central one weaker by the share `strength`: copies along the image."""
    line = (torch.fft.fftfreq(x.shape[2]) * x.shape[2]).round().view(1, 1, -1, 1)
    weak = (line % 3 == torch.floor(uniform_per_image(len(x), 0, 3, generator))) & (line != 0)
    return on_content(x, torch.fft.ifft(torch.fft.fft(x, dim=2) * (1 - strength * weak), dim=2).abs())


def motion_in_k_space(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The lines of k-space beyond a random one are of an image moved by `strength` pixels of 64, in any direction."""
    angle = uniform_per_image(len(x), 0, 2 * math.pi, generator)
    down, across = torch.fft.fftfreq(x.shape[2]).view(1, 1, -1, 1), torch.fft.fftfreq(x.shape[3]).view(1, 1, 1, -1)
    by = down * angle.sin() * strength * x.shape[2] / 64 + across * angle.cos() * strength * x.shape[3] / 64
    later = down > uniform_per_image(len(x), -0.06, 0.06, generator)
    phase = torch.where(later, torch.polar(torch.ones_like(by), -2 * math.pi * by), torch.ones(1, dtype=torch.cfloat))
    return on_content(x, torch.fft.ifft2(torch.fft.fft2(x) * phase).abs())


def spike(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A wave of amplitude `strength`, 5 to 12 periods along each axis: a spike in k-space."""
    down, across = (uniform_per_image(len(x), 5, 12, generator) for _ in range(2))
    wave = torch.cos(2 * math.pi * (down * depth(x) + either_sign(x, generator) * across * lateral(x)))
    return added(x, strength * wave)


def rings(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rings around the centre, of amplitude `strength` on average, as of detector elements out of calibration."""
    count = 48
    amplitude = torch.randn(len(x), count, generator=generator)
    radius = (distance(x) / math.sqrt(0.5) * (count - 1)).round().long().clamp(max=count - 1)
    return added(x, strength * amplitude[:, radius[0, 0]].unsqueeze(1))


def streaks(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Bright and dark rays from a random point, of amplitude `strength`, as from metal."""
    down, across = point(x, generator, 0.3, 0.7)
    angle = torch.atan2(depth(x) - down, lateral(x) - across)
    rays = torch.zeros(1)
    for number in (4, 7, 11):  # frequencies without a common factor, so that no two rays are equal
        rays = rays + torch.cos(number * angle + uniform_per_image(len(x), 0, 2 * math.pi, generator)) / 3
    fade = torch.exp(-distance(x, down, across) / 0.5)
    return added(x, strength * 2 * rays * fade)
