"""Attacks, defenses and extensions of the user's own, by `package.module:Class`."""

import shutil
import sys
import textwrap

import pytest
import yaml

from mirst.attacks import PGD
from mirst.errors import MirstError
from mirst.report import write_comparison, write_report
from mirst.study import Local, StudySpec, load_spec, parse_attacks, parse_defense, read_results, run_study, study_status
from mirst.study.layout import StudyFolder
from mirst.study.results import read_spec
from mirst.study.spec import packages_of

pytestmark = pytest.mark.usefixtures("unpainted")

MODULE = """
    from dataclasses import dataclass
    from pathlib import Path

    from torch import nn

    from mirst.defenses import RST, Defense, DefenseWrapper, LossTerms
    from mirst.training import EMA

    @dataclass(frozen=True, kw_only=True)
    class Doubled(DefenseWrapper):
        inner: RST = RST(steps=2)
        factor: float = 2.0

        def __call__(self, model, x, y, *, generator=None):
            total, terms = self.inner(model, x, y, generator=generator)
            return LossTerms(self.factor * total, terms)

    @dataclass(frozen=True, kw_only=True)
    class Gray:
        eps: float = 5 / 255

        def __call__(self, model, x, y, *, generator=None):
            return (x + self.eps).clamp(0, 1)

    @dataclass(kw_only=True)
    class Averaged(EMA):
        pass

    @dataclass(frozen=True)
    class NoCall:
        eps: float = 0.1

    @dataclass(frozen=True)
    class NoEps:
        def __call__(self, model, x, y, *, generator=None):
            return x

    @dataclass(frozen=True)
    class Fails(Gray):
        size: int = 1

        def __post_init__(self):
            raise KeyError("size")

    @dataclass(frozen=True)
    class Judges(Gray):
        size: int = 1

        def __post_init__(self):
            raise ValueError(f"size is {self.size}; it must be even")

    @dataclass
    class Thawed:
        eps: float = 0.1

        def __call__(self, model, x, y, *, generator=None):
            return x

    @dataclass(frozen=True, kw_only=True)
    class AnyInner(DefenseWrapper):
        inner: Defense = RST()

    @dataclass(frozen=True, kw_only=True)
    class OnDisk(Gray):
        path: Path = Path("x")

    def net(in_channels, num_classes):
        pooled = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2))
        return nn.Sequential(pooled, nn.Flatten(), nn.Linear(16, num_classes))

    class Undecorated:
        pass

    def function():
        pass

    NUMBER = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The module `own_pieces` in the working directory; it is forgotten afterwards."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_pieces.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder / "own_pieces.py"
    sys.modules.pop("own_pieces", None)


OWN = {
    "defenses": ["ce", {"name": "own_pieces:Doubled", "factor": 3, "inner": {"steps": 1}}],
    "attacks": ["fgsm", "own_pieces:Gray", {"name": "own_pieces:Gray", "eps": "8/255", "label": "gray-8"}],
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "val_fraction": 0.2,
        "extensions": ["ema", {"name": "awp", "gamma": 0.01}],
    },
}


def test_classes_of_the_users_own_are_configured_as_ours_are(own):
    spec = StudySpec.model_validate(OWN)
    doubled = spec.defenses[1]
    assert (doubled.name, doubled.title) == ("own_pieces:Doubled", "doubled")
    assert (doubled.defense.factor, doubled.defense.inner.steps) == (3.0, 1)
    assert [entry.label for entry in spec.attacks] == ["fgsm", "gray", "gray-8"]
    assert [entry.attack.eps for entry in spec.attacks[1:]] == [5 / 255, 8 / 255]
    assert [type(one).__name__ for one in spec.training.loop_extensions] == ["EMA", "AWP"]
    assert spec.training.loop_extensions[1].gamma == 0.01
    assert StudySpec.model_validate(yaml.safe_load(yaml.safe_dump(spec.resolved()))) == spec


def test_the_command_line_takes_them_too(own):
    assert parse_defense("{name: own_pieces:Doubled, factor: 5}").defense.factor == 5
    assert set(parse_attacks(["own_pieces:Gray"])) == {"gray"}


def test_packages_of_a_study_are_those_of_its_own_classes(own):
    spec = StudySpec.model_validate({**OWN, "model": {"name": "torch.nn:Flatten"}})
    assert packages_of(spec) == [own]
    assert packages_of(StudySpec()) == []


@pytest.mark.parametrize(
    ("key", "entry", "words"),
    [
        ("attacks", "no_such_pieces:Gray", "attacks.0: there is no module no_such_pieces; install it"),
        ("attacks", "own_pieces:Grey", "attacks.0: own_pieces has no Grey; did you mean Gray?"),
        (
            "attacks",
            "own_pieces.py:Gray",
            "attacks.0: own_pieces.py:Gray is not of the form package.module:Class;",
        ),
        ("attacks", "own_pieces:function", "attacks.0: own_pieces:function is a function; give a dataclass"),
        ("attacks", "own_pieces:NUMBER", "attacks.0: own_pieces:NUMBER is an int; give a dataclass"),
        ("attacks", "own_pieces:Undecorated", "attacks.0: own_pieces:Undecorated is not a dataclass; decorate it"),
        ("attacks", {"name": "own_pieces:Gray", "epz": 1}, "attacks.0: own_pieces:Gray has no field epz; did you mean"),
        ("attacks", {"name": "own_pieces:Gray", "eps": "wide"}, "attacks.0.eps: "),
        ("attacks", {"name": "own_pieces:Gray", "eps": True}, "attacks.0: eps is true; it must not be true or false"),
        ("attacks", "own_pieces:NoCall", "attacks.0: own_pieces:NoCall has no __call__"),
        ("attacks", "own_pieces:NoEps", "attacks.0: own_pieces:NoEps has no eps; add the field eps"),
        ("attacks", "own_pieces:Fails", "attacks.0: own_pieces:Fails raised KeyError: 'size'"),
        ("attacks", {"name": "own_pieces:Judges", "size": 3}, "attacks.0: size is 3; it must be even"),
        ("attacks", {"name": "own_pieces:Gray", "label": "a/b"}, "attacks.0: label a/b may contain only letters"),
        ("attacks", "own_pieces:Thawed", "attacks.0: own_pieces:Thawed is not hashable"),
        ("attacks", "own_pieces:OnDisk", "attacks.0: a field of own_pieces:OnDisk cannot be written as YAML"),
        ("defenses", "own_pieces:Gray", "defenses.0: the defense Gray has no at_eps_share; derive it from"),
        (
            "defenses",
            "own_pieces:AnyInner",
            "defenses.0: the fields of own_pieces:AnyInner have types that YAML cannot",
        ),
        ("defenses", "own_pieces:", "defenses.0: own_pieces: is not of the form package.module:Class"),
        (
            "training.extensions",
            "own_pieces:Gray",
            "training.extensions.0: the extension Gray must be a dataclass that",
        ),
        (
            "training.extensions",
            "emma",
            "training.extensions.0: unknown extension emma (did you mean ema?); choose",
        ),
        ("training.extensions", {"name": "ema", "decoy": 1}, "training.extensions.0: ema has no field decoy; did you"),
        ("training.extensions", {"name": "ema", "decay": 2}, "training.extensions.0: decay is 2"),
    ],
)
def test_what_is_wrong_with_a_class_is_said_in_one_sentence_that_names_the_key(own, key, entry, words):
    with pytest.raises(MirstError) as caught:
        load_spec(None, [f"{key}={yaml.safe_dump([entry], default_flow_style=True)}"])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_extension_is_listed_once(own):
    with pytest.raises(MirstError, match="extensions lists ema twice; remove one"):
        load_spec(None, ["training.extensions=[ema, ema]"])


@pytest.fixture
def ran(own, phantoms, small_yaml, tmp_path):
    """A study of own classes, run in a worker process, as its results folder and its spec."""
    study = {**yaml.safe_load(small_yaml.read_text()), **OWN, "seeds": [0], "model": {"name": "own_pieces:net"}}
    study["training"] = {**OWN["training"], "extensions": ["own_pieces:Averaged", "awp"]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(study))
    spec = load_spec(tmp_path / "own.yaml", [f"data.path={phantoms}"])
    run_study(spec, tmp_path / "results", engine=Local(1))
    return tmp_path / "results", spec


def test_a_study_of_own_classes_runs_resumes_and_is_read_without_them(ran, own, tmp_path):
    """Reading a results folder imports nothing that it names: the module would leave a mark, and fail."""
    folder, spec = ran
    outcomes = (folder / "outcomes.csv").read_bytes()
    assert {"fgsm", "gray", "gray-8"} < set(read_results(folder).outcomes["attack"])
    before = sorted(folder.glob("trials/*/outcomes.csv"))
    run_study(spec, folder, engine=Local(1))  # nothing is left to do
    assert (folder / "outcomes.csv").read_bytes() == outcomes
    assert len(before) == 4

    mark = tmp_path / "mark"
    own.write_text(f"open({str(mark)!r}, 'w').close()\nraise RuntimeError('this code was run')\n")
    sys.modules.pop("own_pieces")
    shutil.copytree(folder, tmp_path / "other")
    results = read_results(folder)
    assert results.spec.resolved() == spec.with_channels(1).resolved()
    assert results.spec.defenses[1].defense == read_spec(StudyFolder(tmp_path / "other")).defenses[1].defense
    assert {one.state for one in study_status(folder).trials} == {"done"}
    write_report(folder)
    write_comparison(folder, tmp_path / "other", tmp_path / "two.html", lambda _: None)
    assert not mark.exists()
    assert "own_pieces" not in sys.modules
    with pytest.raises(MirstError, match="own_pieces:Gray is not imported from a results folder"):
        results.spec.attacks[1].attack(None, None, None)
    with pytest.raises(MirstError, match="this code was run"):  # a study that the user names is trusted
        load_spec(folder / "study.yaml")
    assert mark.exists()


def test_an_attack_in_a_results_folder_needs_an_eps(tmp_path):
    (tmp_path / "study.yaml").write_text("attacks: ['own_pieces:Gray']")
    with pytest.raises(MirstError, match=r"attacks\.0: own_pieces:Gray has no eps"):
        read_spec(StudyFolder(tmp_path))


def test_ours_are_read_from_a_results_folder_as_ever(tmp_path):
    (tmp_path / "study.yaml").write_text("attacks: [{name: pgd, steps: 3}]\ntraining: {extensions: [ema]}")
    spec = read_spec(StudyFolder(tmp_path))
    assert spec.attacks[0].attack == PGD(steps=3)
    assert [type(one).__name__ for one in spec.training.loop_extensions] == ["EMA"]
