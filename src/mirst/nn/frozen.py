"""Use a model without changing it: afterwards it is bit for bit the same."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from mirst.errors import MirstError


@contextmanager
def frozen(model: nn.Module, *, training: bool | None) -> Iterator[None]:
    """Gradients with respect to inputs only, also inside `torch.no_grad()`.

    Inside the block parameters require no gradient. The model is in eval mode (`training=False`), or each module keeps
    its mode (`None`). On exit training flags, `requires_grad`, parameters and buffers are restored, also those that
    the model's own forward changed.

    Raises:
        MirstError: a model that was created under `torch.inference_mode()`.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise MirstError(
            "the model was created under torch.inference_mode(), so it has no gradients; create it outside"
        )
    flags = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    grads = [(p, p.requires_grad) for p in model.parameters()]
    state = _State(model)
    try:
        for parameter, _ in grads:
            parameter.requires_grad_(False)
        if training is not None and flags:
            with suppress(NotImplementedError):  # an exported program has one mode
                model.train(training)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        state.restore()
        for module, flag in flags:
            module.training = flag
        for parameter, flag in grads:
            parameter.requires_grad_(flag)


class _State:
    """The parameters and buffers of a model: which tensors they are, and their values."""

    def __init__(self, model: nn.Module) -> None:
        modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
        tables: list[dict[str, Any]] = [table for module in modules for table in (module._parameters, module._buffers)]
        self._tables = [(table, dict(table)) for table in tables]
        tensors = (tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.layout is torch.strided)
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors]

    def restore(self) -> None:
        for table, entries in self._tables:
            if table.keys() != entries.keys() or any(table[name] is not entries[name] for name in entries):
                table.clear()
                table.update(entries)
        with torch.no_grad():
            for tensor, value in self._values:
                if tensor.shape != value.shape:
                    tensor.data = value
                elif not _same(tensor, value):  # writing equal values would invalidate existing graphs
                    tensor.copy_(value)


def _same(first: Tensor, second: Tensor) -> bool:
    """Also where both are NaN."""
    return torch.equal(first, second) or bool(((first == second) | ((first != first) & (second != second))).all())
