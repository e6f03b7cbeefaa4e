"""Backbones trained on one set of images, to start from on another."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from mirst.data import (
    ImageFile,
    ImageSet,
    Record,
    channels_remark,
    data_loader,
    images_in_colour,
    read_for_audit,
    resolved_channels,
    with_boxes,
    with_shared_range,
)
from mirst.defenses import CE, Defense
from mirst.errors import MirstError
from mirst.files import require_target
from mirst.nn import replace_head, save_backbone
from mirst.nn.device import default_device
from mirst.study.initial_model import initial_model
from mirst.study.prepared import conditions, images_in_view, lesions_in_view
from mirst.study.pretraining_origin import PretrainingOrigin
from mirst.study.spec import StudySpec
from mirst.training import Epoch, FitResult, SimCLR, fit
from mirst.training.state import forget_state

Method = Literal["simclr", "supervised"]
"""How a backbone is pretrained."""
EMBEDDING = 128
"""Width of the projection head's output."""


def pretrain(
    method: Method,
    data: Sequence[Path],
    spec: StudySpec,
    out: Path,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    *,
    defense: Defense | None = None,
    on_remark: Callable[[str], object] = lambda _: None,
) -> FitResult:
    """Train the backbone of `spec.model` on all images of the data sets and write it to `out`, without its head.

    A training that was killed resumes from `out` with `.state` added.

    Args:
        method: `simclr` ignores the labels; `supervised` trains on them, the classes of all data sets taken together.
        spec: its model, image size, view and training settings count, and its first seed.
        defense: the objective of `supervised`; plain training by default.
        on_remark: gets sentences about files and images that are left out.

    Raises:
        MirstError: data that cannot be read, a view without boxes, a defense for `simclr`, a model without a head to
            take off, or an `out` that cannot be written.
    """
    if method == "simclr" and defense is not None:
        raise MirstError("simclr has an objective of its own; leave out the defense, or pretrain with supervised")
    require_target(out)
    records = read_for_audit(data, on_remark)
    if spec.data.view == "lesion":
        records = with_boxes(records, spec.data.without_box, on_remark)
    classes = sorted({record.label for record in records})
    files = with_shared_range([record.file for record in records])
    spec = _with_channels(spec, files, on_remark)
    settings, seed = spec.training, spec.seeds[0]
    objective = SimCLR() if method == "simclr" else defense or CE()
    model, _ = initial_model(spec, len(classes), False, seed, defense=objective)
    if method == "simclr":
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            replace_head(model, _projection)
    state = out.with_name(out.name + ".state")
    with conditions(spec):
        result = fit(
            model.to(default_device()),
            data_loader(_images(method, records, files, classes, spec), settings.batch_size, shuffle=True),
            objective,
            settings=settings,
            seed=seed,
            checkpoint=state,
            on_epoch=on_epoch,
            extensions=settings.loop_extensions,
        )
    save_backbone(out, model, PretrainingOrigin.of(objective, spec, records).metadata())
    forget_state(state)
    return result


def _with_channels(spec: StudySpec, files: Sequence[ImageFile], on_remark: Callable[[str], object]) -> StudySpec:
    channels, colour = spec.data.channels, images_in_colour(files)
    for sentence in channels_remark(channels, colour, len(files)):
        on_remark(sentence)
    return spec.with_channels(resolved_channels(channels, colour, len(files)))


def _images(
    method: Method, records: Sequence[Record], files: Sequence[ImageFile], classes: Sequence[str], spec: StudySpec
) -> ImageSet:
    images = images_in_view(spec, files, [record.box for record in records])
    labels = np.array([classes.index(record.label) for record in records], dtype=np.int64)
    augment = spec.training.augmentation if method == "supervised" else None
    lesions = lesions_in_view(spec, images)
    pixels_only = lesions and replace(lesions, as_channel=False)
    return ImageSet(images.pixels, labels, augment, pixels_only)


def _projection(width: int) -> nn.Module:
    """SimCLR's projection head."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, EMBEDDING))
