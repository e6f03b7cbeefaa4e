"""Interval bounds as a slow transcription: lower and upper bounds layer by layer, by the signs of the weights."""

import torch
import torch.nn.functional as F
from torch import nn

from mirst.nn import DropMax2d, Normalized
from mirst.nn.cnn_small import SmallCNN


def layers(model):
    """The layers of a network without branches, in the order in which they are applied."""
    if isinstance(model, Normalized):
        return [("normalise", model.mean, model.std), *layers(model.network)]
    if isinstance(model, SmallCNN):
        parts = (model.stem, model.maxpool, model.body, model.avgpool, nn.Flatten(), model.hidden, model.fc)
        return [layer for part in parts for layer in layers(part)]
    if isinstance(model, nn.Sequential):
        return [layer for part in model for layer in layers(part)]
    return [model]


def signed(function, weight, bias, lower, upper):
    """Bounds of a linear function: positive weights take the bound of the same side, negative ones the other."""
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    shift = 0 if bias is None else bias.view(1, -1, *[1] * (lower.dim() - 2))
    return (
        function(lower, positive) + function(upper, negative) + shift,
        function(upper, positive) + function(lower, negative) + shift,
    )


def scaled(scale, shift, lower, upper):
    ends = scale * lower + shift, scale * upper + shift
    return torch.minimum(*ends), torch.maximum(*ends)


def statistics(norm, clean):
    """Mean and variance with which a batch norm normalises: of the clean images in train mode."""
    if not norm.training:
        return norm.running_mean, norm.running_var
    values = clean.transpose(0, 1).flatten(1)
    mean = values.sum(1) / values.shape[1]
    return mean, ((values - mean[:, None]) ** 2).sum(1) / values.shape[1]


def step(layer, clean, lower, upper):
    """Clean values, lower and upper bounds behind `layer`."""
    if isinstance(layer, tuple):
        _, mean, std = layer
        return (clean - mean) / std, (lower - mean) / std, (upper - mean) / std
    if isinstance(layer, nn.Conv2d):

        def function(x, weight):
            return F.conv2d(x, weight, None, layer.stride, layer.padding)

        bias = 0 if layer.bias is None else layer.bias.view(1, -1, 1, 1)
        return function(clean, layer.weight) + bias, *signed(function, layer.weight, layer.bias, lower, upper)
    if isinstance(layer, nn.Linear):
        return layer(clean), *signed(F.linear, layer.weight, layer.bias, lower, upper)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        mean, variance = statistics(layer, clean)
        shape = (1, -1, *[1] * (clean.dim() - 2))
        scale = (layer.weight / torch.sqrt(variance + layer.eps)).view(shape)
        shift = layer.bias.view(shape) - mean.view(shape) * scale
        return scale * clean + shift, *scaled(scale, shift, lower, upper)
    assert isinstance(layer, nn.ReLU | nn.MaxPool2d | DropMax2d | nn.AdaptiveAvgPool2d | nn.Flatten | nn.Identity)
    return tuple(layer(values.clone()) for values in (clean, lower, upper))


def bounds(model, clean, lower, upper):
    """Clean logits, and pre-activation bounds: before every ReLU, those of the images first."""
    before = [(lower, upper)]
    *body, last = layers(model)
    for layer in body:
        if isinstance(layer, nn.ReLU):
            before.append((lower, upper))
        clean, lower, upper = step(layer, clean, lower, upper)
    return clean, lower, upper, last, before


def worst_case(model, clean, y, lower, upper):
    """Clean logits and worst-case logits `(N, K)`: 0 for the true class, for another one how far it may exceed it."""
    clean, lower, upper, last, _ = bounds(model, clean, lower, upper)
    rows = []
    for image, label in enumerate(y.tolist()):
        row = []
        for k in range(last.out_features):
            weight = (last.weight[k] - last.weight[label])[None]
            bias = (last.bias[k] - last.bias[label])[None]
            row.append(signed(F.linear, weight, bias, lower[image : image + 1], upper[image : image + 1])[1][0, 0])
        rows.append(torch.stack(row))
    return last(clean), torch.stack(rows)
