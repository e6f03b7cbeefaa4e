"""Checks of the arguments of `mirst evaluate`, before it evaluates anything."""

from collections.abc import Sequence
from pathlib import Path

from mirst.cli.outputs import require_no_input, require_output
from mirst.errors import MirstError

TABLES = (
    *("outcomes.csv", "metrics.csv", "costs.csv", "distances.csv", "corruptions.csv", "boxes.csv"),
    *("certificates.csv", "certified-metrics.csv"),
)
"""What the suites write into the folder of `--out`."""
OF_A_FACTORY = frozenset(
    f"data.{key}" for key in ("size", "channels", "classes", "positive", "view", "margin", "without_box")
)
"""The settings that a checkpoint has and a factory has not."""


def require_folder(out: Path, inputs: Sequence[Path]) -> None:
    """Require that the rows of a model can be written, and overwrite no input and no study.

    Raises:
        MirstError: they would, or cannot.
    """
    require_no_input(out, inputs)
    if (out / "run.json").exists():
        raise MirstError(f"{out} contains a study, whose files would be overwritten; give another folder with --out")
    for table in TABLES:
        require_output(out / table, (".csv",), inputs)


def require_effect(override: Sequence[str], models: Sequence[str]) -> None:
    """Require that every `--set` changes something in the evaluation of the models. The first may be a study.

    Raises:
        MirstError: a setting without effect, or one that cannot be read.
    """
    from mirst.nn import is_factory
    from mirst.study import load_spec, overridden

    load_spec(None, override)
    used = set() if Path(models[0]).is_dir() else {"training.fast"}
    if any(is_factory(name) for name in models):
        used |= OF_A_FACTORY
    for key in sorted(overridden(override) - used):
        if not used:
            why = "a study keeps its own settings"
        elif key in OF_A_FACTORY:
            why = "the checkpoint has its own settings"
        else:
            why = f"only {', '.join(sorted(used))} can be set here"
        raise MirstError(f"--set {key} has no effect on the evaluation of {models[0]}: {why}; leave it out")
