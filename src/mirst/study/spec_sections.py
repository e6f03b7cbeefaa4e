"""The sections of a study file that name its data, model and folds."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mirst.data import FOLDS, MARGIN, AuditRule, Channels, ConflictRule, Modality, WithoutBox
from mirst.nn.box_fusion import BOUND
from mirst.nn.checkpoint import Options
from mirst.nn.libraries import network_in_words
from mirst.study.numbers import no_booleans


def _named(value: object) -> object:
    if value == "":
        raise ValueError("it is empty; name a file or folder, or leave it out")
    return value


NamedPath = Annotated[Path, BeforeValidator(_named)]
"""Not empty: that would be the working directory."""


def require_distinct(key: str, names: Sequence[str]) -> None:
    """Raise `ValueError` if a name stands twice in the list `key`."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        mend = "remove one or give it its own label" if key in ("defenses", "attacks") else "remove one"
        raise ValueError(f"{key} lists {', '.join(twice)} twice; {mend}")


class Section(BaseModel):
    """A mapping of the study file. Unknown keys are errors, and truth values are not numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, raw: Any) -> Any:
        return no_booleans(cls, raw)


class SourceSpec(Section):
    """One of several data sets.

    >>> SourceSpec(path="clinic", labels={"cancer": "malignant", "cyst": None}).labels
    {'cancer': 'malignant', 'cyst': None}
    """

    path: NamedPath
    labels: dict[str, str | None] | None = None
    """New names of its classes, all of them mentioned; null leaves a class out."""
    source: str | None = Field(None, min_length=1)
    """Its name in outputs, instead of the reader's."""


class DataSpec(Section):
    path: NamedPath | None = None
    """Data set that `mirst.data.read_dataset` recognises."""
    sources: tuple[SourceSpec, ...] = ()
    """Several data sets to be merged, instead of `path`."""
    extra: tuple[SourceSpec, ...] = ()
    """Data sets whose images are added to the training part of every fold, never to validation or test parts."""
    size: int = Field(64, ge=16, le=2048)
    """Side of the letterboxed or cropped images."""
    view: Literal["whole", "lesion"] = "whole"
    """The whole image, letterboxed; or a square crop around the box of the lesion."""
    margin: float = Field(MARGIN, ge=0, le=2)
    """Of a crop, on each side of the box, as a share of its longer side."""
    without_box: WithoutBox = "drop"
    """With `view: lesion`, whether an image without a box is left out or shown whole."""
    channels: Channels = "auto"
    """Gray, or colour; `auto` becomes colour if the images have any (`mirst.data.resolved_channels`)."""
    modality: Modality | None = None
    """What the images are of. It decides which corruptions models are tested under, and no other number."""
    classes: tuple[str, ...] | None = None
    """Classes to keep; all by default."""
    ordinal: bool = False
    """Whether `classes` are in an order, such as grades."""
    positive: str | None = None
    """Class that sensitivity counts; "malignant" by default."""
    relabel: dict[str, str | None] = {}
    """Correct classes of wrongly labelled images, by image name; null leaves an image out."""
    conflicts: ConflictRule = "keep"
    """Whether copies that still have different classes are kept or left out."""
    audit: Annotated[AuditRule, BeforeValidator(partial(no_booleans, AuditRule))] = AuditRule()
    """Which images are joined to groups: the two levels of the audit, and their thresholds."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.path is not None and self.sources:
            raise ValueError("give path or sources, not both")
        require_distinct("classes", self.classes or ())
        if self.ordinal and self.classes is None:
            raise ValueError("ordinal is true, but no order is given; list all classes in their order in classes")
        return self


class ModelSpec(Section):
    name: str = "resnet_tiny"
    """For `mirst.nn.build_model`."""
    options: Options = {}
    """Keyword arguments of the network or factory."""
    weights: str = Field("random", min_length=1)
    """Initial weights: random, pretrained, imagenet, or a state-dict file of torchvision's layout."""
    box: Literal["none", "fused"] = "none"
    """Whether the box of the lesion is an input, as `mirst.nn.BoxFusion` takes it."""
    bound: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Log-odds by which the pixels can move the box at most; 1.5 by default, `None` without a box."""

    @property
    def network(self) -> str:
        """The name with the options."""
        return network_in_words(self.name, self.options)

    @model_validator(mode="before")
    @classmethod
    def _bound_of_a_fusion(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        if raw.get("box") == "fused":
            return raw | {"bound": BOUND} if raw.get("bound") is None else raw
        if raw.get("bound") is not None:
            raise ValueError("bound is for box: fused; add box: fused, or leave it out")
        return raw


class FoldSpec(Section):
    count: int = Field(FOLDS, ge=1)
    """How many folds; 1 only for a given split into train and test."""
    kind: Literal["group", "random", "given"] = "group"
    """Whole groups; image by image as in the paper, which leaks copies; or the split of the data set."""
    seed: int = Field(0, ge=0, lt=2**31)
    held_out: str | None = Field(None, min_length=1)
    """Split of the data set, such as test, whose images are in no fold; every model is tested on them in the end."""

    @property
    def in_words(self) -> str:
        """For sentences: `5 group folds`, `the given split`."""
        return "the given split" if self.count == 1 else f"{self.count} {self.kind} folds"

    @model_validator(mode="after")
    def _one_fold_is_given(self) -> "FoldSpec":
        if self.count == 1 and self.kind != "given":
            raise ValueError("count is 1; cross-validation needs at least 2, unless kind is given")
        return self
