"""Small real models and images that many tests share."""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock
from matplotlib.figure import Figure
from torch import Tensor, nn

from mirst.allocator import keep_freed_memory
from mirst.cli import main
from mirst.data import write_phantoms
from mirst.study import Local, StudySpec, attack_study, ensemble_study, load_spec, measure_distances, run_study
from mirst.study.engines.local import PRELOADED
from tests.helpers import small_batch, small_cnn

torch.set_num_threads(1)
keep_freed_memory()  # as the command line does

PRELOADED += ["mirst.report", "sklearn.model_selection"]
"""The server of workers also starts the commands of `tests.commands`, which import these as well."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of the many processes would compile all of mirst
sys.dont_write_bytecode = False


SLOW = (
    "study/engines/test_ray.py",
    "study/test_run.py",
    "test_cli.py",
    "study/test_lock.py",
    "docs/test_from_fit_to_report.py",
    "cli/test_stop.py",
    "study/post_hoc/",
    "app/",
    "evaluation/test_masking.py",
    "export/",
    "report/",
    "browser/",
    "study/",
    "contracts/",
    "data/test_labels_and_groups.py",
)
"""Tests that start first, because their files take long: a run ends when the last worker ends."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(root).as_posix() if item.path.is_relative_to(root) else ""
        return next((number for number, prefix in enumerate(SLOW) if file.startswith(prefix)), len(SLOW))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What was imported until now stays to the end; frozen, it is not searched for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """A job in the background of a shell ignores SIGINT, and so would the tests that send it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def model() -> nn.Module:
    return small_cnn().eval()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return small_batch()


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that the first process of a test run makes; the other processes wait for it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with FileLock(root / f"{name}.lock"):
        if not (root / name).exists():
            make(root / f"{name}-unfinished")
            (root / f"{name}-unfinished").rename(root / name)
    return root / name


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache; the processes of a test run share one."""
    os.environ["MIRST_CACHE"] = str(made_once(tmp_path_factory, "cache", Path.mkdir))


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder with 24 phantoms without their masks. No test changes it."""

    def make(folder: Path) -> None:
        write_phantoms(folder, 12, seed=0)
        for masks in folder.glob("*/masks"):
            shutil.rmtree(masks)

    return made_once(tmp_path_factory, "phantoms", make)


@pytest.fixture(scope="session")
def masked_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder with 8 phantoms and their masks. No test changes it."""
    return made_once(tmp_path_factory, "masked-phantoms", lambda folder: write_phantoms(folder, 4, seed=0))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with BUSI and BUS-BRA: `$MIRST_DATA`, or `shared/data` beside the checkout."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MIRST_DATA", default))
    if not (folder / "busi").is_dir():
        pytest.skip(f"no real ultrasound at {folder}; set MIRST_DATA to run this test")
    return folder


@pytest.fixture
def mirst(monkeypatch, capsys):
    """Runs a command line in this process; gives exit code, output and errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["mirst", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def unpainted():
    """The figures of pages are built but not painted, which takes two thirds of the time of a page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "draw", lambda *_: None)
        yield


SMALL = {
    "data": {"size": 32},
    "training": {"epochs": 3, "batch_size": 8, "val_fraction": 0.2, "select": "best_robust"},
    "defenses": ["ce", {"name": "mirst", "drop_max": True, "steps": 3, "instances": [3, 2], "weights": [0.6, 0.4]}],
    "attacks": ["fgsm", {"name": "pgd", "steps": 3, "random_start": True}],
    "folds": {"count": 2},
    "seeds": [0, 1],
}
"""A study small enough for a test."""


@pytest.fixture(scope="session")
def small_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


@pytest.fixture(scope="session")
def small_spec(small_yaml: Path, phantoms: Path) -> StudySpec:
    return load_spec(small_yaml, [f"data.path={phantoms}"])


@pytest.fixture(scope="session")
def finished(small_spec: StudySpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = made_once(tmp_path_factory, "finished", lambda folder: run_study(small_spec, folder, engine=Local(2)))
    return shutil.copytree(made, tmp_path_factory.mktemp("results") / "small")


@pytest.fixture(scope="session")
def searched(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished study with the smallest eps that breaks each image."""

    def search(folder: Path) -> None:
        measure_distances(shutil.copytree(finished, folder), engine=Local(2))

    made = made_once(tmp_path_factory, "searched", search)
    return shutil.copytree(made, tmp_path_factory.mktemp("searched") / "study")


@pytest.fixture(scope="session")
def attacked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished study under `standard`; eps is so wide that the slow attacks have little to do."""

    def attack(folder: Path) -> None:
        attack_study(shutil.copytree(finished, folder), "standard", (0.3,), engine=Local(2))

    made = made_once(tmp_path_factory, "attacked", attack)
    return shutil.copytree(made, tmp_path_factory.mktemp("attacked") / "study")


@pytest.fixture(scope="session")
def combined(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ensembles of the finished study's seeds."""
    made = made_once(tmp_path_factory, "combined", lambda folder: ensemble_study(finished, folder, engine=Local(2)))
    return shutil.copytree(made, tmp_path_factory.mktemp("ensembles") / "small-ensemble")
