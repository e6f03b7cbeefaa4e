"""From a model, images and attacks to outcome rows."""

from collections.abc import Iterable, Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from mirst.attacks import Attack
from mirst.attacks.base import frozen, require_images
from mirst.errors import MirstError
from mirst.evaluation.progress import Progress, Tell, ignore

CLEAN = "none"
TOLERANCE = 1e-6
"""Slack on the distance of an attacked image, for float32 rounding."""

Loader = Iterable[tuple[Tensor, Tensor]]


def evaluate(
    model: nn.Module,
    data: Loader,
    attacks: Mapping[str, Attack],
    *,
    positive: int = 1,
    threshold: float = 0.0,
    seed: int = 0,
    tell: Tell = ignore,
) -> pd.DataFrame:
    """Predict every image clean and under every attack.

    An attack is not believed: prediction, distance, bounds and finiteness are recomputed from the
    images that it returns.

    Args:
        model: any module from `(N, C, H, W)` images in [0, 1] to `(N, K)` logits; run in eval mode
            and left as found.
        data: batches `(x, y)`, the same in each pass.
        attacks: by the name that the rows carry.
        positive: index of the positive class.
        threshold: operating point on the score, for two classes; other models take the largest logit.
        seed: of the attacks' random draws.
        tell: gets how far each attack has come, before and after each batch.

    Returns:
        One row per image and attack, clean first: `image` (its position in `data`), `label` and
        `prediction` (class indices), `attack`, `eps` (0 for clean), `score` (log-odds of the
        positive class), `linf` (distance from the clean image, in units of the pixel range).

    Raises:
        MirstError: images outside [0, 1], or a threshold for a model without exactly two classes.
        RuntimeError: an attack returned an image outside its ball or [0, 1], or one that is not
            finite: a defect of the attack.
    """
    passes: list[tuple[str, Attack | None]] = [(CLEAN, None), *attacks.items()]
    device = device_of(model)
    generators = {name: torch.Generator().manual_seed(seed) for name, _ in passes}
    rows: list[pd.DataFrame] = []
    start = 0
    for x, y in data:
        x, y = x.to(device), y.to(device)
        require_images(x, y)
        for name, attack in passes:
            eps = 0.0 if attack is None else attack.eps
            tell(Progress(name, eps, start))
            attacked = x if attack is None else attack(model, x, y, generator=generators[name])
            linf = checked_distance(name, x, attacked, eps)
            score, prediction = decide(logits_of(model, attacked), positive, threshold)
            columns = {"label": y, "prediction": prediction, "score": score.double(), "linf": linf.double()}
            frame = pd.DataFrame({key: value.cpu().numpy() for key, value in columns.items()})
            rows.append(frame.assign(image=range(start, start + len(x)), attack=name, eps=eps))
            tell(Progress(name, eps, start + len(x)))
        start += len(x)
    if not rows:
        raise MirstError("there are no images to evaluate on")
    order = {name: i for i, (name, _) in enumerate(passes)}
    table = pd.concat(rows, ignore_index=True)
    table = table.sort_values(["attack", "image"], key=lambda c: c.map(order) if c.name == "attack" else c)
    return table[["image", "label", "attack", "eps", "prediction", "score", "linf"]].reset_index(drop=True)


def decide(logits: Tensor, positive: int, threshold: float) -> tuple[Tensor, Tensor]:
    """Log-odds of the positive class, and the predicted class index, each `(N,)`.

    Raises:
        MirstError: a threshold for logits of more than two classes.
    """
    others = logits.clone()
    others[:, positive] = -torch.inf
    score = logits[:, positive] - others.logsumexp(1)
    if logits.shape[1] == 2:
        return score, torch.where(score > threshold, positive, 1 - positive)
    if threshold:
        raise MirstError(f"a threshold needs a model with two classes, not {logits.shape[1]}")
    return score, logits.argmax(1)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are; the CPU, where it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """`(N, K)`, in eval mode and without gradients; the model is left as found."""
    with frozen(model, training=False), torch.no_grad():
        logits: Tensor = model(images)
    return logits


def checked_distance(name: str, clean: Tensor, attacked: Tensor, eps: float) -> Tensor:
    """L-infinity distance per image of a feasible result.

    Raises:
        RuntimeError: a result that is not feasible; a defect of the attack.
    """
    if attacked.shape != clean.shape:
        raise RuntimeError(f"attack {name} returned shape {tuple(attacked.shape)} for {tuple(clean.shape)}")
    if not attacked.isfinite().all():
        raise RuntimeError(f"attack {name} returned an image that is not finite")
    if attacked.min() < 0 or attacked.max() > 1:
        raise RuntimeError(f"attack {name} left the pixel range [0, 1]")
    linf = (attacked - clean).abs().flatten(1).amax(1)
    if linf.max() > eps + TOLERANCE:
        raise RuntimeError(f"attack {name} left its ball: distance {linf.max().item():.6g} > eps {eps:.6g}")
    return linf
