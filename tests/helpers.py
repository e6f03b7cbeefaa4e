"""Real, small models, and ways to see whether one was touched, and what it was asked."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mirst.data import read_dataset, write_phantoms
from mirst.nn import BoxFusion, Ensemble, ModelCard, box_code, reference_mode
from mirst.nn.box_fusion import BoxRegression

CARD = ModelCard(
    model="resnet_tiny",
    drop_max=True,
    channels=1,
    size=32,
    classes=("benign", "malignant"),
    positive="malignant",
    threshold=0.0,
    defense="CE()",
)


def small_cnn(in_channels: int = 1, classes: int = 2, seed: int = 0) -> nn.Module:
    """A convolutional net with batch norm, dropout and a max-pool, its statistics warmed up."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(in_channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(32, classes),
        )
        model(torch.rand(16, in_channels, 16, 16))
    return model


def without_dropout(model: nn.Module) -> nn.Module:
    """`small_cnn` without its dropout, which draws new numbers in each pass."""
    model[8] = nn.Identity()
    return model


def small_batch() -> tuple[Tensor, Tensor]:
    """Six images, some of their pixels black or white, and their labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(6, 1, 16, 16, generator=generator)
    x[0, :, :4] = 0.0
    x[1, :, :4] = 1.0
    return x, torch.tensor([0, 1, 0, 1, 1, 0])


FUSED = BoxRegression(mean=(0.1, -2.5), std=(0.4, 1.2), weight=(0.8, 0.6), bias=-0.2)


def fused(positive: int = 1, seed: int = 0) -> BoxFusion:
    """`small_cnn` fused with a box."""
    model = BoxFusion(small_cnn(seed=seed), positive)
    model.set_box(FUSED)
    return model


def ensemble(positive: int = 1) -> Ensemble:
    """Two of `small_cnn`, with operating points of their own."""
    return Ensemble([small_cnn(seed=seed) for seed in (0, 1)], (0.1, -0.3), positive)


def fused_ensemble(positive: int = 1) -> Ensemble:
    """Two of `fused`, with operating points of their own."""
    return Ensemble([fused(positive, seed) for seed in (0, 1)], (0.1, -0.3), positive)


def with_boxes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The batch as `fused` takes it: the box code is one more channel. No box is known of the last image."""
    boxes = torch.stack([torch.linspace(-0.5, 0.5, len(x)), torch.linspace(-4, -1, len(x))], 1)
    boxes[-1] = torch.nan
    return torch.cat([x, box_code(boxes, x.shape[-1]).to(x)], 1), y


def on_the_fence(model: nn.Module, x: Tensor) -> nn.Module:
    """`model` in eval mode, its last bias such that no class leads on average over `x`: small steps decide."""
    model.eval()
    with torch.no_grad():
        model[-1].bias -= model(x).mean(0)
    return model


def boxed_phantoms(folder, count, seed=0, without=()):
    """A manifest of phantoms; the boxes differ."""
    write_phantoms(folder, count, seed)
    for label in ("benign", "malignant"):
        shutil.rmtree(folder / label / "masks")
    rows = ["path,label,x0,y0,x1,y1"]
    for number, record in enumerate(read_dataset(folder)):
        box = (
            "" if record.name in without else f"{20 + number % 9},{15 + number % 7},{70 + number % 5},{70 + number % 4}"
        )
        rows.append(f"{record.name},{record.label},{box or ',,,'}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder / "list.csv"


def digest(tensor: Tensor) -> str:
    """Of the bytes: lists of the numbers of a ResNet-50 would take gigabytes."""
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes() + str((tensor.dtype, tensor.shape)).encode()).hexdigest()


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything of a model that an attack might leave changed, comparable with `==`."""
    return {
        "state": {key: digest(value) for key, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [None if p.grad is None else digest(p.grad) for p in model.parameters()],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
    }


@contextmanager
def asked(model: nn.Module) -> Iterator[list[Tensor]]:
    """Yields the list of all batches that an attack inside calls `model` on, after its first look at one image."""
    batches: list[Tensor] = []
    hook = model.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0].detach().clone()))
    try:
        with reference_mode():  # no copy, so no comparison with it
            yield batches
    finally:
        hook.remove()
        del batches[:1]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_margin(logits: Tensor, y: Tensor) -> Tensor:
    """`max_{i != y} Z_i - Z_y`, image by image."""
    rows = [[z.item() for z in row] for row in logits]
    return logits.new_tensor(
        [max(z for k, z in enumerate(row) if k != own) - row[own] for row, own in zip(rows, y.tolist(), strict=True)]
    )


def misclassified(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


def one_answer_cnn() -> nn.Module:
    """A net that answers class 1 whatever it sees, with gradients all the same."""
    model = small_cnn().eval()
    with torch.no_grad():
        model[-1].bias[1] += 1000
    return model


def refused(result):
    """One sentence, exit code 2, no traceback."""
    code, _, err = result
    assert code == 2
    assert "Traceback" not in err
    assert err.startswith("mirst: ")
    assert len(err.strip().splitlines()) == 1
    return err


def rows_of_study(rows, study):
    """The rows of another study's trials that `study` has too, as text."""
    keys = ["defense", "drop_max", "fold", "seed"]
    return rows.merge(study[keys].drop_duplicates(), on=keys)
