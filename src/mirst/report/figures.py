"""Figures as PNG bytes."""

import io
from base64 import b64encode
from typing import Any

import numpy as np
from PIL import Image

from mirst.box_code import without_box


def draw_image(axes: Any, image: np.ndarray[Any, Any], text: str) -> None:
    """An image `(C, H, W)` in [0, 1] under its title."""
    axes.imshow(without_box(image).transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(text, fontsize=7, parse_math=False)  # a class may be called $x$
    axes.axis("off")


def draw_perturbation(axes: Any, delta: np.ndarray[Any, Any], eps: float) -> None:
    """The channel mean on a signed scale from -eps to eps."""
    axes.imshow(without_box(delta).mean(0), cmap="RdBu_r", vmin=-eps, vmax=eps)
    axes.set_title(f"perturbation\n× {1 / (2 * eps):.0f}" if eps else "perturbation", fontsize=7)
    axes.axis("off")


def without_frame(axes: Any) -> None:
    """Hide the upper and the right edge of a panel."""
    axes.spines[["top", "right"]].set_visible(False)


def data_uri(content: bytes, kind: str = "png") -> str:
    """The content of an image file as a `data:` URI."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def image_uri(image: Image.Image, kind: str = "png", **options: Any) -> str:
    """The image as a file of that kind in a `data:` URI; the options are those of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return data_uri(buffer.getvalue(), kind)
