"""Natural corruptions of B-mode images, five severities each.

Gray levels of a B-mode image are logarithms of the echo, so a change of gain is an offset and speckle
is additive. The black border of a letterboxed image stays black. docs/corruptions.md shows all of them.
"""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mirst.batches import Loader, checked_batches
from mirst.data import scored_index
from mirst.errors import MirstError
from mirst.evaluation.model_checks import require_classes
from mirst.evaluation.outcomes import evaluate
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.metrics import named_class_scores, row_metrics
from mirst.nn.box_fusion import split_box
from mirst.random_draws import uniform_per_image

SEVERITIES = (1, 2, 3, 4, 5)
Corruption = Callable[[Tensor, float, torch.Generator], Tensor]
"""From images `(N, C, H, W)` in [0, 1], a strength and a generator to images that may leave [0, 1]."""


def corrupt(x: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """Images `(N, C, H, W)` in [0, 1] under the corruption `name` of `CORRUPTIONS`.

    Args:
        severity: 1 to 5; 0 returns the images unchanged.
        generator: of the random draws, one per image.

    Raises:
        MirstError: an unknown name or severity.

    >>> corrupt(torch.full((1, 1, 2, 2), 0.5), "gain up", 1, torch.Generator()).flatten().tolist()[0]
    0.5600000023841858
    """
    if name not in CORRUPTIONS:
        raise MirstError(f"unknown corruption {name}; choose {', '.join(CORRUPTIONS)}")
    if severity not in (0, *SEVERITIES):
        raise MirstError(f"severity is {severity}; it must be 0 to 5")
    if severity == 0:
        return x
    function, strengths = CORRUPTIONS[name]
    return function(x, strengths[severity - 1], generator).clamp(0, 1)


def evaluate_corruptions(
    model: nn.Module,
    data: Loader,
    classes: Sequence[str],
    positive: str | None,
    *,
    threshold: float = 0.0,
    seed: int = 0,
    check: bool = True,
    on_progress: OnProgress = no_progress,
) -> pd.DataFrame:
    """Metrics of `model` under every corruption and severity, and clean (`none`, 0).

    The box of a model that takes one stays as it is.

    Args:
        data: as in `evaluate`; iterated once.
        check: warn of flaws of the model, as `evaluate` does.
        on_progress: called with the progress of each corruption and severity, before and after it.

    Returns:
        One row per corruption and severity: `corruption, severity` and the metrics.
    """
    batches = list(checked_batches(data))
    images = sum(len(x) for x, _ in batches)
    if not batches:
        raise MirstError("there are no images to evaluate on")
    if positive is not None and positive not in classes:
        raise MirstError(f"positive is {positive}; give one of the classes {', '.join(classes)}")
    require_classes(model, batches[0][0][:2], len(classes))
    names = np.array(classes)
    rows = []
    for name, severity in [("none", 0), *((name, s) for name in CORRUPTIONS for s in SEVERITIES)]:
        generator = torch.Generator().manual_seed(seed)
        corrupted = [(_corrupted(model, x, name, severity, generator), y) for x, y in batches]
        title = f"{name}, severity {severity}" if severity else name
        on_progress(Progress(title, 0.0, 0, images))
        outcomes = evaluate(
            model,
            corrupted,
            {},
            positive=scored_index(classes, positive),
            threshold=threshold,
            seed=seed,
            check=check and name == "none",
        )
        on_progress(Progress(title, 0.0, images, images))
        named = outcomes.assign(label=names[outcomes["label"]], prediction=names[outcomes["prediction"]])
        metrics = row_metrics(named_class_scores(named, classes), classes, positive)
        rows.append({"corruption": name, "severity": severity, **metrics})
    return pd.DataFrame(rows)


def _corrupted(model: nn.Module, x: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """`corrupt` of the images; the box code of a model that takes one stays."""
    if not severity:
        return x
    images, box = split_box(model, x)
    return torch.cat([corrupt(images, name, severity, generator), box], 1)


def _content(x: Tensor) -> Tensor:
    """`(N, 1, H, W)`: whether a pixel lies in a row and a column that are not all black."""
    lit = (x > 0).any(1, keepdim=True)
    return lit.any(3, keepdim=True) & lit.any(2, keepdim=True)


def _added(x: Tensor, change: Tensor | float) -> Tensor:
    """`x + change` on the content, not on the letterbox."""
    return torch.where(_content(x), x + change, x)


def _depth(x: Tensor) -> Tensor:
    return torch.linspace(0, 1, x.shape[2]).view(1, 1, -1, 1)


def _lateral(x: Tensor) -> Tensor:
    return torch.linspace(0, 1, x.shape[3]).view(1, 1, 1, -1)


def speckle(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Log-Rayleigh noise with a grain of about a pixel in 64, `strength` of full contrast at 20 dB."""
    real, imaginary = (
        _blurred(torch.randn(x.shape[0], 1, *x.shape[2:], generator=generator), 0.6, 0.9) for _ in range(2)
    )
    amplitude = torch.hypot(real, imaginary)
    amplitude = amplitude / amplitude.mean((2, 3), keepdim=True)
    return _added(x, strength * torch.log10(amplitude.clamp(min=0.05)))


def gain(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Overall gain up (positive) or down, an offset of `strength`."""
    return _added(x, strength)


def time_gain(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gain that grows or falls with depth, by `strength` from top to bottom."""
    sign = torch.sign(uniform_per_image(len(x), -1, 1, generator))
    return _added(x, sign * strength * (_depth(x) - 0.5))


def blur_axial(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian along the beam, sigma `strength` pixels of a 64-pixel image."""
    return _blurred(x, strength, 0)


def blur_lateral(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian across the beam, sigma `strength` pixels of a 64-pixel image."""
    return _blurred(x, 0, strength)


def shadow(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A column below a random point, 10 to 25 % of the width, darkened by `strength`."""
    centre, half, top = (uniform_per_image(len(x), *r, generator) for r in ((0.2, 0.8), (0.05, 0.125), (0.1, 0.5)))
    across = torch.sigmoid((half - (_lateral(x) - centre).abs()) / 0.015)
    below = torch.sigmoid((_depth(x) - top) / 0.02)
    return x * (1 - strength * across * below)


def reverberation(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Bright horizontal lines at equal distances, fading with depth, the first one `strength` bright."""
    spacing, width = uniform_per_image(len(x), 0.08, 0.14, generator), 0.008
    number = torch.round(_depth(x) / spacing).clamp(min=1)
    line = torch.exp(-(((_depth(x) - number * spacing) / width) ** 2) / 2)
    return _added(x, strength * line * 0.75 ** (number - 1))


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


def contrast(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Contrast reduced to `strength` around the mean of the content."""
    inside = _content(x).float()
    mean = (x * inside).sum((1, 2, 3), keepdim=True) / (inside.sum((1, 2, 3), keepdim=True) * x.shape[1]).clamp(min=1)
    return _added(x, (1 - strength) * (mean - x))


def rotation(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotated by `strength` degrees, in either direction."""
    angle = torch.sign(uniform_per_image(len(x), -1, 1, generator)).view(-1) * math.radians(strength)
    zero = torch.zeros_like(angle)
    matrix = torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def clipping(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The darkest and the brightest `strength` of the gray scale saturate."""
    return (x - strength) / (1 - 2 * strength)


def _blurred(x: Tensor, axial: float, lateral: float) -> Tensor:
    """Gaussian of sigmas in pixels of a 64-pixel image."""
    for sigma, side, axis in ((axial, x.shape[2], 2), (lateral, x.shape[3], 3)):
        scaled = sigma * side / 64
        if scaled <= 0:
            continue
        reach = min(math.ceil(3 * scaled), side - 1)
        taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / scaled) ** 2)
        kernel = (taps / taps.sum()).to(x).view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        padding = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        padded = F.pad(x, padding, mode="reflect")
        x = F.conv2d(padded, kernel.expand(x.shape[1], 1, *kernel.shape[2:]), groups=x.shape[1])
    return x


CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "speckle": (speckle, (0.05, 0.1, 0.16, 0.24, 0.35)),
    "gain up": (gain, (0.06, 0.12, 0.18, 0.25, 0.35)),
    "gain down": (gain, (-0.06, -0.12, -0.18, -0.25, -0.35)),
    "time gain": (time_gain, (0.1, 0.2, 0.3, 0.45, 0.6)),
    "blur axial": (blur_axial, (0.5, 0.8, 1.2, 1.7, 2.4)),
    "blur lateral": (blur_lateral, (0.5, 0.8, 1.2, 1.7, 2.4)),
    "shadow": (shadow, (0.2, 0.4, 0.6, 0.8, 0.95)),
    "reverberation": (reverberation, (0.08, 0.15, 0.25, 0.35, 0.5)),
    "jpeg": (jpeg, (50, 30, 18, 10, 5)),
    "pixelation": (pixelation, (1.6, 2.0, 2.7, 4.0, 6.4)),
    "contrast": (contrast, (0.8, 0.65, 0.5, 0.35, 0.2)),
    "rotation": (rotation, (2, 4, 7, 11, 16)),
    "clipping": (clipping, (0.05, 0.1, 0.15, 0.2, 0.27)),
}
"""By name: the function and the strengths of the five severities."""
