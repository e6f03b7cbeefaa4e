"""The time left in a study."""

import time
from collections import defaultdict

from mirst.study import Plan, Step


class Clock:
    """Estimates the time left from the epochs so far of each defense.

    >>> from types import SimpleNamespace
    >>> clock = Clock()
    >>> clock.plan(SimpleNamespace(pending={"ce-fold0-seed0": "ce"}, epochs=4, jobs=1))
    >>> clock.finished(), clock.left()
    (0, None)
    """

    def plan(self, plan: Plan) -> None:
        self.epochs, self.jobs = plan.epochs, plan.jobs
        self.left_of = dict.fromkeys(plan.pending, plan.epochs)
        self.defense_of = plan.pending
        self.planned = len(plan.pending) * plan.epochs
        self.seen: defaultdict[str, list[float]] = defaultdict(list)
        self.last = dict.fromkeys(plan.pending, 0.0)
        """When a trial's last epoch ended; 0 before its first."""

    def step(self, step: Step) -> None:
        now = time.monotonic()
        if step.epoch is None:
            self.last[step.trial] = 0.0
            self.left_of[step.trial] = self.left_of[step.trial] if step.retry else 0
            return
        if self.last[step.trial]:
            self.seen[self.defense_of[step.trial]].append(now - self.last[step.trial])
        self.last[step.trial] = now
        self.left_of[step.trial] = self.epochs - step.epoch.number

    def finished(self) -> int:
        """Number of planned epochs that are done."""
        return self.planned - sum(self.left_of.values())

    def left(self) -> float | None:
        """Seconds to the end. A defense without epochs so far is assumed to take as long as the others."""
        everything = [seconds for times in self.seen.values() for seconds in times]
        if not everything:
            return None
        total = 0.0
        for trial, epochs in self.left_of.items():
            times = self.seen.get(self.defense_of[trial]) or everything
            total += epochs * sum(times) / len(times)
        return total / min(self.jobs, max(1, sum(epochs > 0 for epochs in self.left_of.values())))
