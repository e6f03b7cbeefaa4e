import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mirst.nn import DropMax2d, drop_max2d, reference_mode
from mirst.nn.accelerate import drop_max_cpu, drop_max_fused
from mirst.nn.layers.windows import Windows
from tests.nn.accelerate.helpers import FORMATS, GEOMETRIES, assert_as_plain, drawn, with_gradient

LARGE = Windows((3, 3), (2, 2), (1, 1))


@given(
    st.sampled_from([(g, torch.float32) for g in GEOMETRIES] + [(GEOMETRIES[0], torch.float64)]),
    st.sampled_from(FORMATS),
    st.sampled_from(["all different", "ties", "not finite"]),
    st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(4, 20), st.integers(4, 20)),
    st.integers(0, 999),
)
@settings(max_examples=150, deadline=None)
def test_values_and_gradient_equal_the_plain_ones(geometry, memory_format, kind, shape, seed):
    geometry, dtype = geometry
    assert_as_plain(drawn(shape, seed, kind, dtype).to(memory_format=memory_format), geometry)


def test_the_compiled_kernels_are_what_runs(monkeypatch):
    calls = []
    monkeypatch.setattr(drop_max_cpu, "pool", lambda *_: calls.append("pool"))
    drop_max2d(torch.zeros(1, 1, 4, 4), 2)
    assert calls == ["pool"]
    with reference_mode():
        drop_max2d(torch.zeros(1, 1, 4, 4), 2)
    assert calls == ["pool"]


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x[:, :, ::2, 1:],
        lambda x: x[:, 1:],
        lambda x: x.transpose(0, 2),
        lambda x: x[:1].expand(4, -1, -1, -1),
        lambda x: x[0],
        lambda x: x[0, 0],
        lambda x: x.unflatten(0, (2, 1)),
    ],
)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_any_strides_and_any_number_of_leading_axes(cut, memory_format):
    assert_as_plain(cut(drawn((2, 6, 12, 13), 0).to(memory_format=memory_format)), (3, 2, 1))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_memory_format_is_kept_forward_and_backward(memory_format):
    x = drawn((2, 3, 8, 8), 0).to(memory_format=memory_format).requires_grad_()
    pooled = drop_max2d(x, 3, 2, 1)
    (gradient,) = torch.autograd.grad(pooled.sum(), x)
    for tensor in (pooled, gradient):
        assert tensor.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Hardtanh, nn.SiLU])
def test_an_activation_may_change_the_output_in_place(activation, memory_format):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=memory_format)
    results = []
    for inplace in (False, True):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_(True)
        y = nn.Sequential(DropMax2d(3, 2, 1), activation(inplace=inplace))(leaf)
        results.append((y.detach(), *torch.autograd.grad((y**2).sum(), leaf)))
    for separate, in_place in zip(*results, strict=True):
        torch.testing.assert_close(separate, in_place)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_derivatives_of_first_and_second_order(memory_format):
    x = torch.randperm(98).double().view(1, 2, 7, 7).to(memory_format=memory_format) / 98
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: drop_max2d(t, 3, 2, 1), x)
    assert torch.autograd.gradgradcheck(lambda t: drop_max2d(t, 3, 2, 1) ** 3, x)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_gradient_of_a_gradient_penalty_equals_the_plain_one(memory_format):
    def penalty_gradient() -> Tensor:
        x = drawn((2, 4, 9, 9), 1, "ties").to(memory_format=memory_format).requires_grad_()
        (slope,) = torch.autograd.grad((drop_max2d(x, 3, 2, 1) ** 3).sum(), x, create_graph=True)
        return torch.autograd.grad((slope**2).sum(), x)[0]

    fast = penalty_gradient()
    with reference_mode():
        torch.testing.assert_close(fast, penalty_gradient())


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads even for small images; yields the list of the tasks that go to the second one."""
    tasks, submit = [], ThreadPoolExecutor.submit
    monkeypatch.setattr(drop_max_cpu, "PIXELS_PER_THREAD", 1)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", lambda pool, task: tasks.append(task) or submit(pool, task))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield tasks
    torch.set_num_threads(before)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_number_of_threads_changes_no_number(two_threads, memory_format):
    x = drawn((5, 3, 9, 9), 2).to(memory_format=memory_format)
    double = with_gradient(x, (3, 2, 1))
    assert len(two_threads) == 2
    torch.set_num_threads(1)
    single = with_gradient(x, (3, 2, 1))
    assert len(two_threads) == 2
    assert all(torch.equal(a, b) for a, b in zip(double, single, strict=True))


FORK = """
import os, torch
from mirst.nn import drop_max2d
from mirst.nn.accelerate import drop_max_cpu
drop_max_cpu.PIXELS_PER_THREAD = 1
torch.set_num_threads(2)
x = torch.arange(128.0).view(2, 1, 8, 8)
before = drop_max2d(x, 2)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(drop_max2d(x, 2), before) else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_has_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "0"


def test_less_is_kept_for_the_backward_pass_than_by_max_pool():
    def kept(layer: nn.Module) -> int:
        sizes = []
        x = drawn((2, 3, 32, 32), 0).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
            layer(x)
        return sum(sizes)

    assert 0 < kept(DropMax2d(3, 2, 1)) < kept(nn.MaxPool2d(3, 2, 1)) / 4


def test_without_gradient_nothing_is_kept():
    x = drawn((1, 2, 8, 8), 0)
    with torch.no_grad():
        assert drop_max2d(x.clone().requires_grad_(), 3, 2, 1).grad_fn is None
    with torch.inference_mode():
        assert torch.equal(drop_max2d(x, 3, 2, 1), drop_max2d(x.clone(), 3, 2, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_types_without_a_kernel_take_the_plain_way(dtype):
    x = drawn((1, 2, 8, 8), 0, dtype=dtype)
    assert torch.equal(drop_max2d(x, 3, 2, 1), drop_max2d(x.float(), 3, 2, 1).to(dtype))
    assert drop_max2d(x.to("meta"), 3, 2, 1).shape == (1, 2, 4, 4)


def test_windows_too_large_for_a_byte_take_the_plain_way():
    x = drawn((1, 1, 20, 20), 0)
    assert drop_max_fused.fused_drop_max(x, Windows((17, 16), (1, 1), (0, 0))) is None
    assert_as_plain(x, (16, 3, 0))
    assert drop_max2d(x, (17, 16)).item() == x[..., :17, :16].flatten().sort().values[-2]


def test_without_numba_the_plain_way_is_taken(monkeypatch):
    monkeypatch.setattr(drop_max_fused, "find_spec", lambda name: None)
    drop_max_fused.kernels_for.cache_clear()
    assert drop_max_fused.fused_drop_max(torch.zeros(1, 1, 4, 4), LARGE) is None
    assert drop_max2d(torch.arange(4.0).view(1, 2, 2), 2).item() == 2.0
    monkeypatch.undo()
    drop_max_fused.kernels_for.cache_clear()
    assert drop_max_fused.fused_drop_max(torch.zeros(1, 1, 4, 4), LARGE) is not None


def test_kernels_work_where_numba_finds_no_folder_for_them(monkeypatch):
    njit = drop_max_cpu.numba.njit

    def without_folder(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(drop_max_cpu.numba, "njit", without_folder)
    ones = torch.zeros(3)
    drop_max_cpu.compiled(lambda array: array.fill(1))(ones.numpy())
    assert torch.equal(ones, torch.ones(3))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), DropMax2d(3, 2, 1), nn.Flatten(), nn.Linear(64, 2)).eval()


def test_a_model_can_be_exported():
    x, other = drawn((2, 1, 8, 8), 0), drawn((5, 1, 8, 8), 1)
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(model(), (x,), dynamic_shapes=(batch,))
    torch.testing.assert_close(exported.module()(other), model()(other))


def test_a_model_can_be_compiled_whole():
    x = drawn((2, 1, 8, 8), 0)
    torch.testing.assert_close(torch.compile(model(), backend="eager", fullgraph=True)(x), model()(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_model_can_be_traced():
    x, other = drawn((2, 1, 8, 8), 0), drawn((5, 1, 8, 8), 1)
    torch.testing.assert_close(torch.jit.trace(model(), x)(other), model()(other))


def test_numba_is_imported_late():
    script = "import sys, mirst.nn; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
