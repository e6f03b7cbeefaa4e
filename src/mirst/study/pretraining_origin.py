"""What a backbone was pretrained on, written into its file, and whether a study tests on the same images."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError

from mirst.data import Record
from mirst.data.cache import content_digests
from mirst.data.readers.skipped_files import listed
from mirst.errors import MirstError, plain
from mirst.nn.checkpoint import view_in_words
from mirst.study.spec import StudySpec
from mirst.untrusted.safetensors_files import is_tensors, open_tensors

KEY = "mirst_pretraining"
"""Of the metadata of the file."""
Text = Annotated[str, Field(max_length=2000)]


@dataclass(frozen=True, kw_only=True)
class PretrainingOrigin:
    """How a backbone was pretrained, and on which images.

    >>> PretrainingOrigin(objective="RST()", seen="the whole image, letterboxed", images={"busbra": 1492}, contents=())
    PretrainingOrigin(objective='RST()', seen='the whole image, letterboxed', images={'busbra': 1492}, contents=())
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    objective: Text
    seen: Text
    """What the model saw of each image."""
    images: dict[Text, int]
    """Number of images by data set."""
    contents: Annotated[tuple[Annotated[str, Field(pattern="^[0-9a-f]{16}$")], ...], Field(max_length=100_000)]
    """Digests of the image files."""

    @classmethod
    def of(cls, objective: object, spec: StudySpec, records: Sequence[Record]) -> Self:
        """That of a pretraining on these records."""
        return cls(
            objective=repr(objective),
            seen=view_in_words(spec.data.view, spec.data.margin),
            images=dict(Counter(record.source for record in records)),
            contents=tuple(sorted(set(_contents(records)))),
        )

    def metadata(self) -> dict[str, str]:
        """For the file of the backbone."""
        return {KEY: json.dumps(asdict(self))}


_JSON = TypeAdapter(PretrainingOrigin)


def read_origin(path: Path) -> PretrainingOrigin | None:
    """The origin in the file of a backbone; `None` if another program or an older version wrote it.

    Raises:
        MirstError: metadata that are damaged.
    """
    try:
        if not is_tensors(path):
            return None
        with open_tensors(path) as file:
            text = (file.metadata() or {}).get(KEY)
        return None if text is None else _JSON.validate_json(text)
    except ValidationError as error:
        raise MirstError(f"model.weights: the metadata of {path} are damaged ({error.errors()[0]['msg']})") from error
    except (OSError, ValueError, SafetensorError):
        return None  # `load_backbone` says what is wrong with the file


def origin_remarks(origin: PretrainingOrigin, records: Sequence[Record]) -> list[str]:
    """Sentences on what the backbone was pretrained on, and on images of the study that were among them."""
    sources = ", ".join(f"{count} images of {plain(source)}" for source, count in origin.images.items())
    shared = [record.name for record in pretrained_on(origin, records)]
    sentences = [f"The backbone was pretrained on {sources} with {plain(origin.objective)}; it saw {origin.seen}."]
    if not shared:
        return [*sentences, "No image file of the study is among them; mirst data audit also finds copies."]
    return [
        f"WARNING: {len(shared)} of the {len(records)} images of the study are among those that the backbone was "
        f"pretrained on: {listed(shared)}. Leave them out of one of the two.",
        *sentences,
    ]


def pretrained_on(origin: PretrainingOrigin, records: Sequence[Record]) -> list[Record]:
    """Those of the records whose files the backbone was pretrained on."""
    known = set(origin.contents)
    return [record for record, content in zip(records, _contents(records), strict=True) if content in known]


def _contents(records: Sequence[Record]) -> list[str]:
    """A digest of each image: of its file, and of its place in a file of several."""
    digests = content_digests([record.path for record in records])
    texts = [f"{digests[record.path]}#{record.item}" for record in records]
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
