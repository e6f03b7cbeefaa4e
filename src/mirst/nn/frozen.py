"""A model that is only looked at: afterwards it is, bit for bit, what it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def frozen(model: nn.Module, *, training: bool | None) -> Iterator[None]:
    """Gradients with respect to inputs only, whatever surrounds the call.

    Inside, the parameters ask for no gradient, and the model is in eval mode (`training=False`) or
    in the mode of each module as found (`None`). On leaving, training flags, `requires_grad`, parameters and buffers
    are what they were, whatever the model's own forward did to them.
    """
    flags = [(module, module.training) for module in model.modules()]
    grads = [(p, p.requires_grad) for p in model.parameters()]
    state = _State(model)
    try:
        for parameter, _ in grads:
            parameter.requires_grad_(False)
        if training is not None:
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
        self._values = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]

    def restore(self) -> None:
        for table, entries in self._tables:
            if table.keys() != entries.keys() or any(table[name] is not entries[name] for name in entries):
                table.clear()
                table.update(entries)
        with torch.no_grad():
            for tensor, value in self._values:
                if not torch.equal(tensor, value):  # writing what is there would invalidate graphs that wait for it
                    tensor.copy_(value)
