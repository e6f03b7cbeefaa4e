"""Findings from the pixels of a data set, independent of labels: computed once, cached by content."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from mirst.data.cache import content_key
from mirst.data.colour import is_colour
from mirst.data.images import Pixels, as_stored, intensity, picture_count, shared_range
from mirst.data.record import ImageFile
from mirst.data.similarity import Pair, find_pairs, random_scores, thumbnail
from mirst.data.threads import OnStage, in_threads, no_stage
from mirst.data.value_range import Intensity, ValueRange
from mirst.errors import MirstError
from mirst.files import cache_folder, write_text

FINDINGS = "inspection.json"
"""Of a prepared folder."""
VERSION = 7
"""Version of the inspection. A new one invalidates all cached findings."""
SMALLEST_SIDE = 32
BLANK_DEVIATION = 2.0
"""Gray levels of standard deviation below which an image is blank."""
NEAR = 8
"""Gray levels by which compression moves the two levels of a mask."""
MAX_BETWEEN = 0.02
"""Share of the pixels of a compressed mask that lie between its two levels."""
FEW_LEVELS = 32
"""Gray levels, in 99 % of the pixels, below which an image may have lost some. Real crops of 20 px keep 35."""


@dataclass(frozen=True)
class Inspection:
    """The findings. Indices are into the files inspected."""

    unreadable: dict[int, str]
    """With the reason."""
    blank: list[int]
    tiny: list[int]
    exact: list[list[int]]
    """Sets of images with the same pixels."""
    pairs: list[Pair]
    """Nearest neighbours with their scores, and exact copies. `mirst.data.levels` tells which are copies."""
    intensities: dict[int, Intensity]
    """Of each readable image: the range that it states, else that of its values."""
    value_range: ValueRange | None
    """The range for images that state none; `None` if every image states its own."""
    few_levels: dict[int, int]
    """Images of fewer than `FEW_LEVELS` gray levels, and how many they have."""
    two_level: list[int] = field(default_factory=list)
    """Images of two gray levels, like masks; missing in folders prepared by earlier versions."""
    pictures: dict[int, int] = field(default_factory=dict)
    """Files of several pages or frames, of which the first is read, and their number; missing in such folders too."""
    random: list[float] = field(default_factory=list)
    """Fine scores of random pairs, in order; missing in such folders too."""
    colour: list[int] = field(default_factory=list)
    """Images in colour (`is_colour`); of a prepared folder, all if its pixels have three channels, else none."""


_JSON = TypeAdapter(Inspection)


def inspect_images(files: Sequence[ImageFile], on_stage: OnStage = no_stage) -> Inspection:
    """Find copies, near-copies, and unreadable, blank or tiny images.

    Every image is decoded once. The findings are cached by the content of the files, unless one of them cannot be
    read. A prepared folder contains its own findings, since its letterboxed images look more alike than the originals.

    Raises:
        MirstError: the cache cannot be written, or a prepared folder is damaged or mixed with other data.
    """
    sources = {file.path for file in files}
    prepared = [path for path in sources if path.suffix == ".npy"]
    if prepared and len(sources) > 1:
        raise MirstError(
            f"{prepared[0].parent} is a prepared folder and is audited already; prepare the data sets together "
            "(mirst data prepare A B --out FOLDER) instead of merging it"
        )
    if prepared:
        found = _read(prepared[0].with_name(FINDINGS))
        _require_same_range(prepared[0].parent, found, files)
        chosen = [int(file.item or 0) for file in files]
        return _restricted(replace(found, colour=chosen if as_stored(files[0]).mode == "RGB" else []), chosen)
    try:
        path = cache_folder() / "inspected" / f"{content_key(files, VERSION)}.json"
    except MirstError:
        return _inspect(files, on_stage)
    if path.exists():
        return _read(path)
    found = _inspect(files, on_stage)
    if not found.unreadable:
        try:
            write_text(path, to_json(found))
        except MirstError as error:
            raise MirstError(f"{error}; set MIRST_CACHE to a folder that can be written") from error
    return found


def _require_same_range(folder: Path, found: Inspection, files: Sequence[ImageFile]) -> None:
    asked = {file.value_range for file in files if file.value_range not in (None, found.value_range)}
    if asked and found.value_range is not None:
        raise MirstError(
            f"{folder} was prepared with {found.value_range} as black and white, but the model was trained with "
            f"{ValueRange(*asked.pop())}; pass the original files instead"
        )


def to_json(found: Inspection) -> str:
    return _JSON.dump_json(found).decode()


def _read(path: Path) -> Inspection:
    try:
        return _JSON.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise MirstError(f"{path} cannot be read; remove its folder and make it again") from error


def _restricted(found: Inspection, chosen: Sequence[int]) -> Inspection:
    """The findings among the `chosen` images, by their positions in it."""
    at = {number: position for position, number in enumerate(chosen)}
    same = [[at[i] for i in group if i in at] for group in found.exact]
    return Inspection(
        unreadable={},
        blank=[at[i] for i in found.blank if i in at],
        tiny=[at[i] for i in found.tiny if i in at],
        exact=[group for group in same if len(group) > 1],
        pairs=[
            Pair(min(at[p.first], at[p.second]), max(at[p.first], at[p.second]), p.coarse, p.fine)
            for p in found.pairs
            if p.first in at and p.second in at
        ],
        two_level=[at[i] for i in found.two_level if i in at],
        intensities={at[i]: one for i, one in found.intensities.items() if i in at},
        value_range=found.value_range,
        few_levels={at[i]: count for i, count in found.few_levels.items() if i in at},
        pictures={at[i]: count for i, count in found.pictures.items() if i in at},
        random=found.random,
        colour=[at[i] for i in found.colour if i in at],
    )


def _inspect(files: Sequence[ImageFile], on_stage: OnStage) -> Inspection:
    unreadable: dict[int, str] = {}
    intensities: dict[int, Intensity] = {}
    for number, file in enumerate(files):
        try:
            intensities[number] = intensity(file)
        except MirstError as error:
            unreadable[number] = str(error)
    shared = shared_range(one for number, one in intensities.items() if files[number].value_range is None)
    given = [ValueRange(*file.value_range) for file in files if file.value_range is not None]
    readable = [
        (number, files[number]._replace(value_range=files[number].value_range or shared)) for number in intensities
    ]
    found = _inspect_readable(readable, on_stage)
    return replace(
        found,
        unreadable=dict(sorted((unreadable | found.unreadable).items())),
        intensities={number: one for number, one in intensities.items() if number not in found.unreadable},
        value_range=shared or (given[0] if given else None),
        pictures={number: count for number, file in readable if (count := picture_count(file)) > 1},
    )


@dataclass(frozen=True)
class _Look:
    """What is kept of one image."""

    fingerprint: str
    tiny: bool
    blank: bool
    two_level: bool
    colour: bool
    few_levels: int | None
    thumbnail: Pixels


def _look(file: ImageFile) -> _Look | str:
    """Of an image, or why it cannot be read."""
    try:
        stored = as_stored(file)
    except MirstError as error:
        return str(error)
    image = stored.convert("L")
    pixels = np.asarray(image)
    two_level = _has_two_levels(pixels)
    return _Look(
        fingerprint=hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest(),
        tiny=min(image.size) < SMALLEST_SIDE,
        blank=bool(pixels.std() < BLANK_DEVIATION),
        two_level=two_level,
        colour=is_colour(stored),
        few_levels=None if two_level else few_levels(image),
        thumbnail=thumbnail(image),
    )


def _inspect_readable(files: Sequence[tuple[int, ImageFile]], on_stage: OnStage) -> Inspection:
    results = in_threads(lambda file: _look(file[1]), files, "reading images", on_stage)
    looks = {number: one for (number, _), one in zip(files, results, strict=True) if isinstance(one, _Look)}
    prints: defaultdict[str, list[int]] = defaultdict(list)
    for number, look in looks.items():
        prints[look.fingerprint].append(number)
    exact = [same for same in prints.values() if len(same) > 1]
    shown = [number for number, look in looks.items() if not look.blank]
    thumbnails = np.array([looks[number].thumbnail for number in shown])
    return Inspection(
        unreadable={number: one for (number, _), one in zip(files, results, strict=True) if isinstance(one, str)},
        blank=[number for number, look in looks.items() if look.blank],
        tiny=[number for number, look in looks.items() if look.tiny],
        exact=exact,
        pairs=_with_exact(
            [Pair(shown[p.first], shown[p.second], p.coarse, p.fine) for p in find_pairs(thumbnails, on_stage)],
            [same for same in exact if not looks[same[0]].blank],
        ),
        intensities={},
        value_range=None,
        few_levels={number: look.few_levels for number, look in looks.items() if look.few_levels is not None},
        two_level=[number for number, look in looks.items() if look.two_level],
        colour=[number for number, look in looks.items() if look.colour],
        random=random_scores(thumbnails),
    )


def _with_exact(pairs: Sequence[Pair], exact: Sequence[Sequence[int]]) -> list[Pair]:
    """The pairs, and those of images with the same pixels, whose scores are 1."""
    same = {(first, second): Pair(first, second, 1.0, 1.0) for one in exact for first, second in pairwise(one)}
    return sorted((same | {(p.first, p.second): p for p in pairs if (p.first, p.second) not in same}).values(), key=_at)


def _at(pair: Pair) -> tuple[int, int]:
    return pair.first, pair.second


def _has_two_levels(pixels: Pixels) -> bool:
    """Whether all pixels have one of two values, or nearly so, as in a mask stored with lossy compression."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    levels = np.flatnonzero(counts)
    dark, bright = levels[0], levels[-1]
    if len(levels) == 2 or bright - dark <= 2 * NEAR:
        return len(levels) == 2
    between = counts[dark + NEAR + 1 : bright - NEAR].sum()
    smaller = min(counts[: dark + NEAR + 1].sum(), counts[bright - NEAR :].sum())
    return bool(between <= min(MAX_BETWEEN * pixels.size, smaller))


def few_levels(image: Image.Image) -> int | None:
    """The number of gray levels of a gray image without the darkest and the brightest half percent of its pixels;
    `None` for `FEW_LEVELS` or more."""
    counts = np.array(image.histogram())
    upto = counts.cumsum() / counts.sum()
    below = upto - counts / counts.sum()
    levels = int(((counts > 0) & (upto > 0.005) & (below < 0.995)).sum())
    return levels if levels < FEW_LEVELS else None
