"""Images, windows and the comparison that tests of the drop-max kernels share."""

import torch
from torch import Tensor

from mirst.nn import drop_max2d, reference_mode

GEOMETRIES = [(3, 2, 1), (2, 2, 0), ((2, 3), (3, 2), (0, 1)), ((4, 3), 1, (2, 1)), ((1, 2), (1, 2), 0)]
FORMATS = [torch.contiguous_format, torch.channels_last]


def drawn(shape: tuple[int, ...], seed: int, kind: str = "all different", dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "all different":
        return torch.randn(shape, generator=generator, dtype=dtype)
    values = [-2.0, 0.0, 1.0] + [-torch.inf, torch.inf, torch.nan] * (kind == "not finite")
    return torch.tensor(values, dtype=dtype)[torch.randint(len(values), shape, generator=generator)]


def with_gradient(x: Tensor, geometry: tuple, seed: int = 0) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    pooled = drop_max2d(leaf, *geometry)
    upstream = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    return pooled.detach(), torch.autograd.grad(pooled, leaf, upstream)[0]


def assert_as_plain(x: Tensor, geometry: tuple) -> None:
    """Equal numbers, values and gradient; NaN where NaN is."""
    fast = with_gradient(x, geometry)
    with reference_mode():
        plain = with_gradient(x, geometry)
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
