"""Whether the values of an image fit the range that a model was trained in."""

from mirst.data import ImageFile, ValueRange, intensity
from mirst.nn import ModelCard


def range_remark(file: ImageFile, card: ModelCard) -> str | None:
    """A part of a sentence that follows the name of an image whose values do not fit the card; `None` for others.

    An image that states its range, as 8-bit pictures and most DICOM files do, fits any model.

    Raises:
        MirstError: an image that cannot be read.
    """
    one = intensity(file)
    if one.source:
        return None
    if card.value_range is None:
        return f"states no range for its values {one.range}, and neither does the model's card: that range is a guess"
    known = ValueRange(*card.value_range)
    if one.range.low < known.low or one.range.high > known.high:
        return f"holds values of {one.range}, beyond the {known} that the model was trained in: they are clipped"
    return None
