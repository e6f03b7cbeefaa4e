"""`python -m benchmarks.cluster DATA`: a study on one machine and on Ray clusters, one of which loses a node.

The nodes are processes of this machine with one CPU each (`ray.cluster_utils`). Every run must end with the outcomes of
the first, bit for bit.
"""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mirst.study import Engine, Local, Ray, Step, StudySpec, run_study

SETTINGS: dict[str, Any] = {
    "data": {"size": 64},
    "training": {"epochs": 2, "select": "best_robust"},
    "defenses": ["ce", {"name": "mirst", "drop_max": True, "steps": 5, "instances": [5, 3], "weights": [0.6, 0.4]}],
    "attacks": ["fgsm", {"name": "pgd", "steps": 10, "step_size": 0.004}],
    "folds": {"count": 5},
    "seeds": [0, 1],
}
TRIALS = 20


class Watch:
    """Counts what a run tells, and calls `half_way` once, at the first epoch after half of the trials have ended."""

    def __init__(self, half_way: Callable[[], object] | None = None) -> None:
        self.half_way, self.ended, self.moved, self.epochs = half_way, 0, 0, 0

    def __call__(self, step: Step) -> None:
        self.epochs += step.epoch is not None
        self.moved += step.retry is not None
        self.ended += step.epoch is None and step.retry is None
        if self.half_way is not None and self.ended >= TRIALS // 2 and step.epoch is not None:
            self.half_way()
            self.half_way = None


def main(data: Path) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    spec = StudySpec.model_validate(SETTINGS).with_data(data)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        print("| where | seconds | trials | epochs told | moved to another node | outcomes |")
        print("| --- | --- | --- | --- | --- | --- |")
        run_study(spec, out / "warm", engine=Local(2))  # decodes the images
        expected = _digest(out / "warm")
        _row("2 processes", expected, out / "local", spec, Local(2), Watch())
        for title, nodes, kill in (
            ("Ray, one node", 1, False),
            ("Ray, two nodes", 2, False),
            ("Ray, two nodes, one killed half-way", 2, True),
        ):
            _on_cluster(title, nodes, kill, expected, out / f"{nodes}-{kill}", spec)


def _on_cluster(title: str, nodes: int, kill: bool, expected: str, out: Path, spec: StudySpec) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    others = [cluster.add_node(num_cpus=1) for _ in range(nodes - 1)]
    try:
        half_way = (lambda: cluster.remove_node(others[0], allow_graceful=False)) if kill else None
        _row(title, expected, out, spec, Ray(address=cluster.address), Watch(half_way))
    finally:
        with suppress(Exception):  # it cannot remove a node that is gone
            cluster.shutdown()


def _row(title: str, expected: str, out: Path, spec: StudySpec, engine: Engine, watch: Watch) -> None:
    begin = time.monotonic()
    run_study(spec, out, engine=engine, on_step=watch)
    seconds = time.monotonic() - begin
    same = "the same" if _digest(out) == expected else "DIFFERENT"
    print(f"| {title} | {seconds:.0f} | {watch.ended} | {watch.epochs} | {watch.moved} | {same} |", flush=True)


def _digest(out: Path) -> str:
    return hashlib.sha256((out / "outcomes.csv").read_bytes()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
