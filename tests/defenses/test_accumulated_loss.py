"""Gradients taken pass by pass equal those of the whole graph, at the price that was counted."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mirst.defenses import MIRST, RST
from mirst.defenses.accumulated_loss import AccumulatedLoss
from mirst.nn import reference_mode
from tests.helpers import small_cnn, snapshot, without_dropout

FUSED = {"craft_mode": "train", "joint_batch": False}
WEIGHTS = {"class_weights": (0.4, 2.5)}


def train(defense, batch, *, plain, frozen_layer=False):
    model = without_dropout(small_cnn()).double().train()
    if frozen_layer:
        model[0].weight.requires_grad_(False)
    with reference_mode(plain):
        total, terms = defense(model, batch[0].double(), batch[1], generator=torch.Generator().manual_seed(0))
    assert all(p.grad is None for p in model.parameters())
    (3 * total).backward()
    return total, terms, model


@pytest.mark.parametrize("frozen_layer", [False, True])
@pytest.mark.parametrize(
    "defense",
    [
        RST(**FUSED),
        MIRST(**FUSED),
        MIRST(**FUSED, **WEIGHTS, alpha=0.7),
        MIRST(**FUSED, instances=(3, 7, 1), weights=(0.5, 0.0, 0.2)),
        MIRST(**FUSED, random_start=True),
        MIRST(joint_batch=False, **WEIGHTS),
        RST(joint_batch=False, random_start=True),
    ],
    ids=str,
)
def test_they_equal_the_plain_ones(defense, frozen_layer, batch):
    """Loss, parameter gradients and batch-norm statistics, crafting in train mode included."""
    ours, plain = (train(defense, batch, plain=plain, frozen_layer=frozen_layer) for plain in (False, True))
    torch.testing.assert_close(ours[0], plain[0])
    assert ours[1] == pytest.approx(plain[1])
    for (name, a), b in zip(ours[2].named_parameters(), plain[2].parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) == (frozen_layer and name == "0.weight")
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)
    for a, b in zip(ours[2].buffers(), plain[2].buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_packed_passes_equal_the_plain_ones(batch):
    """In float32, up to its rounding."""
    grads = []
    for plain in (False, True):
        model = without_dropout(small_cnn()).train()
        with reference_mode(plain):
            MIRST(**FUSED)(model, *batch).total.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (grads[0] - grads[1]).norm() < 1e-3 * grads[1].norm()


class Passes(TorchDispatchMode):
    """Counts what passes through the inner convolution of `small_cnn`: forward, input and weight gradients."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default and args[1].shape[1] == 6:
            self.count["forward"] += 1
        if func is torch.ops.aten.convolution_backward.default and args[2].shape[1] == 6:
            mask = args[-1]
            self.count.update({"input": mask[0], "weight": mask[1]})
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("defense", "trained"), [(RST(**FUSED), {0, 10}), (MIRST(**FUSED), {0, 7, 8, 9, 10})])
def test_passes_of_a_training_step(defense, trained, plain, batch):
    """A step of crafting takes a forward pass and an input gradient, an iterate that is trained on a weight gradient
    too. A pass that trains on an iterate also crafts the next one, except in reference mode."""
    crafted_from = set(range(defense.steps))
    if not plain:
        crafted_from -= trained
    passes = 2 * len(crafted_from) + 3 * len(trained)
    model = without_dropout(small_cnn()).double().train()
    with Passes() as counted, reference_mode(plain):
        defense(model, batch[0].double(), batch[1]).total.backward()
    assert counted.count.total() == passes


def test_only_one_graph_is_alive(batch):
    """Where the clean and the four crafted images pass one by one, each pass frees what it saved for the backward."""
    alive, most = 0, {}

    def pack(tensor):
        nonlocal alive
        alive += 1
        most[plain] = max(most.get(plain, 0), alive)
        return Saved(tensor)

    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor

        def __del__(self):
            nonlocal alive
            alive -= 1

    for plain in (False, True):
        model = without_dropout(small_cnn()).train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor), reference_mode(plain):
            MIRST(joint_batch=False)(model, *batch).total.backward()
    assert most[True] > 4 * most[False]


def test_a_tensor_that_a_loss_does_not_reach_keeps_no_gradient():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

    model, x = Half(), torch.ones(3, 2, requires_grad=True)
    held = AccumulatedLoss(model)
    (gradient,) = held.add(model.used(x).sum(), 0.5, x)
    torch.testing.assert_close(gradient, model.used.weight.expand(3, 2))
    before = snapshot(model)
    total = held.total()
    assert snapshot(model) == before
    total.backward()
    torch.testing.assert_close(model.used.weight.grad, torch.full((1, 2), 1.5))
    assert model.unused.weight.grad is None


def test_without_gradients_the_value_is_still_there(batch):
    model = without_dropout(small_cnn()).train()
    with torch.no_grad():
        total = MIRST(**FUSED)(model, *batch).total
    assert total.isfinite()
    assert not total.requires_grad
