"""Certificates of a data set of the size of BUSI at one eps, by intervals."""

from collections.abc import Iterator

import torch

from benchmarks.timing import medians, section
from mirst.bounds import margin_bounds
from mirst.nn import build_model

IMAGES, SECONDS, REPEATS = 647, 3.0, 1
MODELS = (("cnn_small", 32), ("cnn_small", 64), ("resnet_tiny", 64), ("resnet18", 64))


def certificates() -> Iterator[str]:
    for name, size in MODELS:
        model, x = build_model(name, 1, 2).eval(), torch.rand(IMAGES, 1, size, size)
        y = torch.arange(IMAGES) % 2
        found = medians({name: lambda model=model, x=x, y=y: margin_bounds(model, x, y, 5 / 255)}, REPEATS)
        title = f"{IMAGES} certificates at one eps by intervals, {name}, {size} px; {torch.get_num_threads()} thread(s)"
        verdict = "reached" if found[name] <= SECONDS else "missed"
        yield f"{section(title, found, 's', 1)}\nTarget at most {SECONDS:g} s: {verdict}.\n"
