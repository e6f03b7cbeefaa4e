"""Whether the values of an image fit the range that a model was trained on."""

from mirst.data import ImageFile, ValueRange, intensity
from mirst.nn import ModelCard


def range_remark(file: ImageFile, card: ModelCard) -> str | None:
    """The rest of a sentence after the name of an image whose values do not fit the model card, or `None`.

    An image that defines its range, as 8-bit images and most DICOM files do, fits any model.

    Raises:
        MirstError: an image that cannot be read.
    """
    shown = intensity(file)
    if shown.source:
        return None
    if card.value_range is None:
        return (
            "does not define a range for its values, and neither does the model's card; the range "
            f"{shown.range} is a guess"
        )
    known = ValueRange(*card.value_range)
    if shown.range.low < known.low or shown.range.high > known.high:
        return (
            f"contains values from {shown.range}, outside the range {known} that the model was trained on; these "
            "values are clipped"
        )
    return None
