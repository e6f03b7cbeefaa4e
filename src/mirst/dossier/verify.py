"""Every claim of a dossier, checked again."""

import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from mirst.data.cache import VERSION as PREPARATION
from mirst.data.inspection import VERSION as AUDIT
from mirst.dossier.answers import Answer, Verdict, judged
from mirst.dossier.check_data import check_data
from mirst.dossier.check_models import ModelChecks
from mirst.dossier.check_rows import (
    check_card_figures,
    check_cards,
    check_certificate_rows,
    check_conditions,
    check_decisions,
)
from mirst.dossier.check_split import check_folds, check_groups, check_rows_of_folds, check_run
from mirst.dossier.check_tables import check_report, check_summary
from mirst.dossier.check_witnesses import check_balls, check_certified, check_claims, read_witnesses
from mirst.dossier.found_images import find_images
from mirst.dossier.image_table import read_image_table
from mirst.dossier.opening import MAX_FILES, Opened, opened
from mirst.dossier.tables import claimed_rows, read_tables
from mirst.errors import MirstError, plain
from mirst.nn import is_factory, load_model, read_card
from mirst.nn.device import default_device
from mirst.study import read_results
from mirst.study.initial_model import channels_of, input_channels
from mirst.study.results import Results, read_spec
from mirst.study.spec import StudySpec
from mirst.study.trial import all_trials

UNLIKE_OURS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What reading files that mirst did not write may raise; `RuntimeError`: an attack within a certified eps."""
NOT_PROVED = (
    "that an attack failed where no certificate is given, scores under attack, the checks for gradient masking, the "
    "training history and the times; they need the attacks or the training"
)


def verify_dossier(archive: str | Path, data: Path | None = None) -> list[Answer]:
    """Check a dossier without attacking or training anything.

    Args:
        data: folder with the images, under whatever names; if it is the data set of the study, labels, groups and
            folds are made of it again.

    Raises:
        MirstError: not a dossier, one that exceeds a bound, or a `data` that does not exist.
    """
    if data is not None and not data.exists():
        raise MirstError(f"{data} does not exist; give the folder with the images of the study")
    with opened(archive) as dossier, TemporaryDirectory() as scratch:
        answers = list[Answer]()
        try:
            for answer in _check(dossier, data, Path(scratch)):
                answers.append(answer)
        except MirstError as error:
            answers.append(Answer(Verdict.CONTRADICTED, "contents", str(error)))
        except UNLIKE_OURS as error:
            detail = plain(f"they are not those of a study ({type(error).__name__}: {error})")
            answers.append(Answer(Verdict.CONTRADICTED, "contents", detail[:500]))
        return answers


def _check(dossier: Opened, data: Path | None, scratch: Path) -> Iterator[Answer]:
    """The answers, as far as one part of the dossier can be read after the other."""
    yield _check_files(dossier)
    _require_few_trials(read_spec(dossier.place))
    results, images = read_results(dossier.place.path), read_image_table(dossier.images)
    spec, tables = results.spec, read_tables(dossier.place)
    trials = [trial for trial in all_trials(spec) if dossier.place.trial(trial.name).model.exists()]
    yield _check_models_there(results, len(trials))
    cards = {trial: read_card(dossier.place.trial(trial.name).model) for trial in trials}
    yield check_groups(spec, images)
    yield check_folds(spec, images, _same(dossier, "scikit-learn", "numpy"))
    yield check_run(spec, images, results.run["data"])
    yield check_rows_of_folds(images, tables)
    yield check_conditions(results)
    yield check_cards(results, cards)
    yield check_decisions(results, cards)
    yield from filter(None, [check_certificate_rows(results, tables.get("certificates"), cards)])
    yield check_card_figures(tables.get("certificates"), cards)
    shape = (input_channels(spec), spec.data.size, spec.data.size)
    witnesses = read_witnesses(dossier.place, trials, shape)
    yield check_balls(witnesses, channels_of(spec))
    yield from check_claims(witnesses, claimed_rows(tables))
    yield from filter(None, [check_certified(witnesses, tables.get("certificates"))])
    yield check_summary(results, scratch)
    yield from check_report(dossier.place.path, scratch)
    folders = [folder for folder in (data, dossier.place.path / "images") if folder is not None and folder.exists()]
    same = dossier.manifest.preparation == PREPARATION and _same(dossier, "pillow", "numpy")
    found, said = find_images(spec, images, folders, same)
    yield from said
    if found is not None:
        checks = ModelChecks(results, tables.get("certificates"), found)
        code = [trial.name for trial in trials if is_factory(cards[trial].model)]
        if code:
            yield Answer(Verdict.UNCHECKED, "models", f"{len(code)} need code that is not in the dossier ({code[0]})")
        for trial in trials:
            if not is_factory(cards[trial].model):
                model, card = load_model(dossier.place.trial(trial.name).model)
                checks.add(trial, model.to(default_device()), card, witnesses[trial])
        yield from checks.answers()
    if data is not None:
        alike = same and dossier.manifest.audit == AUDIT and _same(dossier, "scikit-learn", "numpy")
        yield from check_data(results, dossier.images, data, same_packages=alike)
    yield Answer(Verdict.UNCHECKED, "the rest", NOT_PROVED)


def _require_few_trials(spec: StudySpec) -> None:
    """Raise `MirstError`, before the trials are listed, if there are more than a dossier has files."""
    trials = len(spec.defenses) * spec.folds.count * len(spec.seeds)
    if trials > MAX_FILES:
        raise MirstError(f"study.yaml has {trials} trials; a dossier has at most {MAX_FILES} files")


def _check_files(dossier: Opened) -> Answer:
    place, files = dossier.place.path, dossier.manifest.files
    faults = [
        f"{name} does not have the hash of the manifest"
        for name, digest in files.items()
        if hashlib.sha256((place / name).read_bytes()).hexdigest() != digest
    ]
    detail = f"{len(files)} have the hashes of the manifest, whose own is {dossier.digest}"
    return judged("files", faults, Verdict.RECOMPUTED, detail)


def _check_models_there(results: Results, models: int) -> Answer:
    expected = len(all_trials(results.spec)) - len(results.failed)
    faults = [] if models == expected else [f"there are {models}, but {expected} trials have rows"]
    return judged("models", faults, Verdict.RECOMPUTED, f"{models} models, one for each trial that did not fail")


def _same(dossier: Opened, *packages: str) -> bool:
    """Whether the packages have here the versions that wrote the dossier."""
    return all(dossier.manifest.packages.get(package) == version(package) for package in packages)
