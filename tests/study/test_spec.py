import re
from pathlib import Path

import pytest
import yaml

from mirst.attacks import PGD
from mirst.defenses import AT, CE, GR, MIRST, RST, TRADES
from mirst.errors import MirstError
from mirst.study import SHIPPED, StudySpec, load_spec, parse_attacks, parse_defense, shipped_studies


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_studies_load_and_read_back(path):
    spec = load_spec(path)
    assert StudySpec.model_validate(yaml.safe_load(yaml.safe_dump(spec.resolved()))) == spec


def test_a_shipped_study_is_found_by_its_name_unless_a_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_spec("leakage") == load_spec(SHIPPED / "leakage.yaml")
    Path("leakage").mkdir()
    assert load_spec("leakage").folds.kind == "random"
    Path("leakage").rmdir()
    Path("leakage").write_text("defenses: [gr]")
    assert [entry.name for entry in load_spec("leakage").defenses] == ["gr"]
    for wrong, words in (
        ("bsui-small", "does not exist; did you mean busi-small\\?"),
        ("studies/busi-small.yaml", "does not exist; did you mean busi-small\\?"),
        ("qqq", "does not exist; give a YAML file, or a name that mirst studies lists$"),
    ):
        with pytest.raises(MirstError, match=words):
            load_spec(wrong)


def test_every_shipped_study_is_told_in_a_line():
    told = shipped_studies()
    assert set(told) == {path.stem for path in SHIPPED.glob("*.yaml")} > {"busi-small", "paper-table1"}
    assert {len(line) < 100 and line[0].isupper() and line.endswith(".") for line in told.values()} == {True}


PAPER_COLUMNS = {
    1: ["ce", "rst", "mirst"],
    2: ["ce", "gr", "at", "llr", "trades", "rst", "mirst"],
    3: ["rst", "rst+dm", "mirst", "mirst+dm"],
}


@pytest.mark.parametrize("table", PAPER_COLUMNS)
def test_the_papers_tables_have_the_papers_settings(table):
    spec = load_spec(SHIPPED / f"paper-table{table}.yaml")
    assert (spec.model.name, spec.data.size, spec.folds.count, spec.folds.kind) == ("resnet50", 224, 5, "random")
    training = spec.training
    assert (training.epochs, training.batch_size, training.lr, training.schedule) == (100, 8, 1e-4, "constant")
    assert (training.select, training.threshold, training.warmup, training.ramp) == ("last", "argmax", 0, 0)
    assert spec.model.weights == ("imagenet" if table == 1 else "simclr-imagenet")
    assert [entry.title for entry in spec.defenses] == PAPER_COLUMNS[table]
    weights = {entry.label: entry.defense for entry in spec.defenses}
    for name, own in weights.items():
        assert own == {"ce": CE(), "gr": GR(weight=1), "at": AT(), "trades": TRADES(weight=1)}.get(name, own)
        assert getattr(own, "alpha", 1) == 1
        assert (getattr(own, "linearity_weight", 3), getattr(own, "gradient_weight", 4)) == (3, 4)
    steps = {entry.label: (entry.attack.eps, getattr(entry.attack, "steps", 1)) for entry in spec.attacks}
    assert steps == {"fgsm": (5 / 255, 1), "pgd": (5 / 255, 20), "cw": (5 / 255, 10)}


@pytest.mark.parametrize("table", PAPER_COLUMNS)
def test_the_small_tables_have_the_papers_columns_on_group_folds(table):
    spec = load_spec(SHIPPED / f"small-table{table}.yaml")
    assert [entry.title for entry in spec.defenses] == PAPER_COLUMNS[table]
    assert spec.folds.kind == "group"
    assert len(spec.seeds) >= 2
    assert spec.attacks == load_spec(SHIPPED / f"paper-table{table}.yaml").attacks


def test_fields_reach_the_dataclasses(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        """
        defenses:
          - rst
          - {name: mirst, drop_max: true, eps: 8/255, instances: [10, 4], weights: [0.5, 0.5], label: spread}
        attacks: [pgd, {name: pgd, label: pgd-8, eps: 8/255, steps: 40}]
        """
    )
    spec = load_spec(path)
    assert [entry.title for entry in spec.defenses] == ["rst", "spread+dm"]
    assert spec.defenses[0].defense == RST()
    assert spec.defenses[1].defense == MIRST(eps=8 / 255, instances=(10, 4), weights=(0.5, 0.5))
    assert spec.attacks[1].attack == PGD(eps=8 / 255, steps=40)


@pytest.mark.parametrize(
    "threshold",
    [
        "argmax",
        "youden",
        {"sensitivity": 0.95},
        {"specificity": 1},
        {"robust": "youden"},
        {"robust": {"sensitivity": 0.9}},
    ],
    ids=str,
)
def test_an_operating_point_survives_the_file(tmp_path, threshold):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"training": {"threshold": threshold, "select": "best_robust_auc"}}))
    spec = load_spec(path)
    assert spec.training.threshold == threshold
    assert spec.training.select == "best_robust_auc"
    path.write_text(yaml.safe_dump(spec.resolved()))
    assert load_spec(path) == spec


def test_a_fused_box_has_a_bound(small_yaml):
    bounds = {"": None, "model.box=none": None, "model.box=fused": 1.5, "model={box: fused, bound: 2}": 2.0}
    for override, bound in bounds.items():
        spec = load_spec(small_yaml, ["data.view=lesion", *([override] if override else [])])
        assert spec.model.bound == bound
        assert StudySpec.model_validate(yaml.safe_load(yaml.safe_dump(spec.resolved()))) == spec


def test_overrides(small_yaml):
    spec = load_spec(small_yaml, ["training.epochs=5", "seeds=[7]", "defenses=[ce]", "model.name=resnet18"])
    assert (spec.training.epochs, spec.seeds, spec.model.name) == (5, (7,), "resnet18")
    assert [entry.title for entry in spec.defenses] == ["ce"]
    assert spec.training.batch_size == 8


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=5", "unknown key training.epoch; did you mean epochs?"),
        ("trainig.epochs=5", "unknown key trainig; did you mean training?"),
        ("data=3", "data: it must have keys (it is 3)"),
        ("training=3", "training: it must have keys (it is 3)"),
        ("data.extra=[busi]", "data.extra.0: it must have keys (it is 'busi')"),
        ("data.extra=[{path: 3}]", "data.extra.0.path: it must be a path (it is 3)"),
        ("data.extra=[{path: busi, labels: 3}]", "data.extra.0.labels: it must have keys"),
        ("data.extra=[{path: busi, source: ''}]", "data.extra.0.source: string should have at least 1 character"),
        ("data.extra=busi", "data.extra: it must be a list (it is 'busi')"),
        ("data.extra=[{path: busi, label: {}}]", "unknown key data.extra.0.label; did you mean labels?"),
        ("data.sise=64", "unknown key data.sise; did you mean size?"),
        ("training.epochs=0", "training: epochs is 0"),
        ("training.epochs=many", "training.epochs: "),
        ("training.lr=-1", "lr is -1.0"),
        ("training.val_fraction=0.9", "val_fraction is 0.9"),
        ("training={select: best_robust, val_fraction: 0}", "need validation images"),
        (
            "training={threshold: {robust: youden}, val_fraction: 0}",
            "select=last and threshold={robust: youden} need validation images",
        ),
        ("training.threshold=Youden", "training: threshold is Youden; choose argmax, youden, {sensitivity: 0.95}"),
        ("training.threshold=true", "training: threshold is true; it must not be true or false"),
        ("training.threshold.sensitivity=95", "training: threshold has sensitivity 95; it must be a number above 0"),
        ("training.threshold={robust: argmax}", "training: threshold is {'robust': 'argmax'}; choose argmax"),
        ("training.label_smoothing=1", "training: label_smoothing is 1"),
        ("training.label_smoothing=true", "label_smoothing is true; it must not be true or false"),
        ("training.select=best", "training.select: "),
        ("defenses=[{name: rst, eps: -0.1}]", "defenses.0: eps is -0.1"),
        ("defenses=[{name: rst, epss: 0.1}]", "defenses.0: rst has no field epss; did you mean eps?"),
        ("defenses=[{name: rst, steps: 1.5}]", "defenses.0.steps: "),
        ("defenses=[nothing]", "defenses.0: unknown defense nothing; choose ce, gr, at, llr, trades, rst, mirst"),
        ("defenses=[ce, ce]", "defenses lists ce twice"),
        ("defenses=[{name: ce, label: a/b}]", "label a/b may contain only letters"),
        ("defenses=[]", "defenses: "),
        ("defenses=ce", "defenses: "),
        ("attacks=[pgd, {name: pgd, steps: 50}]", "attacks lists pgd twice"),
        ("attacks=[{name: pgd, eps: 5/0}]", "attacks.0.eps: "),
        ("attacks=[{name: pgd, label: none}]", "label none"),
        ("data.ordinal=true", "ordinal is true, but no order is given; list all classes in their order in classes"),
        ("model.bound=1", "bound is for box: fused; add box: fused, or leave it out"),
        ("model={box: fused, bound: 0}", "model.bound: "),
        ("model={box: fused, bound: .inf}", "model.bound: "),
        ("model={box: fused, bound: true}", "model: bound is true"),
        ("model.box=mask", "model.box: "),
        ("model.box=fused", "model.box is fused, and data.view is whole; set data.view to lesion, or box to none"),
        ("folds.kind=patient", "folds.kind: "),
        ("folds.count=1", "folds: count is 1; cross-validation needs at least 2"),
        ("seeds=[]", "seeds: "),
        ("seeds=[1, 1]", "seeds lists 1 twice"),
        ("seeds=[-1]", "seeds.0: "),
        ("nonsense", "--set nonsense: write it as key=value"),
        ("defenses.0.eps=1", "has no sub-keys; set"),
        ("data.path=[", "not a valid YAML value"),
    ],
)
def test_bad_values_get_one_sentence_that_names_the_key(small_yaml, override, words):
    with pytest.raises(MirstError, match=re.escape(words)) as caught:
        load_spec(small_yaml, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["images", "./images", "../studies/images", "sub/set.npz"])
def test_a_relative_path_of_data_is_resolved_from_the_folder_of_the_yaml(tmp_path, monkeypatch, given):
    (tmp_path / "studies").mkdir()
    (tmp_path / "elsewhere").mkdir()
    text = {"one": f"data: {{path: {given}}}", "two": f"data: {{sources: [{{path: {given}}}, {{path: /b}}]}}"}
    for name, content in text.items():
        (tmp_path / "studies" / f"{name}.yaml").write_text(content)
    for start, folder in ((tmp_path, "studies"), (tmp_path / "studies", "."), (tmp_path / "elsewhere", "../studies")):
        monkeypatch.chdir(start)
        one, two = (load_spec(Path(folder, f"{name}.yaml")).data for name in text)
        for path in (one.path, two.sources[0].path):
            assert path.is_absolute()
            assert path.resolve() == (tmp_path / "studies" / given).resolve()
        assert two.sources[1].path == Path("/b")


def test_paths_of_the_command_line_are_relative_to_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "s.yaml").write_text("data: {path: images}")
    monkeypatch.chdir(tmp_path)
    study = Path("studies/s.yaml")
    assert load_spec(study, ["data.path=other"]).data.path == tmp_path / "other"
    assert load_spec(study, ["data={sources: [{path: other}]}"]).data.sources[0].path == tmp_path / "other"
    assert load_spec(study).with_data(Path("other")).data.path == tmp_path / "other"
    assert load_spec(study).with_data(None).data.path == tmp_path / "studies" / "images"


NAMES = [
    "yes",
    "no",
    "on",
    "off",
    "true",
    "False",
    "y",
    "1",
    "0",
    "01",
    "1.0",
    "1e3",
    "0x1F",
    "1_000",
    "2020-01-01",
    "12:30:00",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes_are_texts(tmp_path, name):
    (tmp_path / "s.yaml").write_text(
        f"data: {{classes: [{name}, other], positive: {name}, relabel: {{a.png: {name}, b.png: null}}}}\n"
        f"training: {{augment: yes, epochs: 12}}"
    )
    (tmp_path / "t.yaml").write_text(f"data: {{sources: [{{path: x, labels: {{{name}: {name}, other: null}}}}]}}")
    spec = load_spec(tmp_path / "s.yaml")
    assert spec.data.classes == (name, "other")
    assert spec.data.positive == name
    assert spec.data.relabel == {"a.png": name, "b.png": None}
    assert spec.training.augment is True
    assert spec.training.epochs == 12
    assert load_spec(tmp_path / "t.yaml").data.sources[0].labels == {name: name, "other": None}
    line = load_spec(None, [f"data.positive={name}", f"data.classes=[{name}, b]", f"data.relabel={{a: {name}}}"]).data
    assert (line.positive, line.classes, line.relabel) == (name, (name, "b"), {"a": name})
    assert StudySpec.model_validate(yaml.safe_load(yaml.safe_dump(spec.resolved()))) == spec


def test_what_is_given_instead_of_a_study_gets_the_mend(tmp_path):
    (tmp_path / "small.yaml").write_text("")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "study.yaml").write_text("")
    (tmp_path / "list.csv").write_text("path,label\na.png,a\n")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    for name, words in (
        (".", rf"is a folder, not a study; .*--data {tmp_path}"),
        ("results", "is a results folder, not a study; give the study in it"),
        ("smal.yaml", rf"study {tmp_path / 'smal.yaml'} does not exist; did you mean small\.yaml"),
        ("small", "did you mean small.yaml"),
        ("no/where.yaml", rf"study {tmp_path / 'no/where.yaml'} does not exist; give a YAML file"),
        ("list.csv", "--data"),
        ("a.png", "not valid YAML: .*--data"),
    ):
        with pytest.raises(MirstError, match=words):
            load_spec(tmp_path / name)


def test_files_that_are_no_study_get_a_sentence(tmp_path):
    with pytest.raises(MirstError, match=r"missing\.yaml"):
        load_spec(tmp_path / "missing.yaml")
    for text, words in (
        ("- 1", "must contain keys"),
        ("a: [", "not valid YAML"),
        ("!!python/object:os.x {}", "not valid YAML"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(MirstError, match=words):
            load_spec(tmp_path / "bad.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert load_spec(tmp_path / "empty.yaml") == StudySpec()


def test_the_command_lines_short_forms():
    entry = parse_defense("{name: rst, alpha: 2}", drop_max=True)
    assert (entry.title, entry.defense) == ("rst+dm", RST(alpha=2.0))
    assert parse_attacks(["pgd", "{name: pgd, steps: 5, label: short}"]) == {"pgd": PGD(), "short": PGD(steps=5)}
    for call in (
        lambda: parse_defense("foo"),
        lambda: parse_defense("{name: rst, eps: -1}"),
        lambda: parse_defense("["),
        lambda: parse_attacks(["pgd", "pgd"]),
        lambda: parse_attacks(["{name: pgd, steps: x}"]),
    ):
        with pytest.raises(MirstError):
            call()


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs=true",
        "training.lr=true",
        "training.warmup=false",
        "training.batch_size=true",
        "training.threads=true",
        "data.size=true",
        "data.channels=true",
        "folds.count=true",
        "folds.seed=false",
        "seeds=[true]",
        "seeds=[0, true]",
        "defenses=[{name: rst, steps: true}]",
        "defenses=[{name: rst, alpha: true}]",
        "defenses=[{name: mirst, instances: [true, 2], weights: [0.5, 0.5]}]",
        "attacks=[{name: pgd, steps: true}]",
        "attacks=[{name: pgd, eps: true}]",
    ],
)
def test_a_boolean_is_not_a_number(small_yaml, override):
    with pytest.raises(MirstError, match=rf"{override.split('=')[0].split('.')[0]}.* must not be true or false"):
        load_spec(small_yaml, [override])


def test_booleans_stay_where_they_belong(small_yaml):
    given = ["training.augment=false", "training.fast=false", "attacks=[{name: pgd, random_start: true}]"]
    spec = load_spec(small_yaml, [*given, "defenses=[{name: rst, drop_max: true}]"])
    assert (spec.training.augment, spec.training.fast, spec.defenses[0].drop_max) == (False, False, True)
    assert spec.attacks[0].attack.random_start is True


@pytest.mark.parametrize(
    ("override", "twice"),
    [
        ("data.classes=[benign, benign, malignant]", "classes lists benign"),
        ("data.classes=[a, b, a, b]", "classes lists a, b"),
        ("seeds=[1, 1]", "seeds lists 1"),
        ("attacks=[pgd, pgd]", "attacks lists pgd"),
    ],
)
def test_what_is_listed_twice_is_refused(small_yaml, override, twice):
    with pytest.raises(MirstError, match=f"{twice} twice; remove one"):
        load_spec(small_yaml, [override])


@pytest.mark.parametrize("key", ["data.path", "out", "reuse", "data.sources", "model.weights"])
def test_an_empty_path_is_refused(small_yaml, key):
    value = {"reuse": "['']", "data.sources": "[{path: ''}]"}.get(key, "''")
    with pytest.raises(MirstError, match=rf"{key.split('.')[0]}.*(empty|at least 1 character)"):
        load_spec(small_yaml, [f"{key}={value}"])
