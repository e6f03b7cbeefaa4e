"""What `fit` refuses before the first epoch, and that looking changes nothing."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from mirst.defenses import CE, RST
from mirst.errors import Diverged, MirstError
from mirst.training import SimCLR, Training, fit
from mirst.training.checks import check_validation, class_counts
from tests.helpers import small_cnn, snapshot

ONE = Training(epochs=1)
X = torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 2


def data(x=X, y=Y, **kwargs):
    return DataLoader(TensorDataset(x, y), **{"batch_size": 4, **kwargs})


class Wrapped(nn.Module):
    """`small_cnn` with something done to its logits."""

    def __init__(self, change, classes=2):
        super().__init__()
        self.net = small_cnn(classes=classes)
        self.change = change

    def forward(self, x):
        return self.change(self.net(x))


class Unrecorded(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x):
        with torch.no_grad():
            return self.net(x)


class ThroughNumpy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x):
        return torch.from_numpy(self.net(x).detach().numpy())


class Inception(nn.Module):
    """In train mode an auxiliary output besides, as torchvision's Inception."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x):
        logits = self.net(x)
        return (logits, logits) if self.training else logits


class BrokenInEval(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x):
        return self.net(x) if self.training else self.net(x).softmax(1).sum(1)


def all_frozen():
    return small_cnn().requires_grad_(False)


def not_a_number():
    model = small_cnn()
    model[-1].weight.data.fill_(torch.nan)
    return model


class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.LazyLinear(2))


MODELS = {
    "dict": (lambda: Wrapped(lambda z: {"logits": z}), "a dict with logits; wrap it"),
    "tuple": (lambda: Wrapped(lambda z: (z, z)), "returns a tuple; wrap it"),
    "tuple in train mode": (Inception, "returns a tuple; wrap it"),
    "other in eval mode": (BrokenInEval, "one number per image"),
    "one number": (lambda: Wrapped(lambda z: z[:, 0]), "one number per image"),
    "one column": (lambda: Wrapped(lambda z: z[:, :1]), "one number per image"),
    "classes": (lambda: Wrapped(lambda z: z.argmax(1)), "one number per image"),
    "integers": (lambda: Wrapped(lambda z: z.long()), "returns torch.int64"),
    "maps": (lambda: Wrapped(lambda z: z[..., None, None]), r"\(4, 2, 1, 1\) for 4 images"),
    "mean over images": (lambda: Wrapped(lambda z: z.mean(0)), "for 4 images"),
    "none": (lambda: Wrapped(lambda z: None), "returns None"),
    "NaN": (not_a_number, "logits are not finite on the first training batch"),
    "infinite": (lambda: Wrapped(lambda z: z / 0), "logits are not finite on the first training batch"),
    "one image NaN": (lambda: Wrapped(lambda z: z * torch.tensor([[1.0], [1.0], [torch.nan], [1.0]])), "not finite"),
    "detached": (lambda: Wrapped(lambda z: z.detach()), "no gradient leads"),
    "no_grad": (Unrecorded, "no gradient leads"),
    "numpy": (ThroughNumpy, "no gradient leads"),
    "frozen": (all_frozen, "every parameter of the model is frozen"),
    "no parameters": (nn.Flatten, "no parameters to train"),
    "lazy": (Lazy, "lazy layers without weights"),
    "5 classes of 2": (lambda: small_cnn(classes=5), "class 2 has no training images: .* 5 logits; .* with 2 outputs"),
}


@pytest.mark.parametrize("weights", ["balanced", "none"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_cannot_be_trained_gets_a_sentence_before_the_first_epoch(kind, weights):
    build, words = MODELS[kind]
    model, epochs = build(), []
    with pytest.raises(MirstError, match=words) as caught:
        fit(model, data(), CE(), settings=Training(epochs=1, class_weights=weights), on_epoch=epochs.append)
    assert not isinstance(caught.value, Diverged)
    assert not epochs


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y + 1, "training data: the labels run from 1 to 2, but the model has 2 classes, 0 to 1; subtract 1"),
        (torch.arange(12) % 3, "training data: the labels run from 0 to 2, .* its own classes"),
        (torch.where(torch.arange(12) == 9, -100, Y), "training batch 3: 1 of 4 labels are -100"),
        (torch.zeros(12).long(), "class 1 has no training images"),
    ],
)
@pytest.mark.parametrize("defense", [CE(), CE(class_weights=(1.0, 1.0)), RST(steps=2)])
def test_labels_that_are_no_classes_of_the_model_get_a_sentence(y, words, defense):
    with pytest.raises(MirstError, match=words):
        fit(small_cnn(), data(y=y), defense, settings=ONE)


@pytest.mark.parametrize(
    ("val", "words"),
    [
        (data(x=X * 255), r"validation batch 1: images must lie in \[0, 1\]"),
        ([*data(), (X * 255, Y)], "validation batch 4: images must lie"),
        (data(y=Y + 1), "validation data: the labels run from 1 to 2, .* subtract 1"),
        (data(y=Y.float()), "validation batch 1: labels must be"),
        (iter(data()), "the validation data can be iterated only once"),
        ([], "the validation data give no batch"),
        ([{"data": X}], "validation batch 1: the batch has the keys data"),
    ],
)
def test_validation_data_are_checked_before_the_first_epoch(val, words):
    epochs = []
    with pytest.raises(MirstError, match=words):
        fit(small_cnn(), data(), CE(), val=val, settings=ONE, on_epoch=epochs.append)
    assert not epochs


@pytest.mark.parametrize(
    "once",
    [
        lambda: (batch for batch in data()),
        lambda: iter(data()),
        lambda: iter(list(data())),
        lambda: map(tuple, data()),
        lambda: zip([X], [Y], strict=True),
    ],
)
def test_data_that_can_be_iterated_once_get_a_sentence(once):
    with pytest.raises(MirstError, match="the training data can be iterated only once"):
        fit(small_cnn(), once(), CE(), settings=ONE)


def test_no_batch_gets_a_sentence():
    with pytest.raises(MirstError, match="the training data give no batch"):
        fit(small_cnn(), [], CE(), settings=ONE)
    with pytest.raises(MirstError, match="the training data give no batch"):
        fit(small_cnn(), data(batch_size=20, drop_last=True), CE(), settings=ONE)


NORMS = {
    "batch norm 2d": nn.BatchNorm2d(4),
    "batch norm without statistics": nn.BatchNorm2d(4, track_running_stats=False).eval(),
    "synchronised batch norm": nn.SyncBatchNorm(4),
}
OTHER_NORMS = {
    "group norm": nn.GroupNorm(2, 4),
    "instance norm": nn.InstanceNorm2d(4, affine=True),
    "batch norm in eval mode": nn.BatchNorm2d(4).eval(),
}


def with_norm(norm, pooled):
    pool = nn.AdaptiveAvgPool2d(1 if pooled else 4)
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(1, 4, 3), pool, norm, flat, nn.Linear(4, 2))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_a_last_batch_of_one_under_batch_norm_gets_a_sentence(norm, pooled):
    """Torch refuses it on maps of one pixel alone, and trains on one image's statistics otherwise."""
    with pytest.raises(
        MirstError, match=r"training batch 3 contains a single image, .* drop_last=True in the DataLoader"
    ):
        fit(with_norm(norm, pooled), data(X[:9], Y[:9]), CE(), settings=ONE)
    with pytest.raises(MirstError, match=r"training batch 1 contains a single image, .* larger batch size"):
        fit(with_norm(norm, pooled), data(batch_size=1), CE(), settings=ONE)


@pytest.mark.parametrize("norm", OTHER_NORMS.values(), ids=OTHER_NORMS)
def test_a_last_batch_of_one_trains_where_no_batch_norm_looks_at_it(norm):
    result = fit(with_norm(norm, False), data(X[:9], Y[:9]), CE(), val=data(X[:5], Y[:5]), settings=ONE)
    assert len(result.history) == 1


def test_drop_last_is_the_way_out():
    assert len(fit(small_cnn(), data(X[:9], Y[:9], drop_last=True), CE(), settings=ONE).history) == 1


@pytest.mark.parametrize("training", [True, False])
def test_looking_leaves_the_model_as_it_was(training):
    model = small_cnn().train(training)
    model[4].weight.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = snapshot(model)
    assert class_counts(model, data(), uses_labels=True) == [6, 6]
    check_validation(model, data(), 2)
    assert snapshot(model) == before


class OwnAverage(nn.Module):
    """Replaces its buffer with another tensor, and changes a parameter, in every pass."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn()
        self.register_buffer("seen", torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        self.seen = self.seen + x.mean().detach()
        self.scale.data.mul_(1.5)
        return self.net(x) * self.scale


def test_looking_leaves_a_model_that_changes_itself_as_it_was():
    model = OwnAverage()
    before = snapshot(model)
    class_counts(model, data(), uses_labels=True)
    check_validation(model, data(), 2)
    assert snapshot(model) == before


def test_counts_are_those_of_a_sampler_and_of_every_batch():
    y = torch.tensor([0] * 9 + [1] * 3)
    torch.manual_seed(3)
    sampler = WeightedRandomSampler([1.0] * 9 + [9.0] * 3, 40)
    loader = data(y=y, sampler=sampler)
    torch.manual_seed(3)
    expected = torch.cat([labels for _, labels in loader]).bincount().tolist()
    torch.manual_seed(3)
    assert class_counts(small_cnn(), loader, uses_labels=True) == expected
    assert class_counts(small_cnn(), data(y=y), uses_labels=True) == [9, 3]
    assert class_counts(small_cnn(classes=4), data(y=y), uses_labels=False) == [9, 3, 0, 0]


class Jittered(Dataset):
    """Draws from every global generator, as transforms do."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        shift = (random.random() + np.random.rand() + torch.rand(()).item()) / 30  # noqa: NPY002
        return (X[index] * 0.9 + shift, Y[index])


@pytest.mark.parametrize("shuffle", ["no", "global generator", "own generator"])
def test_looking_at_validation_data_draws_nothing(shuffle):
    """What is drawn next is the same with and without the look, from every generator."""

    def drawn(look):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
        own = torch.Generator().manual_seed(5) if shuffle == "own generator" else None
        loader = DataLoader(Jittered(), batch_size=4, shuffle=shuffle != "no", generator=own)
        if look:
            with torch.random.fork_rng([]):  # as `fit` does
                check_validation(small_cnn(), loader, 2)
        return torch.cat([x.flatten() for x, _ in loader])

    assert torch.equal(drawn(True), drawn(False))


def test_an_objective_without_classes_takes_any_labels():
    """SimCLR's logits are an embedding."""
    model = small_cnn(classes=16)
    assert len(fit(model, data(y=torch.arange(12) * 7), SimCLR(), settings=ONE).history) == 1
    with pytest.raises(MirstError, match="training batch 1: images must lie"):
        fit(model, data(x=X * 255), SimCLR(), settings=ONE)
    with pytest.raises(MirstError, match="no gradient leads"):
        fit(Unrecorded(), data(), SimCLR(), settings=ONE)


def test_training_with_the_checks_is_bit_for_bit_the_plain_loop():
    """Batch norm, dropout, shuffling and transforms that draw from every generator; the loop is transcribed."""

    def start():
        random.seed(0), np.random.seed(0)  # noqa: NPY002
        return small_cnn(), DataLoader(Jittered(), batch_size=4, shuffle=True)

    checked, loader = start()
    settings = Training(epochs=3, lr=0.01, schedule="constant", class_weights="none", fast=False)
    fit(checked, loader, CE(), val=data(shuffle=True), settings=settings, seed=3)

    plain, loader = start()
    list(loader)  # the pass that counts the classes
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    plain.train()
    for epoch in range(3):
        torch.manual_seed((3 << 16) + epoch)
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(plain(x), y).backward()
            optimizer.step()
    states = zip(checked.state_dict().values(), plain.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


def test_images_of_other_channels_get_a_sentence(batch):
    x, y = batch
    with pytest.raises(MirstError, match=r"fails on images of shape \(3, 16, 16\)"):
        fit(small_cnn(), [(x.repeat(1, 3, 1, 1), y)], CE(), settings=Training(epochs=1))
