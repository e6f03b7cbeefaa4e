"""The operating point: above which log-odds of the positive class a model predicts it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from mirst.errors import MirstError
from mirst.thresholds import sensitivity_threshold, specificity_threshold, youden_threshold


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A rule that sets the threshold from validation images, for two classes.

    >>> point = OperatingPoint.of({"robust": {"sensitivity": 0.95}})
    >>> point.rule, point.rate, point.robust
    ('sensitivity', 0.95, True)
    >>> str(point)
    '{robust: {sensitivity: 0.95}}'
    """

    rule: Literal["argmax", "youden", "sensitivity", "specificity"]
    """The larger logit; the threshold of largest sensitivity plus specificity; the largest threshold with a
    sensitivity, or the smallest with a specificity, of at least `rate`."""
    rate: float | None = None
    """Above 0 and at most 1, for `sensitivity` and `specificity`."""
    robust: bool = False
    """Whether the validation images are attacked."""

    @classmethod
    def of(cls, setting: object) -> "OperatingPoint":
        """The rule that `training.threshold` names.

        Raises:
            MirstError: it names no rule, or a rate out of range.
        """
        robust = isinstance(setting, Mapping) and set(setting) == {"robust"}
        match setting["robust"] if isinstance(setting, Mapping) and robust else setting:
            case "argmax" if not robust:
                return cls(rule="argmax")
            case "youden":
                return cls(rule="youden", robust=robust)
            case {"sensitivity": rate, **rest} if not rest:
                return cls(rule="sensitivity", rate=_checked_rate("sensitivity", rate), robust=robust)
            case {"specificity": rate, **rest} if not rest:
                return cls(rule="specificity", rate=_checked_rate("specificity", rate), robust=robust)
        raise MirstError(
            f"threshold is {setting}; choose argmax, youden, {{sensitivity: 0.95}}, {{specificity: 0.9}}, or one of "
            "the last three under attack, as in {robust: youden}"
        )

    def threshold(self, is_positive: ArrayLike, log_odds: ArrayLike) -> float:
        """The threshold on the log-odds of the positive class; log-odds above it are called positive.

        Args:
            is_positive: `(N,)`, which validation images are of the positive class.
            log_odds: `(N,)`, of the same images, attacked if the rule is `robust`.

        >>> OperatingPoint.of("youden").threshold([False, True], [-1.0, 2.0])
        0.5
        """
        if self.rule == "youden":
            return youden_threshold(is_positive, log_odds)
        if self.rate is None:
            return 0.0
        at_rate = sensitivity_threshold if self.rule == "sensitivity" else specificity_threshold
        return at_rate(is_positive, log_odds, self.rate)

    def described(self) -> str:
        """The threshold in words, as the object of "above".

        >>> OperatingPoint.of({"specificity": 0.9}).described()
        'the smallest log-odds with a specificity of at least 0.9 on its clean validation images'
        """
        if self.rule == "argmax":
            return "a log-odds of 0"
        threshold = {
            "youden": "the log-odds that maximise sensitivity plus specificity",
            "sensitivity": f"the largest log-odds with a sensitivity of at least {self.rate}",
            "specificity": f"the smallest log-odds with a specificity of at least {self.rate}",
        }[self.rule]
        return f"{threshold} on its {'attacked' if self.robust else 'clean'} validation images"

    def __str__(self) -> str:
        """As `training.threshold` in YAML."""
        clean = self.rule if self.rate is None else f"{{{self.rule}: {self.rate}}}"
        return f"{{robust: {clean}}}" if self.robust else clean


def _checked_rate(rule: str, rate: object) -> float:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
        raise MirstError(f"threshold has {rule} {rate}; it must be a number above 0 and at most 1")
    return float(rate)
