"""Robust self-training, supervised."""

from dataclasses import dataclass

from mirst.defenses.instances import InstanceTraining


@dataclass(frozen=True, kw_only=True)
class RST(InstanceTraining):
    """`CE(f(x), y) + alpha * CE(f(x_T), y)` with `x_T` the last PGD iterate (MIRST-DM, Eq. 1)."""

    def _instances(self) -> dict[int, float]:
        return {self.steps: 1.0}
