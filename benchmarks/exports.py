"""Every export format in a fresh environment without mirst, held against `mirst predict`.

`python -m benchmarks.exports CHECKPOINT DATA` makes the environment in a temporary folder, which takes pip some
minutes, and prints a table; it exits with 1 where something differs. CHECKPOINT is a `resnet_tiny`, `resnet18` or
`resnet50`, DATA a data set of single pictures with its classes.
"""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from mirst.data import ImageFile, load_images, read_dataset
from mirst.evaluation import predict
from mirst.export import export_model
from mirst.nn import load_model, read_card

FILES = {"onnx": "model.onnx", "torch-export": "model.pt2", "safetensors": "model.safetensors"}
PACKAGES = ["monai", "torch", "pillow", "pytorch-ignite", "fire", "onnxruntime", "safetensors"]
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
READER = Path(__file__).with_name("without_mirst.py")
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
IMAGES = 200
LIMIT = 1e-4


def main(checkpoint: Path, data: Path) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = _environment(folder / "venv")
        images = _pictures(data, read_card(checkpoint).classes, folder / "pictures")
        differences = _files(python, checkpoint, images, folder)
        differences["monai-bundle"], others = _bundle(python, checkpoint, images, folder)
    print(f"{len(images)} images, {checkpoint.parent.name}\n\n| format | largest difference |\n|---|---|")
    for to, difference in differences.items():
        print(f"| {to} | {difference:.1e} |")
    print(f"\nOf the logits; for monai-bundle of the probabilities, and {others} answers are others.")
    return int(others > 0 or max(differences.values()) > LIMIT)


def _files(python: Path, checkpoint: Path, images: list[Path], folder: Path) -> dict[str, float]:
    model, card = load_model(checkpoint)
    x = load_images([ImageFile(image) for image in images], card.size, card.channels).astype(np.float32) / 255
    with torch.no_grad():
        logits = model(torch.from_numpy(x)).numpy()
    for to, name in FILES.items():
        export_model(checkpoint, to, folder / name)
    np.save(folder / "images.npy", x)
    subprocess.run([python, READER, folder], env=ALONE, check=True)
    return {to: float(np.abs(np.load(folder / f"{name}.npy") - logits).max()) for to, name in FILES.items()}


def _bundle(python: Path, checkpoint: Path, images: list[Path], folder: Path) -> tuple[float, int]:
    """The largest difference of probabilities, and how many answers differ."""
    bundle = export_model(checkpoint, "monai-bundle", folder / "bundle")
    command = [python, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", "--bundle_root", "."]
    subprocess.run(
        [*command, "--dataset_dir", images[0].parent], cwd=bundle, env=ALONE, check=True, stdout=subprocess.DEVNULL
    )
    with (bundle / "eval" / "answers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    card, expected = predict(checkpoint, images)
    pairs = list(zip(rows, expected, strict=True))
    assert all(row["image"] == str(own.image) for row, own in pairs)
    difference = max(abs(float(row[card.positive]) - own.probability) for row, own in pairs)
    return difference, sum(row["answer"] != own.predicted_class for row, own in pairs)


def _environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS, *PACKAGES], check=True)
    probe = "import importlib.util as u; raise SystemExit(u.find_spec('mirst') is not None)"
    subprocess.run([python, "-c", probe], cwd=folder, env=ALONE, check=True)
    return python


def _pictures(data: Path, classes: tuple[str, ...], folder: Path) -> list[Path]:
    """Some pictures of the data set, from all of it, in one folder."""
    records = read_dataset(data, classes)
    folder.mkdir()
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, IMAGES).astype(int))]
    return [shutil.copy(record.path, folder / f"{i:04}{record.path.suffix}") for i, record in enumerate(chosen)]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
