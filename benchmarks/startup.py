"""What a user waits for beside the training itself: the command line, the first epoch, each batch of data."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.steps import step
from benchmarks.timing import Target, medians, section
from mirst.data import ImageSet, data_loader
from mirst.data.augmentation import Augmentation
from mirst.data.phantom import write_phantoms
from mirst.defenses import CE, RST

MIRST = [sys.executable, "-m", "mirst.cli"]


def startup() -> Iterator[str]:
    yield section(
        "Waiting for the command line",
        {"one second": 1.0, "mirst --help": medians({"help": _help}, 5)["help"]},
        "s",
        1,
        (Target(("mirst --help",), ("one second",), 1.0),),
    )
    yield section(
        "From `mirst run` to the end of the first epoch, 200 phantoms of 64 px, prepared before",
        {"fifteen seconds": 15.0, "first epoch": _first_epoch()},
        "s",
        1,
        (Target(("first epoch",), ("fifteen seconds",), 1.0),),
    )
    yield section(
        "Importing",
        {"three tenths of a second": 0.3, "import mirst": medians({"import": _import}, 5)["import"]},
        "s",
        1,
        (Target(("import mirst",), ("three tenths of a second",), 1.0),),
    )
    yield _batch()


def _help() -> None:
    subprocess.run([*MIRST, "--help"], check=True, stdout=subprocess.DEVNULL)


def _import() -> None:
    subprocess.run([sys.executable, "-c", "import mirst"], check=True)


def _first_epoch() -> float:
    with tempfile.TemporaryDirectory() as temporary:
        data, out = Path(temporary) / "data", Path(temporary) / "out"
        write_phantoms(data, 100)
        study = Path(temporary) / "study.yaml"
        study.write_text("defenses: [mirst]\n", encoding="utf-8")
        command = [*MIRST, "run", str(study), "--data", str(data), "--jobs", "1"]
        subprocess.run([*command, "--out", str(out) + "-0", "--dry-run"], check=True, stdout=subprocess.DEVNULL)
        begin = time.perf_counter()
        run = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL)
        while run.poll() is None and not list(out.glob("trials/*/state.pt")):
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        run.terminate()  # a job in the background of a shell ignores SIGINT
        run.wait()
    return seconds


def _batch() -> str:
    images = np.random.default_rng(0).integers(0, 256, (512, 1, 64, 64), dtype=np.uint8)
    data = ImageSet(images, np.arange(512) % 2, augment=Augmentation())

    def epoch() -> None:
        for _ in data_loader(data, 16, shuffle=True):
            pass

    trainers = {"CE": CE(), "RST": RST()}
    result = medians({"data": epoch} | {name: step("resnet_tiny", 64, d, True) for name, d in trainers.items()}, 9)
    values = {"training step, " + name: result[name] for name in trainers} | {"batch of data": result["data"] / 32}
    targets = tuple(Target(("batch of data",), (name,), 0.02) for name in values if name != "batch of data")
    return section("A batch of 16 augmented images of 64 px, resnet_tiny, one thread", values, "ms", 1000, targets)
