"""A faster copy of a model in eval mode, for attacks: the same logits up to float rounding."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mirst.nn.accelerate.packed_convolutions import can_pack, is_plain_layer, pack
from mirst.nn.accelerate.separable_max_pool import can_separate, separate
from mirst.nn.accelerate.switch import is_optimized
from mirst.nn.logits import dtype_of, is_opaque

Pairs = list[tuple[str, str]]
"""Names of convolutions, each with the batch norm that it alone feeds."""


def folded(model: nn.Module) -> nn.Module:
    """A copy of `model` with each batch norm folded into the convolution before it.

    In float32 on a CPU its weights are channels last, and convolutions whose parameters require no gradient are packed.
    Max-pools work along one axis after the other where no gradient is asked for.

    Same output; later weight updates are ignored. Only `nn.Conv2d` and `nn.BatchNorm2d` themselves are folded: no
    subclass, none with hooks or a forward of its own, none whose parameters other layers read. A model that torch.fx
    cannot trace keeps its batch norms. A model that is compiled, scripted, in half precision or cannot be copied is
    returned as it is, and so is every model in `reference_mode`. `mirst.nn.accelerate.agreement` detects what these
    rules miss. Where pixels of a uniform background tie in a pooling window, rounding may give the gradient to
    another one of them.

    Args:
        model: in eval mode; never traced itself, so nothing of the trace stays on it.
    """
    if not is_optimized() or is_opaque(model) or dtype_of(model) in (torch.float16, torch.bfloat16):
        return model
    try:
        fast, traced = (_copy(model) for _ in range(2))
    except Exception:  # noqa: BLE001 - copying runs the model's own code, which may fail in any way
        return model
    for conv, norm in _pairs(traced):
        _fold(fast, fast.get_submodule(conv), fast.get_submodule(norm))
    for layer in fast.modules():
        if isinstance(layer, nn.MaxPool2d) and can_separate(layer):
            separate(layer)
        if not isinstance(layer, nn.Conv2d) or not is_plain_layer(layer, nn.Conv2d):
            continue
        if can_pack(layer) and not any(p.requires_grad for p in layer.parameters()):
            pack(layer)
        else:
            _lay_out(layer, torch.channels_last)
    return fast


@contextmanager
def in_fast_layout(model: nn.Module) -> Iterator[None]:
    """Inside the block float32 weights of `nn.Conv2d` on a CPU are channels last, unless optimizations are off.

    Weights that the forward of another layer reads are left alone: it may use a `view` of them.
    """
    layers = _laid_out(model) if is_optimized() else []
    before = [(p, p.stride()) for layer in layers for p in layer.parameters()]
    for layer in layers:
        _lay_out(layer, torch.channels_last)
    try:
        yield
    finally:
        for parameter, stride in before:
            if parameter.stride() != stride:
                parameter.data = parameter.data.contiguous()


def _lay_out(layer: nn.Module, layout: torch.memory_format) -> None:
    if all((p.device.type, p.dtype) == ("cpu", torch.float32) for p in layer.parameters()):
        layer.to(memory_format=layout)  # type: ignore[call-overload]


def _copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model, {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()})


class _Tracer(fx.Tracer):
    """Traces into modules that have children, and records which code reads a parameter or buffer."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(True for _ in m.children())


def _trace(model: nn.Module) -> fx.Graph:
    """The graph of `model`, a copy made for this; an empty graph if it cannot be traced."""
    try:
        return _Tracer().trace(model)
    except Exception:  # noqa: BLE001 - tracing runs the model's own code, which may fail in any way on a proxy
        return fx.Graph()


def _read(graph: fx.Graph) -> set[str]:
    """Names of the layers whose parameters or buffers the forward of another one reads."""
    return {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}


def _laid_out(model: nn.Module) -> list[nn.Module]:
    try:
        read = _read(_trace(_copy(model)))
    except Exception:  # noqa: BLE001 - copying runs the model's own code, which may fail in any way
        read = set()
    return [
        layer
        for name, layer in model.named_modules()
        if type(layer) is nn.Conv2d and "weight" in layer._parameters and name not in read
    ]


def _pairs(model: nn.Module) -> Pairs:
    graph = _trace(model)
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    read = _read(graph)
    pairs = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = str(before.target), str(node.target)
        alone = calls.count(conv) == calls.count(norm) == 1 and not {conv, norm} & read
        if alone and _can_fold(model.get_submodule(conv), model.get_submodule(norm)):
            pairs.append((conv, norm))
    return pairs


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether both are unmodified, in eval mode, and the norm has statistics."""
    plain = is_plain_layer(conv, nn.Conv2d) and is_plain_layer(norm, nn.BatchNorm2d)
    return plain and not conv.training and not norm.training and norm.running_mean is not None


def _fold(model: nn.Module, conv: nn.Module, norm: nn.Module) -> None:
    assert isinstance(conv, nn.Conv2d)  # as _can_fold says
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    for parent in list(model.modules()):
        for name, layer in list(parent._modules.items()):  # a layer may have several names
            if layer is norm:
                setattr(parent, name, nn.Identity())
