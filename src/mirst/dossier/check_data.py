"""Labels, groups, folds, fingerprint and baselines as mirst makes them of the data set."""

from pathlib import Path

import pandas as pd

from mirst.dossier.answers import Answer, Verdict, judged
from mirst.dossier.check_tables import difference
from mirst.dossier.image_table import image_table, keys_of
from mirst.errors import MirstError
from mirst.files import as_named, write_csv
from mirst.study.baselines import write_baselines
from mirst.study.layout import StudyFolder
from mirst.study.prepared import Prepared, prepare
from mirst.study.results import Results
from mirst.study.spec import StudySpec
from mirst.study.spec_sections import ModelSpec, SourceSpec

COMPARED = ("label", "group", "fold", "split", "file", "item", "value_range", "box")


def check_data(results: Results, images: Path, data: Path, *, same_packages: bool) -> list[Answer]:
    """Read the data set as the study did, and compare what `images.csv` says of each image.

    Args:
        images: `images.csv`. The baselines in the folder of `results` are computed again.
    """
    stated = pd.read_csv(images, dtype=str, keep_default_na=False)
    sources = sorted(set(stated["source"]))
    if len(sources) > 1:
        return [Answer(Verdict.UNCHECKED, "data set", "the study merges several data sets, and --data names one")]
    try:
        prepared = prepare(_of_data(results.spec, data.absolute(), as_named(sources[0])))
    except MirstError as error:
        return [Answer(Verdict.UNCHECKED, "data set", f"{data} is not read as the study's data set ({error})")]
    own = images.with_name("own-images.csv")
    write_csv(own, image_table(prepared))
    found = pd.read_csv(own, dtype=str, keep_default_na=False)
    own.unlink()
    ours, theirs = set(keys_of(found)), set(keys_of(stated))
    if ours != theirs:
        detail = (
            f"{data} has {len(ours - theirs)} images that are not in the dossier by name, and lacks "
            f"{len(theirs - ours)} that are"
        )
        return [Answer(Verdict.UNCHECKED, "data set", detail)]
    faults = _differences(stated, found)
    if results.run["data"]["fingerprint"] != prepared.fingerprint:
        faults.append("run.json has another fingerprint than the data set")
    if faults and not same_packages:
        detail = f"with the versions that are installed here {faults[0]}"
        return [Answer(Verdict.UNCHECKED, "data set", detail)]
    answers = [judged("data set", faults, Verdict.RECOMPUTED, "labels, groups, folds and fingerprint follow from it")]
    return answers if faults or results.baselines is None else [*answers, _check_baselines(results.files, prepared)]


def _differences(stated: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Where a dossier says something else of an image than the data set; both tables have the same images."""
    if keys_of(stated) != keys_of(found):
        return ["images.csv has the images in another order than the data set"]
    return [
        f"{name} has the {column} {before}, but {now} in the data set"
        for column in COMPARED
        for name, before, now in zip(stated["image"], stated[column], found[column], strict=True)
        if before != now
    ]


def _of_data(spec: StudySpec, data: Path, source: str) -> StudySpec:
    """The study on `data`, with mirst's own network, so that no code or file that it names is used.

    Args:
        source: what the study calls the data set; a class folder is called by the name of the folder, which may differ.
    """
    labels = spec.data.sources[0].labels if spec.data.sources else None
    own = SourceSpec(path=data, labels=labels, source=source)
    settings = spec.data.model_copy(update={"path": None, "sources": (own,), "extra": ()})
    return spec.model_copy(update={"model": ModelSpec(), "data": settings})


def _check_baselines(study: StudyFolder, prepared: Prepared) -> Answer:
    stated = study.baselines.rename(study.path / "stated-baselines.csv")
    write_baselines(study, prepared)
    faults = difference(stated, study.baselines)
    stated.unlink()
    return judged("baselines", faults, Verdict.RECOMPUTED, "their rows follow from the data set")
