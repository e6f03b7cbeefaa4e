import pytest
import torch
from torch import nn

from mirst.errors import MirstError
from mirst.nn.frozen import frozen
from tests.helpers import small_cnn, snapshot


class Restless(nn.Module):
    """Changes what it can in its forward."""

    def __init__(self):
        super().__init__()
        self.body = small_cnn()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("replaced", torch.zeros(1))
        self.register_buffer("hidden", torch.zeros(1), persistent=False)
        self.register_buffer("broken", torch.full((2,), torch.nan))

    def forward(self, x):
        self.calls += 1
        self.replaced = self.replaced + 1
        self.hidden.add_(1)
        self.broken[0] = 1
        with torch.no_grad():
            self.body[0].weight.mul_(1.5)
        self.body[4].bias = nn.Parameter(self.body[4].bias + 1)
        if "late" not in self._buffers:
            self.register_buffer("late", torch.ones(1))
        return self.body(x)


@pytest.mark.parametrize("training", [False, None])
@pytest.mark.parametrize("given", [True, False])
def test_everything_is_what_it_was(training, given):
    model = Restless().train(given)
    before, hidden, tensors = snapshot(model), model.hidden, [*model.parameters(), *model.buffers()]
    with frozen(model, training=training):
        model(torch.rand(2, 1, 16, 16))
        model(torch.rand(2, 1, 16, 16))
        assert model.calls == 2
    after = snapshot(model)
    assert str(after) == str(before)  # a NaN is not equal to itself
    assert model.hidden is hidden
    assert hidden.item() == 0
    assert all(a is b for a, b in zip([*model.parameters(), *model.buffers()], tensors, strict=True))


def test_a_graph_that_waits_for_its_backward_is_still_good():
    model = small_cnn().eval()
    loss = model(torch.rand(2, 1, 16, 16)).sum()
    with frozen(model, training=None):
        model(torch.rand(2, 1, 16, 16))
    loss.backward()
    assert model[0].weight.grad is not None


def test_it_restores_when_the_model_fails():
    model = Restless()
    before = str(snapshot(model))
    with pytest.raises(RuntimeError), frozen(model, training=False):
        model(torch.rand(2, 3, 16, 16))
    assert str(snapshot(model)) == before


class Buffers(nn.Module):
    """Buffers that cannot simply be compared and written back."""

    def __init__(self):
        super().__init__()
        self.body = small_cnn()
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("grows", torch.zeros(2))
        self.register_buffer("expanded", torch.tensor([torch.nan]).expand(3))

    def forward(self, x):
        self.grows.data = torch.zeros(len(self.grows) + 1)
        return self.body(x)


def test_unusual_buffers_are_kept():
    model = Buffers().eval()
    with frozen(model, training=False):
        model(torch.rand(2, 1, 16, 16))
        assert len(model.grows) == 3
    assert torch.equal(model.grows, torch.zeros(2))
    assert model.expanded.isnan().all()
    assert model.sparse.layout is torch.sparse_coo


def test_a_model_made_in_inference_mode_gets_a_sentence():
    with torch.inference_mode():
        model = small_cnn()
    with pytest.raises(MirstError, match="inference_mode"), frozen(model, training=False):
        pass


def test_an_exported_program_keeps_its_mode():
    x = torch.rand(2, 1, 16, 16)
    program = torch.export.export(small_cnn().eval(), (x,)).module()
    with frozen(program, training=False), torch.no_grad():
        assert program(x).shape == (2, 2)
