"""Two small models and some phantoms, for the explorer without data."""

from collections.abc import Callable
from pathlib import Path

from mirst.data import write_phantoms
from mirst.files import cache_folder
from mirst.study import demo_spec, parse_defense, train

PAIR = {"ce": False, "mirst": True}
"""Standard training, and MIRST with drop-max."""
SHOWN = 8


def demo_pair(tell: Callable[[str], object]) -> tuple[list[Path], Path]:
    """Checkpoints of the pair, and a class folder of phantoms that they were not trained on.

    The first call trains them, within a minute on two cores. Later calls use the cache folder.

    Args:
        tell: gets a message before each training.
    """
    folder = cache_folder() / "demo-pair"
    spec = demo_spec(folder)
    paths = []
    for name, drop_max in PAIR.items():
        entry = parse_defense(name, drop_max)
        path = folder / entry.title / "model.safetensors"
        if not path.exists():
            tell(f"Training {entry.title} on phantoms, once ...")
            train(spec, entry, path)
        paths.append(path)
    unseen = folder / "unseen"
    if not (unseen / "malignant" / f"phantom-{SHOWN:03d}.png").exists():
        write_phantoms(unseen, SHOWN, seed=1)
    return paths, unseen
