import pytest
import torch
from torch import nn

from mirst.errors import MirstError
from mirst.nn.logits import Logits, input_gradient, misclassified, require_logits
from tests.helpers import small_cnn


class Returns(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def two(x):
    return x.flatten(1)[:, :2]


NO_LOGITS = {
    "dict": (lambda x: {"logits": two(x)}, "a dict with logits"),
    "tuple": (lambda x: (two(x), x), "a tuple"),
    "list": (lambda x: [two(x)], "a list"),
    "nothing": (lambda x: None, "None"),
    "array": (lambda x: two(x).numpy(), "ndarray"),
    "one logit": (lambda x: two(x)[:, 0], "one number per image"),
    "one column": (lambda x: two(x)[:, :1], "one number per image"),
    "no column": (lambda x: two(x)[:, :0], r"\(3, 0\)"),
    "a row too many": (lambda x: torch.cat([two(x), two(x)]), r"\(6, 2\) for 3 images"),
    "maps": (lambda x: x, r"\(3, 1, 4, 4\)"),
    "batch second": (lambda x: two(x)[None], r"\(1, 3, 2\)"),
    "integers": (lambda x: two(x).long(), "int64"),
    "truth values": (lambda x: two(x) > 0, "bool"),
    "complex": (lambda x: two(x).to(torch.complex64), "complex64"),
}


@pytest.mark.parametrize("name", NO_LOGITS)
def test_what_is_no_logits_gets_a_sentence(name):
    make, words = NO_LOGITS[name]
    with pytest.raises(MirstError, match=words):
        Logits(Returns(make))(torch.rand(3, 1, 4, 4))


def test_one_logit_for_one_image_is_no_logits_either():
    with pytest.raises(MirstError, match="one number per image"):
        Logits(Returns(lambda x: two(x)[:, :1]))(torch.rand(1, 1, 4, 4))


def test_another_number_of_classes_gets_a_sentence():
    with pytest.raises(MirstError, match="5 logits, but there are 2 classes"):
        require_logits(torch.rand(3, 5), 3, classes=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_is_given_its_own(dtype):
    model, x = small_cnn().eval().to(dtype), torch.rand(2, 1, 16, 16)
    net = Logits(model)
    for _ in range(2):
        logits = net(x)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, model(x.to(dtype)).float())
    assert net(x.double()).dtype == torch.float64


def test_a_model_that_fails_for_another_reason_fails_with_its_own_words():
    with pytest.raises(RuntimeError, match="shapes"):
        Logits(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).bfloat16())(torch.rand(2, 1, 4, 4).bfloat16())
    with pytest.raises(RuntimeError, match="dtype"):
        Logits(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).bfloat16())(torch.rand(2, 1, 4, 4))


def test_images_keep_their_values():
    x = torch.rand(2, 1, 4, 4)
    kept = x.clone()
    Logits(Returns(lambda images: two(images.mul_(2))))(x)
    assert torch.equal(x, kept)


def test_only_the_first_largest_finite_logit_is_right():
    nan, inf = torch.nan, torch.inf
    logits = torch.tensor([[1.0, 2], [2, 1], [1, 1], [nan, 1], [1, nan], [nan, nan], [inf, 0], [0, -inf]])
    wrong_for = [misclassified(logits, torch.full((8,), k)).tolist() for k in (0, 1)]
    assert wrong_for[0] == [True, False, False, True, True, True, True, True]
    assert wrong_for[1] == [False, True, True, True, True, True, True, True]


@pytest.mark.parametrize("cut", [lambda x: x.detach(), lambda x: torch.ones_like(x), lambda x: x.round().detach()])
def test_without_a_gradient_path_the_gradient_is_zero(cut):
    x = torch.rand(2, 1, 4, 4, requires_grad=True)
    weight = nn.Parameter(torch.ones(()))
    assert torch.equal(input_gradient(two(cut(x)).sum(1) * weight, x), torch.zeros_like(x))
    assert torch.equal(input_gradient(two(cut(x)).sum(1), x), torch.zeros_like(x))
