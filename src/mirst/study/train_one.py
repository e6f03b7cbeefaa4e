"""One model trained on a whole data set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mirst.files import require_target
from mirst.nn import save_model
from mirst.study.calibrate import calibrated
from mirst.study.history import history_table
from mirst.study.model_card import write_card
from mirst.study.named_configs import NamedDefense
from mirst.study.prepared import conditions, prepare
from mirst.study.spec import StudySpec
from mirst.study.train_model import model_card, train_model
from mirst.training import Epoch, FitResult
from mirst.training.state import forget_state


def train(
    spec: StudySpec,
    entry: NamedDefense,
    out: Path,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_remark: Callable[[str], object] = lambda _: None,
) -> FitResult:
    """Train on all images of `spec.data` (some held out for validation) and write the checkpoint `out`,
    and `MODEL_CARD.md` beside it.

    The first seed of the study counts; its folds do not, apart from their kind. A training that was
    killed resumes from `out` with `.state` added.

    Args:
        on_remark: gets what one should know of the data, in sentences, before the training.

    Raises:
        MirstError: data that cannot be read, settings that do not fit them, or an `out` that cannot be written.
    """
    require_target(out)
    prepared = prepare(spec)
    for sentence in prepared.audit.remarks():
        on_remark(sentence)
    state = out.with_name(out.name + ".state")
    everything = np.arange(len(prepared.records))
    with conditions(spec):
        model, result = train_model(entry, prepared, everything, spec.seeds[0], state, on_epoch)
        calibration = calibrated(model, prepared, everything, spec.seeds[0])
    save_model(out, model, replace(model_card(entry, prepared, result), calibration=calibration))
    history = history_table(result.history, result.epoch)
    write_card(out, out.stem, entry, prepared, everything, history, spec.seeds[0])
    forget_state(state)
    return result
