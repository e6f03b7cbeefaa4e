"""The calibration of a trained model on its validation images."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mirst.calibration import Calibration
from mirst.data import data_loader
from mirst.nn.device import device_of
from mirst.random_draws import seeded
from mirst.study.prepared import EVALUATION_BATCH, Prepared, training_shares
from mirst.training.validation import logits_on


def calibrated(model: nn.Module, prepared: Prepared, indices: NDArray[np.int64], seed: int) -> Calibration | None:
    """From the clean validation images; `None` without any. The model is left as found.

    Args:
        indices: positions of the records that the model was trained and validated on.
        seed: of what the model draws at random.
    """
    _, held_out = training_shares(prepared, indices)
    if not len(held_out):
        return None
    with seeded(seed, device_of(model)):
        logits, labels = logits_on(model, data_loader(prepared.subset(held_out), EVALUATION_BATCH))
    return Calibration.of(logits, labels, [str(record.group) for record in prepared.records_at(held_out)])
