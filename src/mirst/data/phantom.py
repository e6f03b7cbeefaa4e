"""Breast phantoms: an embedded data set in which the margin and the shadow tell the lesions apart."""

from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from mirst.data.images import Pixels
from mirst.files import atomic

HEIGHT, WIDTH = 96, 128
Map = NDArray[np.float64]


def make_phantom(malignant: bool, rng: np.random.Generator) -> Pixels:
    """One B-mode image of layered tissue with one lesion, `(96, 128)`, 0 to 255.

    A benign lesion is a smooth, wider-than-tall ellipse with a sharp edge and brighter tissue
    behind it; a malignant one is irregular, taller, blurred at the edge, and throws a shadow. Each
    trait is drawn from a range that overlaps with the other class's.
    """
    return _image_and_mask(malignant, rng)[0]


def write_phantoms(folder: str | Path, count: int, seed: int = 0) -> None:
    """Write `count` benign and `count` malignant phantoms into class folders below `folder`.

    The mask of the lesion in `benign/phantom-001.png` is `benign/masks/phantom-001.png`, for its box.

    >>> write_phantoms("lesions", 1)
    >>> sorted(path.as_posix() for path in Path("lesions").rglob("*.png"))[:2]
    ['lesions/benign/masks/phantom-001.png', 'lesions/benign/phantom-001.png']
    """
    rng = np.random.default_rng(seed)
    for label in ("benign", "malignant"):
        images = Path(folder) / label
        (images / "masks").mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            image, mask = _image_and_mask(label == "malignant", rng)
            name = f"phantom-{number:03d}.png"
            _save(mask, images / "masks" / name)
            _save(image, images / name)


def _save(pixels: Pixels, path: Path) -> None:
    with atomic(path) as partial:
        Image.fromarray(pixels).save(partial, format="png")


def _image_and_mask(malignant: bool, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A phantom, and its lesion in white on black."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    tissue, gain = _tissue(y, x, rng)
    inside, behind = _lesion(y, x, malignant, rng)
    darkness = rng.uniform(0.12, 0.4)
    echo = (tissue * (1 - inside) + darkness * inside) * gain * behind
    brightness = 20 * np.log10(echo * _speckle(rng) + 1e-3) + rng.uniform(-2, 2)
    image = np.asarray(((brightness + 28) / 42 * 255).clip(0, 255), dtype=np.uint8)
    return image, np.where(inside > 0.5, 255, 0).astype(np.uint8)


def _tissue(y: Map, x: Map, rng: np.random.Generator) -> tuple[Map, Map]:
    """Echogenicity of skin, fat, gland and muscle, and the loss of gain with depth."""

    def boundary(low: float, high: float) -> Map:
        depth = np.full_like(x, rng.uniform(low, high) * HEIGHT)
        for _ in range(3):
            phase = x * rng.uniform(0.3, 2) / WIDTH + rng.uniform()
            depth = depth + rng.uniform(0, 3.5) * np.sin(2 * np.pi * phase)
        return depth

    texture = scipy.ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), (4, 9))
    texture /= texture.std()
    tissue = np.full((HEIGHT, WIDTH), rng.uniform(0.35, 0.6))
    gland, muscle = boundary(0.15, 0.35), boundary(0.75, 0.95)
    tissue = np.where(y > gland, rng.uniform(0.6, 1.0) * np.exp(0.25 * texture), tissue)
    tissue = np.where(y > muscle, rng.uniform(0.2, 0.4) * (1 + 0.4 * np.sin(y * 1.3)), tissue)
    tissue = np.where(y < 4, 1.3, tissue)
    for _ in range(rng.integers(2, 6)):
        fascia = boundary(0.1, 0.9)
        tissue = tissue + rng.uniform(0.3, 0.9) * np.exp(-((y - fascia) ** 2) / 1.5)
    return tissue, np.exp(-rng.uniform(0.2, 1.0) * y / HEIGHT)


def _lesion(y: Map, x: Map, malignant: bool, rng: np.random.Generator) -> tuple[Map, Map]:
    """How far each pixel lies inside the lesion (0 to 1), and the gain of the tissue behind it."""
    centre_y, centre_x = rng.uniform(0.35, 0.6) * HEIGHT, rng.uniform(0.28, 0.72) * WIDTH
    width = rng.uniform(11, 20)
    height = width * (rng.uniform(0.65, 1.15) if malignant else rng.uniform(0.5, 0.85))
    dy, dx = (y - centre_y) / height, (x - centre_x) / width
    radius, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    roughness = rng.uniform(0.08, 0.24) if malignant else rng.uniform(0.0, 0.08)
    outline = np.ones_like(angle)
    for frequency in range(2, 12):
        outline += roughness * rng.normal() / np.sqrt(frequency) * np.cos(frequency * angle + rng.uniform(0, 6.28))
    blur = rng.uniform(0.08, 0.25) if malignant else rng.uniform(0.03, 0.12)
    inside = scipy.special.expit((outline - radius) / (0.5 * blur))

    strength = rng.uniform(-1.4, -0.05) if malignant else rng.uniform(-0.3, 0.7)
    column = np.exp(-(np.abs(dx / 0.85) ** 4)) * (y > centre_y + 0.6 * height)
    behind = np.exp(strength * scipy.ndimage.gaussian_filter1d(column, 2.5, axis=0))
    return inside, behind


def _speckle(rng: np.random.Generator) -> Map:
    """Rayleigh-distributed, wider across than along the beam, mean 1."""
    psf = (0.7, 1.5)
    real, imaginary = (scipy.ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), psf) for _ in range(2))
    field = real + 1j * imaginary
    amplitude = np.abs(field)
    return np.asarray(amplitude / amplitude.mean())
