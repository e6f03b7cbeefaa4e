"""Convolutions on a CPU whose weights oneDNN reorders once, instead of in every pass."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mirst.nn.accelerate.switch import is_optimized
from mirst.nn.logits import is_opaque

NARROW = 4
"""With at most this many input channels, oneDNN's own gradient of a strided convolution takes several times as
long as its forward pass, since it vectorises over channels."""
_ATTRIBUTES: dict[type[nn.Module], frozenset[str]] = {
    type(layer): frozenset(vars(layer))
    for layer in (nn.Conv2d(1, 1, 1, device="meta"), nn.BatchNorm2d(1), nn.MaxPool2d(1))
}
"""The attributes of an unmodified instance of each class."""


def pack(conv: nn.Conv2d) -> None:
    """Make `conv` faster. Same output; first-order gradients only. A changed weight turns it back into a plain one.

    Args:
        conv: one that `can_pack` accepts.
    """
    setattr(conv, "forward", _PackedForward(conv))  # noqa: B010 - to mypy a method cannot be assigned


def is_plain_layer(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether `layer` computes what `kind` does: of that very class, without hooks, and without attributes of its own,
    such as a patched forward or a weight that is computed from others.

    Args:
        kind: `nn.Conv2d`, `nn.BatchNorm2d` or `nn.MaxPool2d`.
    """
    if type(layer) is not kind:
        return False
    hooks = (value for name, value in vars(layer).items() if name.endswith("_hooks"))
    return not any(hooks) and not any(_global_hooks()) and vars(layer).keys() <= _ATTRIBUTES[kind]


def _global_hooks() -> Iterator[Any]:
    module = torch.nn.modules.module
    return (value for name, value in vars(module).items() if name.startswith("_global_") and name.endswith("_hooks"))


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Inside the block the convolutions of `model` that `can_pack` accepts are packed, unless optimizations are off."""
    layers = _packable(model)
    try:
        for layer in layers:
            pack(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def packs(model: nn.Module) -> bool:
    """Whether `packed` changes anything."""
    return bool(_packable(model))


def _packable(model: nn.Module) -> list[nn.Conv2d]:
    if not is_optimized() or is_opaque(model):
        return []
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and can_pack(layer)]


def can_pack(conv: nn.Conv2d) -> bool:
    """Whether it is an ordinary convolution in float32 on a CPU."""
    if not is_plain_layer(conv, nn.Conv2d):
        return False
    ordinary = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    if not ordinary or isinstance(conv.padding, str):
        return False
    sound = all(s == conv.stride[0] for s in conv.stride) and all(
        p < k for p, k in zip(conv.padding, conv.kernel_size, strict=True)
    )
    here = all((p.device.type, p.dtype) == ("cpu", torch.float32) for p in conv.parameters())
    return sound and here and _has_onednn()


class _PackedForward:
    """Holds a weak reference to the layer that holds it: nothing then waits for the garbage collector."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.layer = weakref.ref(conv)
        self.weight, self.bias, self.version = conv.weight, conv.bias, conv.weight._version
        self.stride, self.padding = _pair(conv.stride), _pair(conv.padding)
        self.forward_pass = _Packed(conv.weight, conv.bias, self.padding, self.stride)
        by_phases = conv.stride == (1, 1) or conv.in_channels <= NARROW
        self.backward_pass = (_PhaseGradient if by_phases else _TransposedGradient)(conv)

    def __call__(self, x: Tensor) -> Tensor:
        conv = self.layer()
        weight, bias = (self.weight, self.bias) if conv is None else (conv.weight, conv.bias)
        changed = weight is not self.weight or bias is not self.bias or weight._version != self.version
        if changed or x.dtype != torch.float32 or x.ndim != 4:
            return F.conv2d(x, weight, bias, self.stride, self.padding)
        output: Tensor = _Convolution.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return output


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: _PackedForward) -> Tensor:
        ctx.layer, ctx.size = layer, x.shape[2:]
        ctx.save_for_backward(*([x, weight] if any(ctx.needs_input_grad[1:3]) else []))
        return layer.forward_pass(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad
        by_x = ctx.layer.backward_pass(gradient, ctx.size) if to_x else None
        if not (to_weight or to_bias):
            return by_x, None, None, None
        x, weight = ctx.saved_tensors
        _, by_weight, by_bias = torch.ops.aten.convolution_backward.default(
            gradient, x, weight, [len(weight)], ctx.layer.stride, ctx.layer.padding, (1, 1), False, (0, 0), 1,
            (False, to_weight, to_bias),
        )  # fmt: skip
        return by_x, by_weight, by_bias, None


class _Packed:
    """A convolution. Its weights are reordered for the first batch and reused for all others."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], stride: tuple[int, int] = (1, 1)
    ) -> None:
        self.weight, self.bias, self.padding, self.stride = weight.detach().contiguous(), bias, padding, stride
        self.packed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is None:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # its stub lacks the last argument
            self.packed = reorder(
                self.weight.to_mkldnn(), list(self.padding), list(self.stride), [1, 1], 1, list(x.shape)
            )
        output: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x, self.packed, self.bias, self.padding, self.stride, (1, 1), 1, "none", [], ""
        )
        return output


class _PhaseGradient:
    """The gradient with respect to the input, as a convolution of the outer gradient.

    Pixels whose distance to a window's origin leaves the same remainder by the stride see the same
    part of the kernel: each such phase is an output channel, and the phases are shuffled together.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        self.stride = conv.stride[0]
        outputs, inputs, *kernel = conv.weight.shape
        taps = [-(-k // self.stride) for k in kernel]
        fill = [t * self.stride - k for t, k in zip(taps, kernel, strict=True)]
        weight = conv.weight.detach()
        parts = F.pad(weight, (0, fill[1], 0, fill[0])) if any(fill) else weight
        parts = parts.reshape(outputs, inputs, taps[0], self.stride, taps[1], self.stride)
        phases = parts.permute(1, 3, 5, 0, 2, 4).reshape(-1, outputs, *taps).flip(2, 3)
        padding = _pair(conv.padding)
        self.offset = (0, 0) if self.stride == 1 else padding
        reach = tuple(t - 1 - (p - o) for t, p, o in zip(taps, padding, self.offset, strict=True))
        self.convolve = _Packed(phases, None, (reach[0], reach[1]))

    def __call__(self, gradient: Tensor, size: torch.Size) -> Tensor:
        result = self.convolve(gradient)
        if self.stride == 1:
            return result
        result = _shuffled(result, self.stride)
        down, across = (o + s for o, s in zip(self.offset, size, strict=True))
        result = result[..., self.offset[0] : down, self.offset[1] : across]
        missing = [s - have for s, have in zip(size, result.shape[2:], strict=True)]  # pixels that no window reaches
        return F.pad(result, (0, missing[1], 0, missing[0])) if any(missing) else result


def _shuffled(phases: Tensor, stride: int) -> Tensor:
    """Like `F.pixel_shuffle`, which takes twice as long for channels-last tensors."""
    n, channels, height, width = phases.shape
    apart = phases.view(n, channels // stride**2, stride, stride, height, width).permute(0, 1, 4, 2, 5, 3)
    return apart.reshape(n, -1, height * stride, width * stride)


class _TransposedGradient:
    """The gradient with respect to the input, as oneDNN's transposed convolution."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.weight, self.kernel = conv.weight.detach().contiguous(), conv.kernel_size
        self.padding, self.stride = _pair(conv.padding), conv.stride
        self.packed: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, gradient: Tensor, size: torch.Size) -> Tensor:
        places = zip(size, gradient.shape[2:], self.kernel, self.padding, self.stride, strict=True)
        rest = tuple(s - ((g - 1) * step - 2 * p + k) for s, g, k, p, step in places)
        if rest not in self.packed:
            self.packed[rest] = torch.ops.mkldnn._reorder_convolution_transpose_weight.default(
                self.weight, self.padding, rest, self.stride, (1, 1), 1, list(gradient.shape)
            )
        result: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise.default(
            gradient, self.packed[rest], None, self.padding, rest, self.stride, (1, 1), 1, "none", [], ""
        )
        return result


def _pair(padding: Any) -> tuple[int, int]:
    return padding[0], padding[1]


def _has_onednn() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
