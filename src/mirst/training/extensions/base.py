"""What every extension of the training loop is."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor, nn

from mirst.errors import MirstError


class Extension:
    """Base class of a keyword-only dataclass whose fields are its configuration.

    `fit` copies an extension and calls `start` on the copy, so one object serves several trainings. What an extension
    learns is kept in attributes that are no fields, and `state_dict` returns all of it. An extension draws random
    numbers from torch's global generator alone, which `fit` seeds and saves. Every method does nothing by default.

    >>> from contextlib import contextmanager
    >>> from dataclasses import dataclass
    >>> import torch
    >>> from mirst.defenses import CE
    >>> from mirst.training import Training, fit
    >>> @dataclass(kw_only=True)
    ... class ClippedGradient(Extension):
    ...     largest: float = 1.0
    ...
    ...     @contextmanager
    ...     def around_loss(self, model, loss):
    ...         yield
    ...         nn.utils.clip_grad_norm_(model.parameters(), self.largest)
    >>> model, batch = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), (torch.rand(4, 1, 8, 8), torch.arange(4) % 2)
    >>> len(fit(model, [batch], CE(), settings=Training(epochs=2), extensions=[ClippedGradient()]).history)
    2
    """

    def start(self, model: nn.Module) -> None:
        """Called once before the first step, also of a resumed training, with the initial weights of `model`."""

    def around_loss(self, model: nn.Module, loss: Callable[[], Tensor]) -> AbstractContextManager[None]:
        """A context that is entered before the loss of a step is computed and left after its backward pass.

        The optimizer steps afterwards. On leaving, also with an error, the weights of `model` are what they were.

        Args:
            loss: computes the loss of this step, a scalar; each call is another forward pass.
        """
        return nullcontext()

    def after_step(self, model: nn.Module) -> None:
        """Called after every step of the optimizer. It does not change `model`."""

    def evaluation_weights(self) -> dict[str, Tensor] | None:
        """Values by their names in the model's `state_dict`, for validation, selection and the result of `fit`.

        `None` stands for the weights of the model. At most one extension of a training returns weights.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on: tensors, numbers, texts, and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Tensors are on the CPU; `start` has been called."""


def require_extension(extension: object) -> None:
    """Raise `MirstError` unless `extension` is a dataclass that derives from `Extension`."""
    if not isinstance(extension, Extension) or not is_dataclass(extension):
        raise MirstError(
            f"the extension {type(extension).__name__} must be a dataclass that derives from "
            "mirst.training.extensions.Extension"
        )
