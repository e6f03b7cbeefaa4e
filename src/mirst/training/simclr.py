"""SimCLR: an objective that needs no labels, and the views it compares."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirst.batches import checked_batch
from mirst.defenses import LossTerms
from mirst.errors import MirstError
from mirst.random_draws import uniform_per_image

MIN_AREA, MAX_STRETCH = 0.5, 4 / 3
"""Of a crop: its smallest share of the image, and the largest ratio between the scales of its sides."""


@dataclass(frozen=True, kw_only=True)
class SimCLR:
    """NT-Xent between two views of each image (MIRST-DM, Eq. 4; Chen et al. 2020).

    A training objective for `fit`, like a defense: the logits of the model are the embeddings, and the labels are
    ignored.

    Raises:
        MirstError: a temperature that is not positive, on construction; images outside [0, 1] or a
            batch of one image, on call.

    >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    >>> list(SimCLR()(encoder, torch.rand(4, 1, 16, 16), torch.zeros(4).long()).terms)
    ['nt_xent']
    """

    temperature: float = 0.5
    uses_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise MirstError(f"temperature is {self.temperature}; it must be positive")

    def at_eps_share(self, share: float) -> "SimCLR":
        """Itself: it has no eps."""
        return self

    def with_class_weights(self, weights: tuple[float, ...]) -> "SimCLR":
        """Itself: there are no classes to weigh."""
        return self

    def with_label_smoothing(self, share: float) -> "SimCLR":
        """Itself: there are no labels to smooth."""
        return self

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        x, y = checked_batch(x, y)
        if len(x) < 2:
            raise MirstError("SimCLR compares images of a batch; it needs at least two")
        z = model(torch.cat([ultrasound_view(x, generator), ultrasound_view(x, generator)]))
        loss = nt_xent(z, self.temperature)
        return LossTerms(loss, {"nt_xent": loss.item()})


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy, the mean over both orders of every positive pair.

    Args:
        z: `(2 N, D)` embeddings; `i` and `i + N` are views of one image.
    """
    z = F.normalize(z, dim=1)
    similarity = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(similarity, partner)


def ultrasound_view(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A random view of each image `(N, C, H, W)`: cropped, mirrored left-right, gray levels moved, blurred, speckled.

    Upside down would put the shadow above the lesion, so no view is; colour is not touched.
    """
    x = _cropped(x, generator)
    weak, strong = _blurred(x), _uniform(x, -0.5, 1.0, generator).clamp(min=0)
    x = x + strong * (weak - x)
    contrast, brightness = _uniform(x, 0.7, 1.3, generator), _uniform(x, -0.1, 0.1, generator)
    mean = x.mean((1, 2, 3), keepdim=True)
    lit = (x > 0).any(1, keepdim=True)  # the letterbox and the black around the tissue stay black
    changed = mean + contrast * (x - mean) + brightness + _uniform(x, 0.0, 0.1, generator) * _speckle(x, generator)
    return torch.where(lit, changed, x).clamp(0, 1)


def _cropped(x: Tensor, generator: torch.Generator | None) -> Tensor:
    area = _uniform(x, MIN_AREA, 1.0, generator).flatten()
    stretch = torch.exp(_uniform(x, -1.0, 1.0, generator).flatten() * torch.log(torch.tensor(MAX_STRETCH)) / 2)
    height, width = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    down, across = ((1 - side) * _uniform(x, -1.0, 1.0, generator).flatten() for side in (height, width))
    mirror = torch.where(_uniform(x, 0.0, 1.0, generator).flatten() < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(area)
    affine = torch.stack([torch.stack([mirror * width, zero, across], 1), torch.stack([zero, height, down], 1)], 1)
    grid = F.affine_grid(affine.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _blurred(x: Tensor) -> Tensor:
    """A Gaussian of sigma 1 pixel in 64."""
    sigma = max(x.shape[2:]) / 64
    reach = max(1, round(3 * sigma))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).to(x) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    flat = F.pad(x.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, kernel[..., None]), kernel[:, :, None]).view_as(x)


def _speckle(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """The logarithm of a Rayleigh amplitude, one for all channels: additive on B-mode gray levels."""
    real, imaginary = (torch.randn(len(x), 1, *x.shape[2:], generator=generator) for _ in range(2))
    return torch.log(torch.hypot(real, imaginary).clamp(min=0.05)).to(x)


def _uniform(x: Tensor, low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """One draw per image, `(N, 1, 1, 1)`."""
    return uniform_per_image(len(x), low, high, generator).to(x)
