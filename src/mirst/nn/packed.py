"""Convolutions with fixed weights on a CPU: oneDNN sorts their weights once, not in every pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NARROW = 4
"""Up to so many input channels, oneDNN's own gradient of a strided convolution takes several times as
long as its forward pass, since it vectorises over channels."""


class PackedConv2d(nn.Module):
    """What `conv` answers, for attacks: differentiable once, and with respect to its input alone.

    Args:
        conv: one that `can_pack` accepts. Its weights are taken as they are now.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.forward_pass = _Packed(conv.weight, conv.bias, _pair(conv.padding), _pair(conv.stride))
        by_phases = conv.stride == (1, 1) or conv.in_channels <= NARROW
        self.backward_pass = (_PhaseGradient if by_phases else _TransposedGradient)(conv)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or x.ndim != 4:
            return self.forward_pass.unpacked(x)
        answer: Tensor = _Convolution.apply(x, self)  # type: ignore[no-untyped-call]
        return answer


def can_pack(conv: nn.Conv2d) -> bool:
    """Whether it is an ordinary convolution of fixed weights, in float32 on a CPU, that nothing listens to."""
    ordinary = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    if not ordinary or isinstance(conv.padding, str) or conv._forward_hooks or conv._forward_pre_hooks:
        return False
    sound = all(s == conv.stride[0] for s in conv.stride) and all(
        p < k for p, k in zip(conv.padding, conv.kernel_size, strict=True)
    )
    fixed = all((p.device.type, p.dtype, p.requires_grad) == ("cpu", torch.float32, False) for p in conv.parameters())
    return sound and fixed and _has_onednn()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedConv2d) -> Tensor:
        ctx.layer, ctx.size = layer, x.shape[2:]
        return layer.forward_pass(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.backward_pass(gradient, ctx.size), None


class _Packed:
    """A convolution; its weights are sorted for the first batch, and serve the others too."""

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
        answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.packed, self.bias, self.padding, self.stride, (1, 1), 1, "none", [], ""
        )
        return answer

    def unpacked(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


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
        parts = F.pad(conv.weight.detach(), (0, fill[1], 0, fill[0]))
        parts = parts.view(outputs, inputs, taps[0], self.stride, taps[1], self.stride)
        phases = parts.permute(1, 3, 5, 0, 2, 4).reshape(-1, outputs, *taps).flip(2, 3)
        padding = _pair(conv.padding)
        self.offset = (0, 0) if self.stride == 1 else padding
        reach = tuple(t - 1 - (p - o) for t, p, o in zip(taps, padding, self.offset, strict=True))
        self.convolve = _Packed(phases, None, (reach[0], reach[1]))

    def __call__(self, gradient: Tensor, size: torch.Size) -> Tensor:
        found = self.convolve(gradient)
        if self.stride == 1:
            return found
        found = F.pixel_shuffle(found, self.stride)
        down, across = (o + s for o, s in zip(self.offset, size, strict=True))
        found = found[..., self.offset[0] : down, self.offset[1] : across]
        missing = [s - have for s, have in zip(size, found.shape[2:], strict=True)]  # pixels that no window reaches
        return F.pad(found, (0, missing[1], 0, missing[0])) if any(missing) else found


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
            self.packed[rest] = torch.ops.mkldnn._reorder_convolution_transpose_weight(
                self.weight, self.padding, rest, self.stride, (1, 1), 1, list(gradient.shape)
            )
        found: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            gradient, self.packed[rest], None, self.padding, rest, self.stride, (1, 1), 1, "none", [], ""
        )
        return found


def _pair(padding: Any) -> tuple[int, int]:
    return padding[0], padding[1]


def _has_onednn() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
