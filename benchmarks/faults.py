"""`python -m benchmarks.faults KILLS [SEED]`: a small study, struck at random moments, ends with the same outcomes.

A study is struck again and again until it ends: SIGKILL, SIGINT or SIGTERM for its process, SIGKILL for a worker or a
whole node of a Ray cluster; between two attempts a checkpoint is sometimes cut off. In turn it runs in processes, on a
cluster of two nodes, and in processes on a disk that is too small until it is enlarged (a tmpfs, which asks for root).
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mirst.data.phantom import write_phantoms

STUDY = """\
data: {size: 32}
training: {epochs: 6, batch_size: 8, select: best_robust}
defenses: [ce, {name: mirst, drop_max: true, steps: 3, instances: [3, 2], weights: [0.6, 0.4]}]
attacks: [fgsm, {name: pgd, steps: 3}]
folds: {count: 3}
"""
PATIENCE = 15.0
"""Seconds between two strikes at most: a run needs about as long."""
STRIKES = {"study": (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM), "worker": (signal.SIGKILL,)}


class Campaign:
    """Counts strikes, and studies that ended with the outcomes of one that was let alone."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance, self.counts = folder, random.Random(seed), Counter[str]()
        write_phantoms(folder / "data", 20)
        (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
        subprocess.run(self.command(folder / "whole"), check=True, stdout=subprocess.DEVNULL)
        self.expected = _digest(folder / "whole")

    @property
    def kills(self) -> int:
        return sum(count for what, count in self.counts.items() if "killed by SIGKILL" in what)

    def command(self, out: Path, *more: str) -> list[str]:
        study, data = str(self.folder / "study.yaml"), str(self.folder / "data")
        return [sys.executable, "-m", "mirst.cli", "run", study, "--data", data, "--out", str(out), "--quiet", *more]

    def study(self, out: Path, cluster: Any = None) -> None:
        """Strike a study until it has ended; its outcomes must be the expected ones."""
        more = () if cluster is None else ("--engine", "ray", "--ray-address", cluster.address)
        while self._attempt(self.command(out, *more), cluster) != 0 or self._gave_up(out):
            self._cut_checkpoint(out)
        self.counts["studies ended"] += 1
        self.counts["the same outcomes"] += _digest(out) == self.expected

    def _gave_up(self, out: Path) -> bool:
        """Whether the study has ended without a trial whose worker was killed twice; the next run tries it."""
        given_up = len((out / "failed.csv").read_text(encoding="utf-8").splitlines()) > 1
        self.counts["runs that gave a trial up"] += given_up
        return given_up

    def _attempt(self, command: Sequence[str], cluster: Any) -> int:
        """Run the command, striking it or its workers at random moments; its exit code."""
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                return run.wait(self.chance.uniform(0, PATIENCE))
            except subprocess.TimeoutExpired:
                self._strike(run, cluster)

    def _strike(self, run: "subprocess.Popen[bytes]", cluster: Any) -> None:
        workers = _workers(run.pid, b"spawn_main") if cluster is None else _ray_workers(cluster)
        target = self.chance.choice(["study", "worker", "worker"] if cluster is None else ["study", "worker", "node"])
        if target == "node":
            self.counts["node killed by SIGKILL"] += 1
            cluster.remove_node(self.chance.choice(list(cluster.worker_nodes)), allow_graceful=False)
            cluster.add_node(num_cpus=1)
        elif target == "study" or workers:
            number = self.chance.choice(STRIKES[target])
            self.counts[f"{target} killed by {number.name}"] += 1
            with suppress(ProcessLookupError):
                os.kill(run.pid if target == "study" else self.chance.choice(workers), number)

    def _cut_checkpoint(self, out: Path) -> None:
        states = list(out.glob("trials/*/state.pt"))
        if states and self.chance.random() < 0.3:
            self.counts["checkpoint cut off"] += 1
            state = self.chance.choice(states)
            state.write_bytes(state.read_bytes()[: self.chance.randrange(state.stat().st_size)])

    def full_disk(self, disk: Path) -> None:
        """A disk that fills up, and is enlarged; struck as well."""
        with _mounted(disk, f"{self.chance.randint(1, 4)}m"):
            full = subprocess.run(self.command(disk / "out"), capture_output=True, text=True, check=False)
            if full.returncode != 2 or "No space left" not in full.stderr:
                raise SystemExit(f"a full disk ended with {full.returncode}: {full.stderr}")
            self.counts["disk full"] += 1
            subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
            self.study(disk / "out")


def main(kills: int, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        campaign = Campaign(folder, seed)
        number = 0
        while campaign.kills < kills:
            out = folder / f"out-{number}"
            if number % 3 == 1:
                with _cluster() as cluster:
                    campaign.study(out, cluster)
            elif number % 6 == 2:
                campaign.full_disk(out)
            else:
                campaign.study(out)
            number += 1
            print(dict(campaign.counts), flush=True)
    print("\n".join(f"| {what} | {count} |" for what, count in sorted(campaign.counts.items())))


@contextmanager
def _cluster() -> Iterator[Any]:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        with suppress(Exception):  # it cannot remove a node that is gone
            cluster.shutdown()


@contextmanager
def _mounted(disk: Path, size: str) -> Iterator[None]:
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _ray_workers(cluster: Any) -> list[int]:
    raylets = [started.process.pid for node in cluster.worker_nodes for started in node.all_processes["raylet"]]
    return [worker for raylet in raylets for worker in _workers(raylet, b"ray::serve")]


def _workers(pid: int, name: bytes) -> list[int]:
    """Children of that name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            if parent == pid and name in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


def _digest(out: Path) -> str:
    return hashlib.sha256((out / "outcomes.csv").read_bytes()).hexdigest()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
