"""Sentences of an audit about the values that are shown as black and white."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from mirst.data.inspection import FEW_LEVELS, Inspection
from mirst.data.value_range import Intensity, ValueRange, hull


def range_sentence(found: Inspection) -> str:
    """Which values are black and white, and what defines them."""
    by_source: defaultdict[str, list[ValueRange]] = defaultdict(list)
    for one in found.intensities.values():
        by_source[one.source].append(one.range)
    parts = []
    for source, ranges in by_source.items():
        different, whole = len(set(ranges)), hull(ranges)
        if not source:
            parts.append(
                f"{len(ranges)} images do not define a range, contain values from {whole} and are scaled "
                f"with {found.value_range}"
            )
        elif different == 1:
            parts.append(f"{whole} for {len(ranges)} images ({source})")
        else:
            parts.append(f"{different} ranges within {whole} for {len(ranges)} images ({source})")
    return f"Values shown as black and white: {'; '.join(parts)}." if parts else "No image can be read."


def range_warnings(found: Inspection, names: Sequence[str]) -> list[str]:
    """Sentences about images that lost gray levels or whose range differs from the others'."""
    warnings = []
    if found.few_levels:
        worst, count = min(found.few_levels.items(), key=lambda item: item[1])
        warnings.append(
            f"FEW GRAY LEVELS: {len(found.few_levels)} of {len(found.intensities)} images have fewer than "
            f"{FEW_LEVELS} of 256 gray levels after scaling ({names[worst]} only {count}); compare their values with "
            "the range that is used."
        )
    shown = {number: _shown(one, found.value_range) for number, one in found.intensities.items()}
    groups = Counter(shown.values())
    if len(groups) > 1:
        (common, count), *_ = groups.most_common(1)
        other = next(number for number, one in shown.items() if one != common)
        warnings.append(
            f"SEVERAL RANGES: {len(shown) - count} of {len(shown)} images are scaled with another range than the "
            f"{count} images that use {_worded(common)}; for example, {names[other]} uses {_worded(shown[other])}. "
            "The same eps means different changes of their raw values."
        )
    narrow = [number for number, one in found.intensities.items() if _is_narrow(one, found.value_range)]
    if narrow:
        own = found.intensities[narrow[0]].range
        warnings.append(
            f"SEVERAL RANGES: {len(narrow)} images without a defined range use a quarter or less of "
            f"{found.value_range}, the range with which all such images are scaled; for example, {names[narrow[0]]} "
            f"uses {own}. Convert all images to one range first."
        )
    return warnings


def _shown(one: Intensity, shared: ValueRange | None) -> Intensity:
    return one if one.source or shared is None else Intensity("", shared)


def _worded(one: Intensity) -> str:
    return f"{one.range} ({one.source or 'no range defined'})"


def _is_narrow(one: Intensity, shared: ValueRange | None) -> bool:
    if one.source or shared is None:
        return False
    return 4 * (one.range.high - one.range.low) <= shared.high - shared.low
