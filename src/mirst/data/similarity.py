"""Scores of pairs of images: how alike they look, and how far their fine detail agrees.

docs/decisions/duplicates.md describes the method, and `mirst.data.levels` what the scores mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirst.data.candidates import Candidate, find_candidates
from mirst.data.registration import agreement
from mirst.data.sampling import Stack
from mirst.data.threads import OnStage, in_threads, no_stage

THUMBNAIL = 128
"""Side of the stretched images that are compared."""
RANDOM_PAIRS = 500
BATCH = 32


@dataclass(frozen=True)
class Pair:
    """Two images that may show the same, `first < second`."""

    first: int
    second: int
    coarse: float
    """Similarity of their coarse views, 0 to 1."""
    fine: float
    """Agreement of their fine detail after alignment, 0 to 1."""


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """The gray image, stretched to `(THUMBNAIL, THUMBNAIL)`."""
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR))


def find_pairs(thumbnails: Stack, on_stage: OnStage = no_stage) -> list[Pair]:
    """The pairs of nearest neighbours, which contain the copies, with their scores.

    Args:
        thumbnails: `(N, THUMBNAIL, THUMBNAIL)`.
    """
    candidates = find_candidates(thumbnails, on_stage)
    scores = _agreements(thumbnails, candidates, on_stage)
    return [
        Pair(min(c.cropped, c.whole), max(c.cropped, c.whole), round(max(c.similarity, 0), 3), round(max(fine, 0), 3))
        for c, fine in zip(candidates, scores, strict=True)
    ]


def random_scores(thumbnails: Stack) -> list[float]:
    """Fine scores of random pairs, the same for the same images: what images of this set share that are no copies."""
    if len(thumbnails) < 2:
        return []
    rng = np.random.default_rng(0)
    count = min(RANDOM_PAIRS, 2 * len(thumbnails))
    first = rng.integers(len(thumbnails), size=count)
    second = (first + rng.integers(1, len(thumbnails), size=count)) % len(thumbnails)
    whole = (0.0, 1.0)
    pairs = [Candidate(int(a), int(b), whole, whole, 0.0) for a, b in zip(first, second, strict=True)]
    return sorted(round(score, 3) for score in _agreements(thumbnails, pairs))


def _agreements(thumbnails: Stack, candidates: Sequence[Candidate], on_stage: OnStage = no_stage) -> list[float]:
    batches = [candidates[start : start + BATCH] for start in range(0, len(candidates), BATCH)]
    found = in_threads(lambda one: agreement(thumbnails, one), batches, "comparing similar images", on_stage)
    return [float(score) for scores in found for score in scores]
