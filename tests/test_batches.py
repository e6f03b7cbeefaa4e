"""Batches of every kind: right ones arrive unchanged, wrong ones get a sentence with the way to convert them."""

from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from monai.data import DataLoader as MonaiLoader
from monai.data import Dataset as MonaiDataset
from monai.data import MetaTensor
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mirst.batches import checked_batch, checked_batches, require_labels, unpacked
from mirst.errors import MirstError

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(0.01, 0.99)
Y = torch.tensor([0, 1, 1, 0])
INTEGERS = [
    torch.bool,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_labels_of_every_integer_type_are_cast(dtype):
    _, y = checked_batch(X, Y.to(dtype))
    assert y.dtype == torch.int64
    assert torch.equal(y, Y)


ONE_HOT = torch.eye(3)[Y]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y.float(), r"float32.*use y\.long\(\)"),
        (Y.double(), r"float64.*use y\.long\(\)"),
        (Y.half(), r"float16.*use y\.long\(\)"),
        (Y[:, None], r"shape \(4, 1\); use y\.squeeze\(1\)$"),
        (Y[:, None].float(), r"use y\.squeeze\(1\)\.long\(\)$"),
        (Y.float() + 0.3, "not probabilities or measurements"),
        (ONE_HOT, r"one-hot labels: use y\.argmax\(1\)"),
        (ONE_HOT.long(), r"one-hot labels: use y\.argmax\(1\)"),
        (ONE_HOT.bool(), r"one-hot labels: use y\.argmax\(1\)"),
        (ONE_HOT * 0.8 + 0.2 / 3, r"soft labels: use y\.argmax\(1\)"),
        (torch.ones(4, 3), "one class per image, not several"),
        (torch.zeros(4, 2), "one class per image, not several"),
        (torch.zeros(4, 0), "one class per image, not several"),
        (torch.randn(4, 3), "one class per image, not several"),
        (torch.zeros(4, 1, 8, 8).long(), "not segmentation masks"),
        (torch.zeros(4, 8, 8).long(), "not segmentation masks"),
        (Y[0], "one label per image"),
        (Y[:2], "there are 4 images and 2 labels"),
        (Y[:0], "there are 4 images and 0 labels"),
        (Y[None], "there are 4 images and 1 labels"),
        (torch.cat([Y, Y]), "there are 4 images and 8 labels"),
        (Y + 0j, "complex64.*class indices"),
        (torch.where(Y == 1, -100, 0), "2 of 4 labels are -100, PyTorch's ignore index; remove"),
        (torch.full((4,), -100), "4 of 4 labels are -100"),
        (Y.int() - 1, "run from -1 to 0; they must be class indices, starting at 0"),
        (Y.numpy(), r"are of type ndarray; convert them with torch\.from_numpy"),
        (Y.tolist(), r"are of type list; .*torch\.tensor"),
        (tuple(Y.tolist()), r"are of type tuple; .*torch\.tensor"),
        (["benign", "malignant"] * 2, "are of type list"),
        (1, "are of type int; give a batch of tensors"),
        (np.int64(1), "are of type int64"),
        ("malignant", "are of type str"),
        (None, "but are None"),
    ],
    ids=lambda value: None if isinstance(value, str) else "labels",
)
def test_labels_of_another_kind_get_a_sentence_with_the_conversion(labels, words):
    with pytest.raises(MirstError, match=words) as caught:
        checked_batch(X, labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [Y.float(), Y[:, None], Y[:, None].float(), ONE_HOT, ONE_HOT.long(), ONE_HOT * 0.9])
def test_the_conversion_of_labels_in_the_sentence_works(labels):
    if labels.ndim == 2 and labels.shape[1] == 3 and labels.sum() != 4:
        labels = labels + 0.1 / 3
    with pytest.raises(MirstError) as caught:
        checked_batch(X, labels)
    expression = str(caught.value).rpartition("use ")[2]
    _, y = checked_batch(X, eval(expression, {"y": labels}))
    assert torch.equal(y, Y)


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        (Y + 1, 2, "run from 1 to 2, but the model has 2 classes, 0 to 1; subtract 1"),
        (Y + 1, 3, None),
        (torch.arange(4) + 1, 4, "subtract 1"),
        (torch.arange(4), 3, "run from 0 to 3, but the model has 3 classes, 0 to 2; give it data with its own classes"),
        (Y * 9, 2, "give it data with its own classes"),
        (Y + 5, 2, "give it data with its own classes"),
        (Y, 2, None),
        ((Y + 1).to(torch.uint16), 2, "subtract 1"),
        (Y[:0], 2, None),
        (Y - 1, 2, "run from -1 to 0"),
        (Y * -100, 2, "ignore index"),
    ],
)
def test_labels_must_be_classes_of_the_model(labels, classes, words):
    if words is None:
        require_labels(labels, classes)
    else:
        with pytest.raises(MirstError, match=words):
            require_labels(labels, classes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_images_of_low_precision_become_float32(dtype):
    x, _ = checked_batch(X.to(dtype), Y)
    assert x.dtype == torch.float32
    assert torch.equal(x, X.to(dtype).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_in_range_arrive_unchanged_and_detached(dtype):
    given_x = X.to(dtype, copy=True).requires_grad_()
    x, _ = checked_batch(given_x, Y)
    assert x.dtype == dtype
    assert torch.equal(x, given_x)
    assert not x.requires_grad
    assert x.data_ptr() == given_x.data_ptr()  # no copy


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_images_a_rounding_step_outside_are_clipped(dtype):
    x = X.to(dtype, copy=True)
    x[0, 0, 0, 0] = torch.nextafter(torch.ones((), dtype=dtype), torch.full((), 2, dtype=dtype))
    x[1, 0, 0, 0] = -torch.finfo(dtype).eps
    before = x.clone()
    checked, _ = checked_batch(x, Y)
    assert (checked[0, 0, 0, 0], checked[1, 0, 0, 0]) == (1, 0)
    inside = (x >= 0) & (x <= 1)
    assert torch.equal(checked[inside], x[inside].to(checked.dtype))
    assert torch.equal(x, before)


def test_resized_images_are_clipped_and_overshoot_is_named():
    """Bicubic resampling of white leaves 1 by rounding alone, that of an edge by more."""
    white = nn.functional.interpolate(torch.ones(1, 1, 37, 37), size=(100, 71), mode="bicubic")
    assert white.max() > 1
    assert checked_batch(white, Y[:1])[0].max() == 1
    edge = (torch.arange(16) > 7).float().expand(1, 1, 16, 16)
    bicubic = nn.functional.interpolate(edge, scale_factor=3.0, mode="bicubic")
    with pytest.raises(MirstError, match=r"run from -0\.\d+ to 1\.\d+; where resampling overshoots, clip them with"):
        checked_batch(bicubic, Y[:1])


def with_pixel(value, x=X):
    x = x.clone()
    x[2, 0, 3, 3] = value
    return x


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ((X * 255).byte(), r"uint8; use x\.float\(\) / 255$"),
        ((X * 255).round(), r"in \[0, 1\], but run from \d+ to 25\d; divide them by 255"),
        ((X * 255).int(), "int32; they run from .* divide them by 255"),
        ((X * 4095).to(torch.int16), "int16; they run from .* divide them by 4095"),
        ((X * 65535).to(torch.uint16), "uint16; they run from .* divide them by 65535"),
        (X * 65535, "divide them by 65535"),
        (X * 265 - 5, r"run from -\d.* divide them by 255, then clip them with x\.clamp\(0, 1\)"),
        (X * 262, r"divide them by 255, then clip"),
        (X * 14 - 2, "normalisation"),
        (X * 1e7, r"scale them to \[0, 1\]"),
        (X * 3, r"scale them to \[0, 1\]"),
        (X * 3000 - 1000, "map a fixed window of gray levels"),
        ((X * 3000 - 1000).short(), "int16; .* map a fixed window of gray levels"),
        ((X - 0.449) / 0.226, r"normalisation .* first layer, mirst\.nn\.Normalized"),
        ((X - X.mean()) / X.std(), "normalisation"),
        (X * 2 - 1, r"use \(x \+ 1\) / 2"),
        (X - 0.5, r"use \(x \+ 1\) / 2"),
        (with_pixel(torch.nan), "1 of 4 contain NaN or infinity"),
        (with_pixel(torch.inf), "1 of 4 contain NaN or infinity"),
        (with_pixel(-torch.inf), "1 of 4 contain NaN or infinity"),
        (X * torch.nan, "4 of 4 contain NaN or infinity"),
        (with_pixel(1.0001), r"to 1\.0001; where resampling overshoots"),
        (with_pixel(-0.0001), r"run from -0\.0001 to .* where resampling"),
        (X > 0.5, r"bool; use x\.float\(\)"),
        ((X > 0.5).long(), r"int64; use x\.float\(\)"),
        (X + 0j, r"complex64; take x\.abs\(\)"),
        (X[0], r"shape \(1, 8, 8\); add the missing axis"),
        (X[0, 0], r"shape \(8, 8\); give images"),
        (X.flatten(1), r"shape \(4, 64\); give images"),
        (X[0, 0, 0, 0], r"shape \(\); give images"),
        (X[..., None], "slices of volumes"),
        (X.permute(0, 2, 3, 1), r"looks like \(N, H, W, C\); use x\.permute\(0, 3, 1, 2\)"),
        (torch.rand(4, 8, 8, 3), r"looks like \(N, H, W, C\)"),
        (torch.rand(4, 8, 8, 4), r"looks like \(N, H, W, C\)"),
        ((torch.rand(4, 8, 8, 3) * 255).byte(), r"looks like \(N, H, W, C\)"),
        (X[:0], r"no images, shape \(0, 1, 8, 8\)"),
        (X[:, :0], "with pixels"),
        (X[..., :0], "with pixels"),
        (X.numpy(), r"of type ndarray; convert them with torch\.from_numpy"),
        (list(X), r"of type list; join tensors with torch\.stack"),
        ((X, X), "of type tuple"),
        (Image.new("L", (8, 8)), r"of type Image; .* \(C, H, W\) in \[0, 1\]"),
        ("image.png", "of type str"),
        (None, "but are None"),
    ],
    ids=lambda value: None if isinstance(value, str) else "images",
)
def test_images_of_another_kind_get_a_sentence_with_the_conversion(images, words):
    labels = Y[: len(images)] if isinstance(images, Tensor) and images.ndim and not len(images) else Y
    with pytest.raises(MirstError, match=words) as caught:
        checked_batch(images, labels)
    assert "\n" not in str(caught.value)


DTYPES = st.sampled_from(
    [*INTEGERS, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.float8_e5m2]
)


@given(
    dtype=DTYPES,
    shape=st.lists(st.integers(0, 9), max_size=5),
    low=st.floats(-300, 300),
    spread=st.floats(0, 300) | st.just(0.5),
)
def test_images_of_any_type_shape_and_range_are_taken_or_refused(dtype, shape, low, spread):
    """What is taken is float, four axes, in [0, 1] up to rounding, and equal to what was given."""
    values = low + spread * torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = values.to(dtype)
    count = shape[0] if shape else 1
    try:
        x, y = checked_batch(images, torch.zeros(count, dtype=torch.int32))
    except MirstError:
        plain = images.to(torch.float64) if not images.is_complex() else None
        if dtype.is_floating_point and len(shape) == 4 and images.numel():  # else refusing is right
            height_first = shape[3] in (1, 3, 4) and min(shape[1:3]) > 4
            assert height_first or not ((plain >= 0) & (plain <= 1)).all()
    else:
        assert dtype.is_floating_point
        assert x.shape == tuple(shape)
        assert y.dtype == torch.int64
        slack = max(1e-5, torch.finfo(dtype).eps)
        assert (x >= 0).all()
        assert (x <= 1).all()
        assert ((x.double() - images.double()).abs() <= slack).all()


@given(dtype=DTYPES, shape=st.lists(st.integers(0, 5), max_size=3), low=st.integers(-120, 120))
@example(dtype=torch.float8_e5m2, shape=[4], low=0)
def test_labels_of_any_type_and_shape_are_taken_or_refused(dtype, shape, low):
    values = low + torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(0))
    labels = values.to(dtype)
    try:
        _, y = checked_batch(X, labels)
    except MirstError:
        integer = not dtype.is_floating_point and not dtype.is_complex
        assert not (integer and shape == [4] and bool((labels.long() >= 0).all()))
    else:
        assert shape == [4]
        assert y.dtype == torch.int64
        assert y.tolist() == [int(value) for value in labels.tolist()]


Sample = namedtuple("Sample", "image label path")

PACKED = {
    "tuple": (X, Y),
    "list": [X, Y],
    "tuple of 3": (X, Y, ["a"] * 4),
    "tuple of 4": (X, Y, Y.flip(0), None),
    "named tuple": Sample(X, Y, "a"),
    **{
        f"{image}, {label}": {image: X, label: Y}
        for image in ("image", "images", "img", "pixel_values")
        for label in ("label", "labels")
    },
    "order": {"label": Y, "path": ["a"] * 4, "image": X},
    "mapping": UserDict(pixel_values=X, labels=Y),  # the base of Hugging Face's BatchFeature and BatchEncoding
    "meta tensor": {"image": MetaTensor(X), "label": MetaTensor(Y)},
    "parameter": (nn.Parameter(X), Y),
}


@pytest.mark.parametrize("batch", PACKED.values(), ids=PACKED)
def test_batches_are_unpacked(batch):
    x, y = unpacked(batch)
    assert type(x) is Tensor
    assert type(y) is Tensor
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (X, r"of type Tensor; give a DataLoader, or a list of batches such as \[\(x, y\)\]"),
        ((X,), "of type tuple of 1"),
        ([], "of type list of 0"),
        ([{"image": X, "label": Y}], "of type list of 1"),
        ("image", "of type str"),
        (None, "of type NoneType"),
        (X.numpy(), "of type ndarray"),
        ({"data": X, "target": Y}, "has the keys data, target; it needs one of image, images, img, pixel_values"),
        ({"image": X, "target": Y}, "has the keys image, target; it needs one of label, labels"),
        ({0: X, 1: Y}, "has the keys 0, 1"),
        ({}, "has no keys"),
        ({"image": X, "pixel_values": X, "label": Y}, "keys image and pixel_values, which are synonyms; keep one"),
        ({"image": X, "label": Y, "labels": Y}, "keys label and labels"),
        ({"image": X.numpy(), "label": Y}, "images must be a tensor, but are of type ndarray"),
        ((X, None), "labels must be a tensor, but are None"),
        (((X, X), Y), "images must be a tensor, but are of type tuple"),
    ],
    ids=lambda value: None if isinstance(value, str) else "batch",
)
def test_batches_of_another_kind_get_a_sentence(batch, words):
    with pytest.raises(MirstError, match=words):
        unpacked(batch)


def test_the_sentence_names_the_batch():
    with pytest.raises(MirstError, match=r"^batch 3: images must lie"):
        list(checked_batches([(X, Y), (X, Y), (X * 255, Y)]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "the data are of type NoneType; give a DataLoader"),
        (3, "the data are of type int; give a DataLoader"),
        ((X, Y), "batch 1: a batch must be .* of type Tensor"),
        ({"image": X, "label": Y}, "batch 1: a batch must be .* of type str"),
        (TensorDataset(X, Y), "batch 1: images must be .* add the missing axis"),
        (DataLoader(TensorDataset(X), batch_size=2), "batch 1: a batch must be .* list of 1"),
    ],
)
def test_data_without_batches_get_a_sentence(data, words):
    with pytest.raises(MirstError, match=words):
        list(checked_batches(data))


def test_monais_loader_gives_batches():
    items = [{"image": MetaTensor(x), "label": int(y), "path": "a.png"} for x, y in zip(X, Y, strict=True)]
    batches = list(checked_batches(MonaiLoader(MonaiDataset(items), batch_size=3)))
    assert [len(x) for x, _ in batches] == [3, 1]
    assert all(type(x) is Tensor and type(y) is Tensor for x, y in batches)
    assert torch.equal(torch.cat([x for x, _ in batches]), X)
    assert torch.equal(torch.cat([y for _, y in batches]), Y)
