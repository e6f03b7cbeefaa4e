"""The standard suite with and without dropping images that are broken already."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from mirst.data import ImageSet, batches, load_images, read_dataset
from mirst.data.phantom import write_phantoms
from mirst.defenses import RST
from mirst.evaluation.suites import standard
from mirst.evaluation.worst_case import worst_case
from mirst.nn import build_model
from mirst.training import Training, fit

EPS, IMAGES, ALLOWANCE = 5 / 255, 128, 0.15


def suite() -> Iterator[str]:
    """On phantoms and a model that RST trained on others."""
    torch.manual_seed(0)
    model = build_model("resnet_tiny", 1, 2)
    fit(model, batches(_phantoms(seed=1), 16, shuffle=True), RST(), settings=Training(epochs=15))
    data = list(batches(_phantoms(seed=2), 64))
    attacks = standard(EPS, classes=2).stages["standard"]
    _, costs = worst_case(model, data, {"standard": attacks})
    alone = {name: _seconds(model, data, attack) for name, attack in attacks.items()}
    share = float(costs["images"][1]) / IMAGES
    spent = dict(zip(costs["attack"], costs["seconds"], strict=True))
    ratio = sum(spent.values()) / sum(alone.values())
    limit = share + ALLOWANCE
    lines = [
        f"### The standard suite, resnet_tiny trained by RST, {IMAGES} phantoms of 64 px",
        "",
        "| attack | images attacked | s | s on all images |",
        "|---|---|---|---|",
        *(
            f"| {row['attack']} | {row['images']} | {row['seconds']:.1f} | {alone[row['attack']]:.1f} |"
            for row in costs.to_dict("records")
        ),
        "",
        f"With dropping / without: **{ratio:.2f}**; {share:.2f} of the images stand after the first attack; target at "
        f"most {limit:.2f}: {'reached' if ratio <= limit else 'missed'}.",
        "",
    ]
    yield "\n".join(lines)


def _phantoms(seed: int) -> ImageSet:
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder), IMAGES // 2, seed)
        records = read_dataset(Path(folder))
        pixels = load_images([record.file for record in records], 64)
    return ImageSet(pixels, (torch.tensor([record.label == "malignant" for record in records]).long()).numpy())


def _seconds(model: torch.nn.Module, data: list[tuple[torch.Tensor, torch.Tensor]], attack: object) -> float:
    begin = time.perf_counter()
    for x, y in data:
        attack(model, x, y, generator=torch.Generator().manual_seed(0))
    return time.perf_counter() - begin
