"""A faster copy of a model in eval mode, for attacks: the same answers up to float rounding."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mirst.nn.fast import is_fast
from mirst.nn.packed import can_pack, pack

Pairs = tuple[tuple[str, str], ...]
"""Names of convolutions, each with the batch norm that it alone feeds."""

_known: "WeakKeyDictionary[nn.Module, Pairs]" = WeakKeyDictionary()


def folded(model: nn.Module) -> nn.Module:
    """A copy of `model` with each batch norm folded into the convolution before it.

    In float32 on a CPU it lies channels last, and convolutions whose parameters ask for no gradient are packed.

    The copy has the weights and flags of this moment. A model that torch.fx cannot trace keeps its
    batch norms; one that cannot be copied is given back as it is, and so is any inside `plainly`.
    Where pixels of a uniform background tie in a pooling window, rounding may give the gradient to
    another one of them.

    Args:
        model: in eval mode.
    """
    if not is_fast():
        return model
    try:
        fast = copy.deepcopy(model, {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()})
    except (RuntimeError, TypeError, NotImplementedError):
        return model
    for conv, norm in _pairs(model):
        first, second = fast.get_submodule(conv), fast.get_submodule(norm)
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d) and _can_fold(first, second):
            mean, variance = second.running_mean, second.running_var
            assert mean is not None  # as _can_fold says
            assert variance is not None
            first.weight, first.bias = fuse_conv_bn_weights(
                first.weight, first.bias, mean, variance, second.eps, second.weight, second.bias
            )
            _replace(fast, norm, nn.Identity())
    for layer in fast.modules():
        if isinstance(layer, nn.Conv2d) and can_pack(layer) and not any(p.requires_grad for p in layer.parameters()):
            pack(layer)
        elif isinstance(layer, nn.Conv2d):
            _lay_out(layer, torch.channels_last)
    return fast


@contextmanager
def in_fast_layout(model: nn.Module) -> Iterator[None]:
    """Inside, the weights of a model in float32 on a CPU lie channels last, unless speed-ups are off."""
    if not is_fast():
        yield
        return
    before = [(p, p.stride()) for p in model.parameters()]
    _lay_out(model, torch.channels_last)
    try:
        yield
    finally:
        for parameter, stride in before:
            if parameter.stride() != stride:
                parameter.data = parameter.data.contiguous()


def _lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    if all((p.device.type, p.dtype) == ("cpu", torch.float32) for p in model.parameters()):
        model.to(memory_format=layout)  # type: ignore[call-overload]


class _Tracer(fx.Tracer):
    """Looks inside a module only for the modules that it holds."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(True for _ in m.children())


def _pairs(model: nn.Module) -> Pairs:
    if model not in _known:
        _known[model] = _find_pairs(model)
    return _known[model]


def _find_pairs(model: nn.Module) -> Pairs:
    try:
        graph = _Tracer().trace(model)
    except Exception:  # noqa: BLE001 - tracing runs the model's own code, which may fail in any way on a proxy
        return ()
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    pairs = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        if calls.count(node.target) == calls.count(before.target) == 1:
            pairs.append((str(before.target), str(node.target)))
    return tuple(pairs)


def _can_fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Whether both are in eval mode, the norm has statistics, and nothing listens to them."""
    watched = any(module._forward_hooks or module._forward_pre_hooks for module in (conv, norm))
    return not watched and not conv.training and not norm.training and norm.running_mean is not None


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)
