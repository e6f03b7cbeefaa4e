"""The lesion view of an image: the whole image with its box, and the crop that a model sees."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mirst.data import MARGIN, Box, ImageFile, Lesions, box_around, decode, lesion_crop
from mirst.data.boxes import in_decoded
from mirst.data.masks import masks_of
from mirst.errors import MirstError
from mirst.report.figures import draw_image

SIZE = 256
"""Side of the crop in pixels: it is shown as sharp as the image is."""


def lesion_figure(image: Path, box: Box | None = None) -> Figure:
    """The whole image with its box, and the crop around it with the default margin.

    Args:
        box: of the lesion, in pixels of the image, or of the whole frame of a DICOM file; by default around the masks
            beside the image.

    Raises:
        MirstError: an image or mask that cannot be read, no box, or one outside of the image.
    """
    box = box or box_around(masks_of(image))
    if box is None:
        raise MirstError(f"there is no box for {image}; give --box x0,y0,x1,y1 or --mask FILE, or put masks beside it")
    box = in_decoded(image, box)
    whole, crop = decode(ImageFile(image)), lesion_crop(ImageFile(image), box, SIZE, MARGIN)
    pixels = Lesions(SIZE, MARGIN, np.array([crop.features])).crops(crop.surroundings[None])[0]
    inside = box.within(*whole.size)
    figure = Figure(figsize=(3 * whole.width / whole.height + 3.2, 3.3), layout="constrained")
    grid: Any = figure.subplots(1, 2, width_ratios=(whole.width / whole.height, 1))
    draw_image(grid[0], np.asarray(whole)[None] / 255, "whole image, with the box of the lesion")
    edges = Rectangle((inside.x0 - 0.5, inside.y0 - 0.5), inside.width, inside.height, fill=False, color="#ffd400")
    grid[0].add_patch(edges)  # pixel centres have whole coordinates
    draw_image(grid[1], pixels / 255, "lesion view")
    return figure
