"""One small study with certificates, and its dossier."""

import json
import shutil
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from mirst.dossier import Dossier, write_dossier
from mirst.study import Local, load_spec, run_study
from tests.conftest import made_once


@pytest.fixture(scope="session")
def certified_study(phantoms, tmp_path_factory) -> Path:
    settings = [
        *(
            f"data.path={phantoms}",
            "data.size=16",
            "model.name=cnn_small",
            "training.epochs=2",
            "training.batch_size=8",
        ),
        *("training.val_fraction=0", "training.select=last", "defenses=[ce]", "folds.count=2", "certify=[0.00001]"),
        "attacks=[{name: fgsm, eps: 0.1}, {name: pgd, eps: 0.1, steps: 3, step_size: 0.05, random_start: true}]",
    ]
    made = made_once(
        tmp_path_factory,
        "certified-study",
        lambda folder: run_study(load_spec(None, settings), folder, engine=Local(2)),
    )
    return shutil.copytree(made, tmp_path_factory.mktemp("certified") / "study")


@pytest.fixture(scope="session")
def written(certified_study, tmp_path_factory) -> Dossier:
    return write_dossier(certified_study, tmp_path_factory.mktemp("dossier") / "study.zip", engine=Local(2))


@dataclass
class Contents:
    """The files of a dossier, which a test may change."""

    files: dict[str, bytes]

    @classmethod
    def of(cls, path):
        with zipfile.ZipFile(path) as archive:
            return cls({name: archive.read(name) for name in archive.namelist()})

    def edit(self, name, old, new):
        assert old.encode() in self.files[name]
        self.files[name] = self.files[name].replace(old.encode(), new.encode(), 1)

    def write(self, path, *, hashes_too):
        """As an archive; `hashes_too`: with the hashes of the changed files, as someone who cheats would."""
        if hashes_too:
            manifest = json.loads(self.files["manifest.json"])
            others = {name: content for name, content in self.files.items() if name != "manifest.json"}
            manifest["files"] = {name: sha256(content).hexdigest() for name, content in others.items()}
            self.files["manifest.json"] = json.dumps(manifest).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
        return path
