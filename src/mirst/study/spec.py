"""The study as YAML: which data, model, training, defenses, attacks, folds and seeds."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationInfo, model_validator

from mirst.data import VAL_FRACTION, Augmentation
from mirst.errors import MirstError, suggestion
from mirst.nn.factory import is_factory, library_of, package_of
from mirst.study.named_configs import (
    NamedAttack,
    NamedDefense,
    NamedExtension,
    attack_entry,
    defense_entry,
    extension_entry,
    is_own,
    number,
    plain,
)
from mirst.study.numbers import no_booleans
from mirst.study.spec_sections import DataSpec, FoldSpec, ModelSpec, NamedPath, Section, require_distinct
from mirst.training import Extension, Training


def _parsed_by(entry: Callable[..., Any]) -> PlainValidator:
    """Validation by a function such as `defense_entry`."""

    def parse(raw: object, info: ValidationInfo) -> Any:
        return entry(raw, trusted=(info.context or {}).get(TRUSTED, True))

    return PlainValidator(parse)


TRUSTED = "trusted"
"""Key of the context of validation: whether classes that the study names are imported."""


def _augment(raw: object) -> bool | Augmentation:
    if isinstance(raw, bool | Augmentation):
        return raw
    if not isinstance(raw, dict):
        raise ValueError(f"it is {raw}; give true, false, or options such as {{rotation: 15, box: 0.1}}")
    known = [field.name for field in dataclasses.fields(Augmentation)]
    for key in raw.keys() - set(known):
        raise ValueError(f"unknown option {key}{suggestion(str(key), known)}")
    return TypeAdapter(Augmentation).validate_python(no_booleans(Augmentation, raw))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialTraining(Training):
    """The settings of `fit`, and those of a trial around it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    batch_size: int = 16
    augment: Annotated[bool | Augmentation, PlainValidator(_augment)] = True
    """Random changes of training images; `true` stands for flips and small shifts."""
    val_fraction: float = VAL_FRACTION
    """Share of the training fold held out to select and to set the threshold; 0 holds out none."""
    threads: int = 1
    """CPU threads of a trial, fixed so that parallel trials change no number."""
    extensions: tuple[Annotated[NamedExtension, _parsed_by(extension_entry)], ...] = dataclasses.field(
        default=(),
        repr=False,  # the identity of a training names those that `fit` gets
    )
    """Of the training loop, in their order."""

    @property
    def augmentation(self) -> Augmentation | None:
        """`augment` with its options."""
        if isinstance(self.augment, Augmentation):
            return self.augment
        return Augmentation() if self.augment else None

    @property
    def loop_extensions(self) -> list[Extension]:
        """What `fit` takes as `extensions`."""
        return [entry.extension for entry in self.extensions]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1 or self.threads < 1:
            raise MirstError(f"batch_size is {self.batch_size} and threads {self.threads}; both must be at least 1")
        if not 0 <= self.val_fraction <= 0.5:
            raise MirstError(f"val_fraction is {self.val_fraction}; it must lie between 0 and 0.5")
        if self.needs_validation and self.val_fraction == 0:
            raise MirstError(
                f"select={self.select} and threshold={self.operating_point} need validation images; "
                "raise val_fraction above 0"
            )
        require_distinct("extensions", [entry.name for entry in self.extensions])


class StudySpec(Section):
    """Everything that decides the numbers of a study.

    >>> StudySpec(seeds=(0, 1)).folds.count
    5
    """

    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    training: Annotated[TrialTraining, BeforeValidator(partial(no_booleans, TrialTraining))] = TrialTraining()
    defenses: tuple[Annotated[NamedDefense, _parsed_by(defense_entry)], ...] = Field(
        ("ce", "rst", "mirst", {"name": "mirst", "drop_max": True}), validate_default=True, min_length=1
    )
    attacks: tuple[Annotated[NamedAttack, _parsed_by(attack_entry)], ...] = Field(
        ("fgsm", "pgd", "cw"), validate_default=True, min_length=1
    )
    folds: FoldSpec = FoldSpec()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field((0,), min_length=1)
    certify: tuple[Annotated[float, BeforeValidator(number), Field(gt=0, le=1)], ...] = ()
    """Radii at which every model gets certificates by interval bounds; they change no other number."""
    out: NamedPath | None = None
    """Results folder; `results/NAME` for `NAME.yaml` by default."""
    reuse: tuple[NamedPath, ...] = ()
    """Results folders of other studies; trials that they share with this one are not run again."""

    @model_validator(mode="after")
    def _boxes(self) -> Self:
        if self.model.box == "fused" and self.data.view == "whole":
            raise ValueError("model.box is fused, and data.view is whole; set data.view to lesion, or box to none")
        augmentation = self.training.augmentation
        if augmentation is not None and augmentation.box and self.data.view == "whole":
            raise ValueError("training.augment.box moves boxes, and data.view is whole; set data.view to lesion")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for key, names in (
            ("defenses", [entry.title for entry in self.defenses]),
            ("attacks", [entry.label for entry in self.attacks]),
            ("seeds", [str(seed) for seed in self.seeds]),
            ("certify", [f"{eps * 255:.6g}/255" for eps in self.certify]),
        ):
            require_distinct(key, names)
        return self

    def with_data(self, path: Path | None) -> "StudySpec":
        """This study on the data set `path`, relative to the working directory; unchanged for `None`."""
        if path is None:
            return self
        return self.model_copy(update={"data": self.data.model_copy(update={"path": path.absolute(), "sources": ()})})

    def with_channels(self, channels: Literal[1, 3]) -> "StudySpec":
        """This study with `data.channels` decided."""
        return self.model_copy(update={"data": self.data.model_copy(update={"channels": channels})})

    def resolved(self) -> dict[str, Any]:
        """Plain values, defaults filled in; `StudySpec.model_validate` reads them back."""
        values = self.model_dump(mode="json", exclude={"defenses", "attacks", "training"})
        values["training"] = {
            field.name: getattr(self.training, field.name) for field in dataclasses.fields(self.training)
        }
        if isinstance(self.training.augment, Augmentation):
            values["training"]["augment"] = dataclasses.asdict(self.training.augment)
        values["training"]["extensions"] = [plain(one, one.extension, ("name",)) for one in self.training.extensions]
        values["defenses"] = [plain(entry, entry.defense, ("name", "label", "drop_max")) for entry in self.defenses]
        values["attacks"] = [plain(entry, entry.attack, ("name", "label")) for entry in self.attacks]
        if self.folds.held_out is None:
            del values["folds"]["held_out"]
        if not self.certify:
            del values["certify"]  # so that the files of other studies stay as they were
        if not self.model.options:
            del values["model"]["options"]
        if self.data.modality is None:
            del values["data"]["modality"]
        return values


def packages_of(spec: StudySpec) -> list[Path]:
    """Folders or files of the packages that the study's model, defenses, attacks and extensions come from.

    Packages that are installed are left out, as by `mirst.nn.package_of`.
    """
    names = [spec.model.name] if is_factory(spec.model.name) and not library_of(spec.model.name) else []
    for entries in (spec.defenses, spec.attacks, spec.training.extensions):
        names += [entry.name for entry in entries if is_own(entry.name)]
    return list(dict.fromkeys(place for name in names if (place := package_of(name)) is not None))
