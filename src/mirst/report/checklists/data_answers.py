"""Answers on the data: their sources, preparation, parts and cases."""

from pathlib import Path

from mirst.data import MOST_VALUES, SPLIT_LEAK
from mirst.data.record import natural
from mirst.nn.checkpoint import view_in_words
from mirst.report.checklists.items import Answer, Evidence, counts, table
from mirst.report.context import listed
from mirst.report.subgroups import TOO_FEW, subgroup_names
from mirst.study.layout import StudyFolder

_FILES = StudyFolder(Path())
RUN, STUDY, OUTCOMES = _FILES.run.name, _FILES.spec.name, _FILES.outcomes.name
RECORDS, SUMMARY, REPORT = _FILES.records.name, _FILES.summary.name, _FILES.report.name


def sources(study: Evidence) -> Answer:
    data = study.results.run["data"]
    names = sorted(study.results.outcomes["source"].unique())
    extra = study.results.spec.data.extra
    more = f" {len(extra)} further data set(s) are used for training alone." if extra else ""
    return Answer(
        f"{data['images']} images in {data['groups']} groups from {listed(names)}; the fingerprint of the data is "
        f"{data['fingerprint'][:16]}.{more}",
        [RUN, STUDY],
    )


def preprocessing(study: Evidence) -> Answer:
    data = study.results.spec.data
    colours: dict[object, str] = {1: ", in gray", 3: ", in colour"}
    return Answer(
        f"Models see {view_in_words(data.view, data.margin)}, at {data.size} x {data.size} pixels"
        f"{colours.get(data.channels, '')}, with values scaled to 0 to 1.",
        [STUDY],
    )


def quality(study: Evidence) -> Answer:
    audit = study.results.run["data"]["audit"]
    return Answer(" ".join([preprocessing(study).sentence, "The audit says:", *audit]), [STUDY, RUN])


def partitions(study: Evidence) -> Answer:
    spec = study.results.spec
    how = {
        "group": "every group stays in one part",
        "random": "images are assigned one by one",
        "given": "the data set gives the split",
    }[spec.folds.kind]
    validation = f" {spec.training.val_fraction:.0%} of each training part is set aside for validation.".replace(
        "%", " %"
    )
    seeds = spec.seeds if study.results.origin is None else study.results.origin.seeds
    held_out = f" The images of the split {spec.folds.held_out} are in no fold." if spec.folds.held_out else ""
    return Answer(
        f"{spec.folds.in_words}, drawn with seed {spec.folds.seed}: {how}.{validation}{held_out} Every way of "
        f"training is repeated on each fold with {len(seeds)} seed(s).",
        [STUDY],
    )


def disjoint(study: Evidence) -> Answer:
    """Of folds, as the rows show it; of a given split into two parts, as the audit says."""
    leaks = [sentence for sentence in study.results.run["data"]["audit"] if sentence.startswith(SPLIT_LEAK)]
    if leaks:
        return Answer(" ".join(leaks), [RUN])
    if study.results.spec.folds.count == 1:
        return Answer("The audit finds no group, and no copy of an image, in several parts of the given split.", [RUN])
    folds = study.results.outcomes.groupby("group")["fold"].nunique()
    shared = int((folds > 1).sum())
    if shared:
        return Answer(
            f"Images: {shared} of {len(folds)} groups have images in the test parts of several folds, so "
            "training and test parts share them, and the numbers are too high.",
            [OUTCOMES],
        )
    return Answer(f"Groups: each of the {len(folds)} groups is in the test part of one fold alone.", [OUTCOMES])


def included(study: Evidence) -> Answer:
    data, spec = study.results.run["data"], study.results.spec.data
    changed = f" data.relabel changes or leaves out {len(spec.relabel)} image(s)." if spec.relabel else ""
    return Answer(
        f"{data['images']} images ({counts(data['per_class'])}) in {data['groups']} groups.{changed}", [RUN, STUDY]
    )


def tested(study: Evidence) -> Answer:
    """The images of each test part."""
    parts = []
    for fold, rows in study.clean.drop_duplicates(["source", "image", "fold"]).groupby("fold"):
        parts.append(f"fold {fold}: {len(rows)} images ({counts(rows['label'].value_counts(sort=False))})")
    return Answer(f"Test parts: {'; '.join(parts)}.", [OUTCOMES])


def internal(study: Evidence) -> Answer:
    images = study.clean.drop_duplicates(["source", "image"])
    found = Answer(
        f"{len(images)} images in {images['group'].nunique()} groups are classified by models that are not trained "
        f"on them ({study.results.spec.folds.in_words}).",
        [OUTCOMES],
    )
    for one in study.externals:
        if one.is_held_out:
            more = f" {one.record['images']} further images, in no fold, are held out for the end."
            return Answer(found.sentence + more, [OUTCOMES, study.place(one.folder.record)])
    return found


def external_cases(study: Evidence) -> Answer | None:
    others = [one for one in study.externals if not one.is_held_out]
    if not others:
        return None
    own = f"The study has {counts(study.results.run['data']['per_class'])}."
    sentences = [
        f"The data set {one.name} has {counts(one.record['per_class'])}; {len(one.record['left_out'])} image(s) of it "
        "are left out, each with its reason in the file."
        for one in others
    ]
    return Answer(" ".join([own, *sentences]), [RUN, *(study.place(one.folder.record) for one in others)])


def characteristics(study: Evidence) -> Answer | None:
    if study.results.attributes is None:
        return None
    sentences = []
    for name, values in study.results.attributes.items():
        found = values.fillna("unknown").value_counts()
        shown = ", ".join(f"{value} ({found[value]})" for value in sorted(found.index, key=natural))
        sentences.append(f"{name}: {shown if len(found) <= MOST_VALUES + 1 else f'{len(found)} values'}.")
    return Answer(" ".join(sentences), [RECORDS])


def by_subgroup(study: Evidence) -> Answer | None:
    if not subgroup_names(study.results):
        return None
    rows = study.numbers("subgroups")
    few = int(rows["value"].isna().sum())
    return Answer(
        f"Metrics of every model, with 95 % intervals, for each value of {listed(subgroup_names(study.results))}; "
        f"{few} of {len(rows)} figures are not given because the images are {TOO_FEW}.",
        [table("subgroups")],
    )
