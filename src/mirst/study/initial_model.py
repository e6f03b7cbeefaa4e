"""The model that a training of a study starts from."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from mirst.defenses import Defense
from mirst.defenses.base import initialise
from mirst.errors import MirstError
from mirst.nn import BoxFusion, LoadedBackbone, build_model, load_backbone
from mirst.nn.factory import described, in_words
from mirst.study.spec import StudySpec


def try_model(spec: StudySpec, names: Sequence[str], positive: int) -> LoadedBackbone | None:
    """Say before the first trial that the model does not work; what it starts from."""
    weights, classes = None, len(names)
    x = torch.zeros(2, input_channels(spec), spec.data.size, spec.data.size)
    for drop_max in sorted({entry.drop_max for entry in spec.defenses}):
        model, weights = initial_model(spec, classes, drop_max, spec.seeds[0], positive=positive)
        try:
            with torch.no_grad():
                outputs = model.eval()(x)
        except Exception as error:
            raise MirstError(
                f"model {spec.model.network} cannot take images of {spec.data.size} px ({in_words(error)})"
            ) from error
        shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else described(outputs)
        if shape != (2, classes):
            raise MirstError(
                f"model {spec.model.network} gives {shape} for 2 images of {classes} classes; it needs (2, {classes})"
            )
    return weights


def input_channels(spec: StudySpec) -> int:
    """Channels of what the model takes: those of the images, and the box code of a fused one."""
    return channels_of(spec) + (spec.model.box == "fused")


def channels_of(spec: StudySpec) -> Literal[1, 3]:
    """Of the images of a study whose `data.channels` is decided.

    Raises:
        MirstError: it is not decided.
    """
    if spec.data.channels == "auto":
        raise MirstError("data.channels is auto, but the study of a results folder names 1 or 3")
    return spec.data.channels


def initial_model(
    spec: StudySpec,
    classes: int,
    drop_max: bool,
    seed: int,
    weights_file: str | None = None,
    *,
    positive: int | None = None,
    defense: Defense | None = None,
) -> tuple[nn.Module, LoadedBackbone | None]:
    """The model that training starts from: random by `seed`, its backbone from a file where one is named.

    Args:
        positive: index of the positive class, for `model.box: fused`; `None` gives the pixel network alone.
        defense: the training objective, which may draw random weights of its own.

    Raises:
        MirstError: a model or weights that `build_model` or `load_backbone` refuses, or a fused box with other than two
            classes.
    """
    if spec.model.bound is not None and positive is not None and classes != 2:
        raise MirstError(f"model.box: fused needs two classes, but there are {classes}; name two with data.classes")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = build_model(spec.model.name, channels_of(spec), classes, drop_max, spec.model.options)
        if defense is not None and spec.model.weights == "random":
            initialise(defense, model)
    if spec.model.bound is not None and positive is not None:
        model = BoxFusion(model, positive, spec.model.bound)
    if spec.model.weights == "random":
        return model, None
    return model, load_backbone(model, weights_file or spec.model.weights, spec.model.name, spec.model.options)
