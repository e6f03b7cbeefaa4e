"""Whoever alters a part of a dossier, and the hashes too, contradicts another part of it."""

import io
import json
import shutil
import struct

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load, save

from mirst.dossier import Answer, Verdict, is_contradicted, verify_dossier
from tests.dossier.conftest import Contents

MODEL, STEPS = "trials/ce-fold0-seed0/model.safetensors", "trials/ce-fold0-seed0/witnesses.safetensors"
ROWS = ("outcomes.csv", "certificates.csv")


def table(contents, name):
    return pd.read_csv(io.BytesIO(contents.files[name]), dtype=str, keep_default_na=False)


def put(contents, name, rows):
    contents.files[name] = rows.to_csv(index=False).encode()


def cell(name, column, change, where=None):
    """Change the first cell of a column, in the rows where `where` holds."""

    def mutate(contents):
        rows = table(contents, name)
        at = rows.index[0] if where is None else rows.index[where(rows)][0]
        rows.loc[at, column] = change(rows.loc[at, column])
        put(contents, name, rows)

    return mutate


def other(label):
    return "malignant" if label == "benign" else "benign"


def attacked_and_wrong(rows):
    clean = rows[rows["attack"] == "none"].set_index("image")["prediction"]
    return (
        (rows["attack"] != "none") & (rows["prediction"] != rows["label"]) & (rows["image"].map(clean) == rows["label"])
    )


def whole_row_lost(contents):
    rows = table(contents, "outcomes.csv")
    put(contents, "outcomes.csv", rows[rows["image"] != rows["image"][0]])


def row_flipped_with_its_score(contents):
    rows = table(contents, "outcomes.csv")
    at = rows.index[attacked_and_wrong(rows)][0]
    rows.loc[at, "prediction"] = rows.loc[at, "label"]
    rows.loc[at, "score"] = str(-float(rows.loc[at, "score"]))
    put(contents, "outcomes.csv", rows)


def everywhere(column, change):
    """Change what every table says of the first image."""

    def mutate(contents):
        name = table(contents, "images.csv")["image"][0]
        for file in ("images.csv", *ROWS):
            rows = table(contents, file)
            own = rows["image"] == name
            rows.loc[own, column] = rows.loc[own, column].map(change)
            put(contents, file, rows)

    return mutate


def folds_swapped_everywhere(contents):
    images = table(contents, "images.csv")
    first = images["image"][images["fold"] == "0"].iloc[0]
    second = images["image"][(images["fold"] == "1") & (images["label"] == images["label"][0])].iloc[0]
    fold = {first: "1", second: "0"}
    for file in ("images.csv", *ROWS):
        rows = table(contents, file)
        rows["fold"] = [fold.get(image, before) for image, before in zip(rows["image"], rows["fold"], strict=True)]
        put(contents, file, rows)


def group_across_folds(contents):
    images = table(contents, "images.csv")
    for file in ("images.csv", *ROWS):
        rows = table(contents, file)
        rows.loc[rows["image"] == images["image"][1], "group"] = images["group"][0]
        rows.loc[rows["image"] == images["image"][0], "group"] = images["group"][0]
        put(contents, file, rows)


def in_tensors(name, change):
    """Change the bytes of the tensors of a safetensors file."""

    def mutate(contents):
        content = contents.files[name]
        start = 8 + struct.unpack("<Q", content[:8])[0]
        contents.files[name] = content[:start] + change(content[start:])

    return mutate


def certified_beyond(contents):
    rows = table(contents, "certificates.csv")
    margin = rows["margin"].astype(float)
    at = margin[(margin < 0) & (rows["label"] == rows["prediction"])].index[0]
    rows.loc[at, ["certified", "margin", "largest_eps"]] = ["True", str(-margin[at]), rows.loc[at, "eps"]]
    rows.loc[at, "score"] = str(-float(rows.loc[at, "score"]))
    put(contents, "certificates.csv", rows)


def fingerprint(contents):
    run = json.loads(contents.files["run.json"])
    run["data"]["fingerprint"] = "0" * 64
    contents.files["run.json"] = json.dumps(run).encode()


def text(name, old, new):
    return lambda contents: contents.edit(name, old, new)


def digit_of(name):
    """Change the first number with decimals."""

    def mutate(contents):
        content = contents.files[name].decode()
        at = content.index("0.") + 2
        digit = "1" if content[at] != "1" else "2"
        contents.files[name] = (content[:at] + digit + content[at + 1 :]).encode()

    return mutate


def digit_after(name, words):
    """Change the first decimal of the number after the words."""

    def mutate(contents):
        content = contents.files[name]
        at = content.index(words.encode()) + len(words.encode()) + 2
        contents.files[name] = content[:at] + (b"1" if content[at : at + 1] != b"1" else b"2") + content[at + 1 :]

    return mutate


OF_EVIDENCE = {
    "prediction of an attacked row": ("claims", cell("outcomes.csv", "prediction", other, attacked_and_wrong)),
    "attacked row with its score": ("claims", row_flipped_with_its_score),
    "score of a row without attack": (
        "rows without attack",
        cell("outcomes.csv", "score", lambda score: str(float(score) + 0.01)),
    ),
    "image left out of the rows": ("rows", whole_row_lost),
    "eps of a row": ("conditions", cell("outcomes.csv", "eps", lambda _: "0.05", lambda rows: rows["attack"] == "pgd")),
    "witness that is none": ("witnesses", in_tensors(STEPS, lambda content: bytes(len(content)))),
    "byte of a witness": ("balls", in_tensors(STEPS, lambda content: b"\x7f" + content[1:])),
    "eps of a witness": ("claims", cell("witnesses.csv", "eps", lambda _: "0.2")),
    "prediction of a witness": ("witnesses", cell("witnesses.csv", "prediction", other)),
    "label of an image": ("rows", cell("images.csv", "label", other)),
    "label everywhere": ("data set", everywhere("label", other)),
    "byte of a weight": (
        "rows without attack",
        in_tensors(MODEL, lambda content: content[:-1] + bytes([content[-1] ^ 0x40])),
    ),
    "operating point": ("decisions", text(MODEL, '"threshold\\": 0.0', '"threshold\\": 0.9')),
    "fold of an image": ("folds", cell("images.csv", "fold", lambda fold: str(1 - int(fold)))),
    "folds of two images everywhere": ("folds", folds_swapped_everywhere),
    "group of an image": ("rows", cell("images.csv", "group", lambda _: "another")),
    "group everywhere": ("data set", everywhere("group", lambda _: "another")),
    "group across folds": ("groups", group_across_folds),
    "certificate": (
        "certificates",
        cell("certificates.csv", "certified", lambda _: "True", lambda rows: rows["certified"] == "False"),
    ),
    "bound of a certificate": ("bounds", cell("certificates.csv", "margin", lambda margin: str(float(margin) + 0.1))),
    "certificate with its bounds": ("bounds", certified_beyond),
    "largest certified eps": ("largest eps", cell("certificates.csv", "largest_eps", lambda _: "0.01")),
    "certified metric of a card": ("certified metrics", digit_after(MODEL, '"accuracy\\": ')),
    "attack of the study": ("conditions", text("study.yaml", "eps: 0.1", "eps: 0.2")),
    "seed of the folds": (
        "folds",
        text("study.yaml", "count: 2\n  kind: group\n  seed: 0", "count: 2\n  kind: group\n  seed: 7"),
    ),
    "fingerprint": ("data set", fingerprint),
    "hash of an image": ("images", cell("images.csv", "pixels", lambda _: "0" * 64)),
}
"""By what is altered: the claim that contradicts it, and how."""
OF_TABLES = {
    "mean of a metric": ("metrics", cell("summary.csv", "mean", lambda mean: str(float(mean) + 0.01))),
    "cell of a table": ("report", digit_of("tables/results.md")),
    "interval": ("report", digit_of("tables/intervals.csv")),
    "verdict": ("report", text("report.html", "do not rely on", "you may rely on")),
    "training of the study": ("report", text("study.yaml", "epochs: 2", "epochs: 9")),
}


def contradicted(mutate, written, data, tmp_path):
    contents = Contents.of(written.path)
    mutate(contents)
    assert contents.files != Contents.of(written.path).files
    answers = verify_dossier(contents.write(tmp_path / "altered.zip", hashes_too=True), data)
    return {answer.claim for answer in answers if answer.verdict == Verdict.CONTRADICTED}


@pytest.mark.parametrize(("claim", "mutate"), OF_EVIDENCE.values(), ids=OF_EVIDENCE)
def test_altered_evidence_is_contradicted_though_all_that_follows_was_made_again(
    claim, mutate, written, phantoms, tmp_path, monkeypatch
):
    """Hashes, metrics and the report follow from the altered evidence, as whoever cheats would have them."""
    monkeypatch.setattr("mirst.dossier.verify.check_summary", lambda *_: Answer(Verdict.RECOMPUTED, "metrics", ""))
    monkeypatch.setattr("mirst.dossier.verify.check_report", lambda *_: [])
    found = contradicted(mutate, written, phantoms, tmp_path)
    assert claim in found
    assert "files" not in found


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize(("claim", "mutate"), OF_TABLES.values(), ids=OF_TABLES)
def test_an_altered_table_or_sentence_is_contradicted(claim, mutate, written, tmp_path):
    assert claim in contradicted(mutate, written, None, tmp_path)


def test_a_success_that_is_left_out_everywhere_is_not_seen(written, phantoms, tmp_path, monkeypatch):
    """What a dossier cannot show: the limit that docs/dossier.md states. Its digest is another one."""
    monkeypatch.setattr("mirst.dossier.verify.check_summary", lambda *_: Answer(Verdict.RECOMPUTED, "metrics", ""))
    monkeypatch.setattr("mirst.dossier.verify.check_report", lambda *_: [])
    contents = Contents.of(written.path)
    rows, witnesses = table(contents, "outcomes.csv"), table(contents, "witnesses.csv")
    image = rows["image"][attacked_and_wrong(rows)].iloc[0]
    own = (rows["image"] == image) & (rows["attack"] != "none")
    rows.loc[own, "prediction"] = rows.loc[own, "label"]
    rows.loc[own, "score"] = rows["score"][(rows["image"] == image) & (rows["attack"] == "none")].iloc[0]
    put(contents, "outcomes.csv", rows)
    put(contents, "witnesses.csv", witnesses[witnesses["image"] != image])
    name = f"trials/ce-fold{rows['fold'][own].iloc[0]}-seed0/witnesses.safetensors"
    mine = witnesses[witnesses["fold"] == rows["fold"][own].iloc[0]].reset_index(drop=True)
    kept = np.flatnonzero(mine["image"] != image)
    contents.files[name] = save({"steps": np.ascontiguousarray(load(contents.files[name])["steps"][kept])})
    answers = verify_dossier(contents.write(tmp_path / "altered.zip", hashes_too=True), phantoms)
    assert not is_contradicted(answers)
    assert written.digest not in answers[0].detail


def test_any_altered_byte_has_another_hash(written, tmp_path):
    contents = Contents.of(written.path)
    others = [name for name in contents.files if name != "manifest.json"]
    for name in others:
        contents.files[name] += b"\n"
    first = verify_dossier(contents.write(tmp_path / "a.zip", hashes_too=False))[0]
    assert is_contradicted([first])
    assert f"(and {len(others) - 1} more)" in first.detail


def test_a_changed_image_is_contradicted(written, phantoms, tmp_path):
    data = shutil.copytree(phantoms, tmp_path / "data")
    path = sorted(data.rglob("*.png"))[0]
    image = Image.open(path)
    image.putpixel((3, 3), 255 - image.getpixel((3, 3)))
    image.save(path)
    answers = verify_dossier(written.path, data)
    assert is_contradicted(answers)
    assert [answer.detail for answer in answers if answer.claim == "other images"] == [
        "1 are not in the folder of --data"
    ]
