"""A trial from its initial model to its last outcome row."""

from dataclasses import replace
from pathlib import Path

from mirst.errors import Diverged, MirstError
from mirst.files import write_csv, write_text
from mirst.nn import save_model
from mirst.study.calibrate import calibrated
from mirst.study.engines.base import Send, Work
from mirst.study.history import history_table
from mirst.study.layout import StudyFolder, TrialFolder
from mirst.study.prepared import Prepared
from mirst.study.train_model import model_card, train_model
from mirst.study.trial import Trial
from mirst.study.trial_outcomes import outcome_rows, save_examples, write_trial_card
from mirst.training.state import forget_state


class TrainTrial(Work[str | None]):
    """Train, save and attack one model. A trial that was interrupted resumes from its last epoch.

    It sends every `Epoch`. Its result says how the training diverged, if it did.
    """

    def start(self, folder: TrialFolder) -> None:
        """Make the folder, and remove what a killed worker left in it.

        Raises:
            MirstError: it cannot be written.
        """
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            for left in (folder.killed, *folder.path.glob(".*.partial")):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise MirstError(f"cannot write {folder.path} ({error.strerror})") from error

    def checkpoint(self, folder: TrialFolder) -> Path:
        return folder.state

    def end_marks(self) -> tuple[str, ...]:
        return ("outcomes.csv", "diverged.txt")

    def __call__(self, trial: Trial, prepared: Prepared, study: StudyFolder, send: Send) -> str | None:
        folder, fold = study.trial(trial.name), prepared.folds[trial.fold]
        try:
            model, result = train_model(trial.entry, prepared, fold.train, trial.seed, folder.state, send)
        except Diverged as error:
            if error.history:
                write_csv(folder.history, history_table(error.history))
            write_text(folder.diverged, str(error))
            forget_state(folder.state)
            return str(error)
        card = replace(
            model_card(trial.entry, prepared, result), calibration=calibrated(model, prepared, fold.train, trial.seed)
        )
        save_model(folder.model, model, card)
        history = history_table(result.history, result.epoch)
        write_csv(folder.history, history)
        rows = outcome_rows(model, prepared, fold.test, result.threshold, trial.seed)
        if trial.fold == 0 and trial.seed == prepared.spec.seeds[0]:
            save_examples(folder, model, prepared, fold.test, rows)
        rows = trial.with_key(rows)
        write_trial_card(trial, prepared, folder, history, rows)
        write_csv(folder.outcomes, rows)
        forget_state(folder.state)
        return None
