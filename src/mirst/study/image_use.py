"""For what a study used each of its images when it trained the model of a trial."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mirst.data import Record
from mirst.data.cache import content_digests
from mirst.errors import MirstError
from mirst.nn import read_card
from mirst.study.layout import StudyFolder
from mirst.study.prepared import Prepared, prepare, training_shares
from mirst.study.reading import read_records
from mirst.study.results import read_csv, read_run, read_spec
from mirst.study.spec import StudySpec
from mirst.study.trial import Trial, all_trials

Use = Literal["training", "validation", "test"]
USED = ("training", "validation")


@dataclass(frozen=True)
class StudyImages:
    """The images of the study in a results folder, read again."""

    prepared: Prepared

    @property
    def records(self) -> list[Record]:
        """Those of the folds, then those that the study holds out of all folds."""
        value_range = self.prepared.audit.found.value_range
        return [
            *self.prepared.records,
            *(replace(record, value_range=value_range) for record in self.prepared.held_out),
        ]

    @property
    def pretrained(self) -> bool:
        """Whether the training began with weights that other images had trained."""
        return self.prepared.weights is not None

    def uses(self, trial: Trial) -> list[Use | None]:
        """Of each record; `None` for one that the trial leaves out."""
        fold = self.prepared.folds[trial.fold]
        train, validation = training_shares(self.prepared, fold.train)
        found: dict[int, Use] = dict.fromkeys(range(len(self.prepared.records), len(self.records)), "test")
        found |= dict.fromkeys(fold.test.tolist(), "test")
        found |= dict.fromkeys(validation.tolist(), "validation")
        found |= dict.fromkeys(train.tolist(), "training")
        return [found.get(number) for number in range(len(self.records))]


def trial_of(checkpoint: Path) -> tuple[StudyFolder, Trial] | None:
    """The results folder and the trial of which the checkpoint is the model; `None` if there is none.

    Raises:
        MirstError: a results folder that cannot be read, or that is not the one in which the model was trained.
    """
    folder = checkpoint.resolve().parent
    if folder.parent.name != "trials" or not StudyFolder(folder.parents[1]).run.exists():
        return None
    study = StudyFolder(folder.parents[1])
    spec = read_spec(study)
    trial = next((trial for trial in all_trials(spec) if trial.name == folder.name), None)
    # `prepare` runs the code that the study names: it must be that of the checkpoint, which the user trusts.
    if trial is None or read_card(checkpoint).model != spec.model.name:
        raise MirstError(f"{checkpoint} is not the model of a trial of {study.path}")
    return study, trial


def images_of(study: StudyFolder, data: Path | None = None) -> StudyImages:
    """Read and audit the images of a study again.

    Args:
        data: where they may be now, if they are no longer where they were.

    Raises:
        MirstError: they are in neither place.
    """
    spec, fingerprint = read_spec(study), read_run(study)["data"]["fingerprint"]
    for place in dict.fromkeys((None, data)):
        if _has_images(spec.with_data(place), study):
            prepared = prepare(spec.with_data(place))
            if prepared.fingerprint == fingerprint:
                return StudyImages(prepared)
    raise MirstError(f"the images of the study {study.path} are not found; give their folder with --data")


def _has_images(spec: StudySpec, study: StudyFolder) -> bool:
    """Whether the data set has images of the names in the tables: this is quick, and an audit is not."""
    try:
        records, _ = read_records(spec, lambda _: None)
    except MirstError:
        return False
    rows = read_csv(study.outcomes)[["source", "image"]].drop_duplicates()
    return set(rows.itertuples(index=False, name=None)) <= {(record.source, record.name) for record in records}


def training_overlap(checkpoint: Path, records: Sequence[Record]) -> int:
    """How many of the images were used to train or to validate the model of a study.

    Files are compared by their content: images that were resized or saved again are not found, and neither are those
    that share a file. 0 for other models, and where the images of the study are not found.
    """
    with suppress(MirstError):
        place = trial_of(checkpoint)
        if place is None:
            return 0
        study = images_of(place[0])
        own = [record for record, use in zip(study.records, study.uses(place[1]), strict=True) if use in USED]
        used = set(content_digests(_single(own)).values())
        return sum(digest in used for digest in content_digests(_single(records)).values())
    return 0


def _single(records: Sequence[Record]) -> list[Path]:
    """Files with one image."""
    counts = Counter(record.path for record in records)
    return [path for path, count in counts.items() if count == 1]
