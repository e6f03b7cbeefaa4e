"""`python -m benchmarks.faults KILLS`: a small study, killed at random moments, ends with the same outcomes.

SIGKILL hits the study or one of its workers; between two runs a checkpoint is sometimes cut off.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from mirst.data.phantom import write_phantoms

STUDY = """\
data: {size: 32}
training: {epochs: 4, batch_size: 8, select: best_robust}
defenses: [ce, {name: mirst, drop_max: true, steps: 3, instances: [3, 2], weights: [0.6, 0.4]}]
attacks: [fgsm, {name: pgd, steps: 3}]
folds: {count: 2}
"""


def main(kills: int) -> None:
    chance, counts = random.Random(0), Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_phantoms(folder / "data", 20)
        (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
        begin = time.monotonic()
        expected = _digest(_finish(folder, "whole"))
        longest = time.monotonic() - begin
        while counts["study killed"] + counts["worker killed"] < kills:
            out = f"out-{counts['finished']}"
            while not _killed(folder, out, chance.uniform(0, longest), chance, counts):
                pass
            counts["finished"] += 1
            counts["same outcomes"] += _digest(folder / out) == expected
            print(dict(counts), flush=True)
    print("\n".join(f"| {what} | {count} |" for what, count in counts.items()))


def _finish(folder: Path, out: str) -> Path:
    subprocess.run(_command(folder, out), check=True, stdout=subprocess.DEVNULL)
    return folder / out


def _killed(folder: Path, out: str, after: float, chance: random.Random, counts: Counter[str]) -> bool:
    """Run the study, kill it or a worker after so many seconds, perhaps cut a checkpoint; whether it ended."""
    run = subprocess.Popen(_command(folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        run.wait(after)
    except subprocess.TimeoutExpired:
        workers = _workers(run.pid)
        if workers and chance.random() < 0.5:
            counts["worker killed"] += 1
            _kill(chance.choice(workers))
            run.wait()
        else:
            counts["study killed"] += 1
            run.send_signal(signal.SIGKILL)
            run.wait()
    states = list((folder / out).glob("trials/*/state.pt"))
    if states and chance.random() < 0.3:
        counts["checkpoint cut"] += 1
        state = chance.choice(states)
        state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    return run.returncode == 0


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _workers(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in children.read_text(encoding="utf-8").split()] if children.exists() else []
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _command(folder: Path, out: str) -> list[str]:
    study, data = str(folder / "study.yaml"), str(folder / "data")
    return [sys.executable, "-m", "mirst.cli", "run", study, "--data", data, "--out", str(folder / out), "--quiet"]


def _digest(out: Path) -> str:
    return hashlib.sha256((out / "outcomes.csv").read_bytes()).hexdigest()


if __name__ == "__main__":
    main(int(sys.argv[1]))
