"""From a model, images and attacks to outcome rows."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from mirst.attacks import Attack
from mirst.batches import Loader, checked_batches, require_labels
from mirst.errors import MirstError
from mirst.evaluation.judge import class_columns, judge
from mirst.evaluation.model_checks import NO_FINITE_LOGITS, warn_of_flaws
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.evaluation.worst_score import pushed, pushes_score, worse
from mirst.nn.device import device_of, where_float64
from mirst.nn.logits import logits_of
from mirst.random_draws import seeded

CLEAN = "none"
"""The name of the attack in the rows of images without an attack."""
TOLERANCE = 1e-6
"""By how much an attacked image may exceed its eps through float32 rounding."""


def evaluate(
    model: nn.Module,
    data: Loader,
    attacks: Mapping[str, Attack],
    *,
    positive: int = 1,
    threshold: float = 0.0,
    seed: int = 0,
    check: bool = True,
    auc: bool = False,
    on_progress: OnProgress = no_progress,
) -> pd.DataFrame:
    """Predict every image clean and under every attack.

    Nothing that an attack claims is used: prediction, distance, bounds and finiteness are recomputed from
    the images that it returns. The first largest logit decides. An image whose logits are not finite is
    misclassified. A model that draws at random is evaluated on one draw for each call.

    Args:
        model: any module from `(N, C, H, W)` images in [0, 1] to `(N, K)` logits, K >= 2; run in eval mode
            and left as found.
        data: batches as `mirst.batches.unpacked` takes them, a `DataLoader` for one.
        attacks: by the name that the rows use.
        positive: index of the positive class, whose log-odds are the score.
        threshold: operating point on the score, for two classes; other models take the largest logit.
        seed: of the attacks' random draws, and of those that the model takes from torch's own generators.
        check: emit a `ModelWarning` for each flaw that `mirst.evaluation.model_checks` detects in the model.
        auc: add the column `worst_score`, the worst score among the clean image and the attacked one. With more than
            two classes each attack is run again, towards a worse score.
        on_progress: called with the progress of each attack, before and after each batch.

    Returns:
        One row per image and attack, clean first: `image` (its position in `data`), `label` and
        `prediction` (class indices), `attack`, `eps` (0 for clean), `score` (log-odds of the
        positive class), `linf` (distance from the clean image, in units of the pixel range), with more than two classes
        `score:0` to `score:K-1` (log-odds of each class against all others), and `worst_score` with `auc`.

    Raises:
        MirstError: a bad batch, attacks without names, labels that the model has no logit for, outputs that are no
            `(N, K)` logits, logits that are finite on no clean image, or a threshold for a model without exactly
            two classes.
        RuntimeError: an attack returned an image outside its ball or [0, 1], or one that is not
            finite: a defect of the attack.

    >>> from mirst.attacks import FGSM
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> batch = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 1])
    >>> rows = evaluate(model, [batch], {"fgsm": FGSM()}, check=False)
    >>> rows["attack"].tolist()
    ['none', 'none', 'none', 'fgsm', 'fgsm', 'fgsm']
    """
    require_attacks(attacks)
    passes: list[tuple[str, Attack | None]] = [(CLEAN, None), *attacks.items()]
    generators = {name: torch.Generator().manual_seed(seed) for name, _ in passes}
    pushes = {name: torch.Generator().manual_seed(seed) for name, attack in attacks.items() if pushes_score(attack)}
    device, rows, start, any_finite = device_of(model), list[pd.DataFrame](), 0, False
    with seeded(seed, device):
        if check:
            data = warn_of_flaws(model, data)
        for x, y in checked_batches(data):
            x, y, clean = x.to(device), y.to(device), None
            for name, attack in passes:
                eps = 0.0 if attack is None else attack.eps
                on_progress(Progress(name, eps, start))
                attacked = x if attack is None else attack(model, x, y, generator=generators[name])
                linf = checked_distance(name, x, attacked, eps)
                logits = logits_of(model, attacked)
                if attack is None:
                    require_labels(y, logits.shape[1])
                    any_finite |= bool(logits.isfinite().all(1).any())
                score, prediction = judge(logits, y, positive, threshold)
                columns = {"label": y, "prediction": prediction, "score": score, "linf": where_float64(linf).double()}
                columns |= class_columns(logits, y)
                if auc:
                    clean = score if clean is None else clean
                    worst = worse(clean, score, y == positive)
                    if name in pushes and logits.shape[1] > 2:
                        with seeded(seed, device):  # the draws of the other passes stay the same
                            more = pushed_score(name, model, attacks[name], x, y, positive, pushes[name])
                        worst = worse(worst, more, y == positive)
                    columns["worst_score"] = worst
                frame = pd.DataFrame({key: value.cpu().numpy() for key, value in columns.items()})
                rows.append(frame.assign(image=range(start, start + len(x)), attack=name, eps=eps))
                on_progress(Progress(name, eps, start + len(x)))
            start += len(x)
    if not start:
        raise MirstError("there are no images to evaluate on")
    if not any_finite:
        raise MirstError(NO_FINITE_LOGITS)
    order = {name: i for i, (name, _) in enumerate(passes)}
    table = pd.concat(rows, ignore_index=True)
    table = table.sort_values(["attack", "image"], key=lambda c: c.map(order) if c.name == "attack" else c)
    front = ["image", "label", "attack", "eps", "prediction", "score", "linf"]
    return table[[*front, *(column for column in table if column not in front)]].reset_index(drop=True)


def pushed_score(
    name: str, model: nn.Module, attack: Attack, x: Tensor, y: Tensor, positive: int, generator: torch.Generator
) -> Tensor:
    """The score, `(N,)`, of images that an attack made to worsen it, whatever the prediction.

    Args:
        name: of the attack, for the errors.
        x, y: images `(N, C, H, W)` and labels `(N,)`.

    Raises:
        RuntimeError: the images are not feasible; a defect of the attack.
    """
    attacked = pushed(model, attack, x, y, positive, generator)
    checked_distance(name, x, attacked, attack.eps)
    return judge(logits_of(model, attacked), y, positive, 0.0)[0]


def require_attacks(attacks: object, what: str = "attacks") -> None:
    """Raise `MirstError` unless `attacks` is a mapping from names to attacks."""
    if not isinstance(attacks, Mapping):
        raise MirstError(f"{what} must have names, but are of type {type(attacks).__name__}; give {{'pgd': PGD()}}")
    for name, attack in attacks.items():
        if not isinstance(name, str) or name in ("", CLEAN):
            raise MirstError(f"{what} have the name {name!r}; give another one: {CLEAN!r} and '' mean no attack")
        if hasattr(attack, "minimum") and not callable(attack):
            raise MirstError(f"{name} looks for the nearest success at any distance; call its minimum(model, x, y)")
        if not isinstance(attack, type) and callable(attack) and not hasattr(attack, "eps"):
            raise MirstError(f"{what} must be attacks such as PGD(), but {name} has no eps; give it that attribute")
        if isinstance(attack, type) or not callable(attack):
            is_class = isinstance(attack, type)
            kind = f"the class {attack.__name__}" if is_class else f"of type {type(attack).__name__}"
            remedy = f"{attack.__name__}()" if is_class else "an instance of its class"
            raise MirstError(f"{what} must be attacks such as PGD(), but {name} is {kind}; give {remedy}")


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
        raise RuntimeError(f"attack {name} returned pixels outside [0, 1]")
    linf = (attacked - clean).abs().flatten(1).amax(1)
    if linf.max() > eps + TOLERANCE:
        raise RuntimeError(
            f"attack {name} returned an image outside its ball: distance {linf.max().item():.6g} > eps {eps:.6g}"
        )
    return linf
