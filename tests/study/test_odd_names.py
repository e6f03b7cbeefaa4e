"""A whole study on images, groups and classes that are called as an attacker would call them."""

import csv
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mirst.data import audit_records, read_dataset, write_phantoms, write_prepared
from mirst.evaluation import evaluate_on
from mirst.files import write_csv
from mirst.nn import build_model, load_model
from mirst.report import write_audit, write_comparison, write_report
from mirst.study import Local, attack_study, corrupt_study, load_spec, measure_distances, parse_attacks, run_study
from mirst.study.results import read_results

TAG = "<img src=x onerror=alert(1)>"
ODD = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-x",
    "@x",
    TAG,
    "a;=1+1",
    "</script><script>alert(1)</script>",
    "$\\frac{",
    "tab\tbed",
)
"""Beginnings of the names of images."""
BENIGN, MALIGNANT = f"benign {TAG} $\\frac$ |", f"malignant {TAG} $\\frac$ |"
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def own_net(in_channels, num_classes):
    """A factory: the study's own may be run without being trusted again."""
    return build_model("resnet_tiny", in_channels, num_classes)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    write_phantoms(folder / "plain", 6, seed=0)
    rows = [("path", "label", "group", "source")]
    for number, path in enumerate(sorted(folder.glob("plain/*/*.png"))):
        name = Path(f"{ODD[number % len(ODD)]} {number}.png")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name)
        label = BENIGN if path.parent.name == "benign" else MALIGNANT
        rows.append((str(name), label, f"@{TAG} {number}", f"-{TAG}"))
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "list.csv"


@pytest.fixture(scope="module")
def study(manifest, small_yaml, tmp_path_factory):
    """All that can be made of a study, with its tables and pages."""
    out = tmp_path_factory.mktemp("results") / "study"
    told = {"positive": MALIGNANT, "relabel": {"=cmd|' /C calc'!A0 0.png": MALIGNANT}}
    own = [f"data.{key}={json.dumps(value)}" for key, value in told.items()]
    plain = [
        f"data.path={manifest}",
        f"model.name={__name__}:own_net",
        "seeds=[0]",
        "training.epochs=1",
        "defenses=[ce]",
    ]
    run_study(load_spec(small_yaml, [*own, *plain]), out, engine=Local(1))
    measure_distances(out, engine=Local(1))
    attack_study(out, "adaptive", [4 / 255], engine=Local(1))
    corrupt_study(out)
    write_report(out)
    write_comparison(out, shutil.copytree(out, out.with_name("twin")), out / "two.html")
    write_audit(audit_records(read_dataset(manifest)), out / "audit")
    model, card = load_model(out / "trials" / "ce-fold0-seed0" / "model.safetensors", f"{__name__}:own_net")
    write_csv(out / "evaluated.csv", evaluate_on(model, card, manifest, parse_attacks(["fgsm"])))
    write_prepared(read_dataset(manifest), out / "prepared", 32)
    return out


def test_no_cell_of_any_csv_is_a_formula(study):
    tables = sorted(study.rglob("*.csv"))
    assert {"outcomes.csv", "distances.csv", "adaptive.csv", "groups.csv", "records.csv"} <= {
        path.name for path in tables
    }
    texts = 0
    for path in tables:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                for cell in row:
                    for part in cell.replace("\n", ";").split(";"):
                        if part.startswith(FORMULAS):
                            float(part)
                    texts += cell.startswith("'")
    assert texts > 100


def test_numbers_and_joins_are_those_of_plain_names(study):
    results = read_results(study)
    assert set(results.outcomes["label"]) == {BENIGN, MALIGNANT}
    assert results.outcomes["image"].nunique() == 12
    of_each = results.outcomes.groupby("image").size()
    assert of_each.nunique() == 1
    merged = results.distances.merge(
        results.outcomes[results.outcomes["attack"] == "none"], on=["source", "image", "fold"]
    )
    assert len(merged) == 12
    assert json.loads((study / "run.json").read_text())["data"]["per_class"] == {BENIGN: 5, MALIGNANT: 7}


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.handlers, self.sources, self.scripts = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.sources += [value for name, value in attrs if name in ("src", "href")]


def test_every_page_shows_names_and_obeys_none(study):
    pages = sorted(study.rglob("*.html"))
    assert [page.name for page in pages] == ["audit.html", "report.html", "two.html"]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        tags = Tags()
        tags.feed(text)
        assert tags.handlers == []
        assert tags.scripts <= 1
        assert all(source.startswith(("data:", "#")) for source in tags.sources)
        assert "<img src=x" not in text
        assert page.name == "two.html" or "&lt;img src=x onerror=alert(1)&gt;" in text
        assert "default-src 'none'" in text
