"""`python -m benchmarks.reads [READERS]`: a results folder is read by 1,000 threads while a study writes into it.

Every file that has a name must be whole: tables with all their columns to the last line, JSON, YAML, weights, training
states and pages that parse to their end.
"""

import io
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from safetensors.torch import load

from benchmarks.faults import STUDY
from mirst.data.phantom import write_phantoms
from mirst.errors import MirstError
from mirst.study import study_status


def main(readers: int = 1000) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_phantoms(folder / "data", 20)
        (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
        out, study, data = folder / "out", str(folder / "study.yaml"), str(folder / "data")
        command = [sys.executable, "-m", "mirst.cli", "run", study, "--data", data, "--out", str(out), "--quiet"]
        ended, counts, torn = threading.Event(), Counter[str](), list[str]()
        threads = [threading.Thread(target=_read_on, args=(out, n, ended, counts, torn)) for n in range(readers)]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for thread in threads:
            thread.start()
        code = run.wait()
        ended.set()
        for thread in threads:
            thread.join()
    print(f"{readers} readers, {sum(counts.values())} reads, the study ended with {code}, torn: {len(torn)}")
    print("\n".join(f"| {what} | {count} |" for what, count in sorted(counts.items())))
    print("\n".join(torn[:5]))
    sys.exit(bool(torn or code))


def _read_on(out: Path, seed: int, ended: threading.Event, counts: Counter[str], torn: list[str]) -> None:
    chance = random.Random(seed)
    while not ended.wait(chance.random()):
        files = [file for file in out.rglob("*") if file.suffix in CHECKS and not file.name.startswith(".")]
        try:
            if not files or chance.random() < 0.1:
                study_status(out)
                counts["mirst status"] += 1
                continue
            file = chance.choice(files)
            content = file.read_bytes()
        except (FileNotFoundError, MirstError) as error:  # a state is forgotten, or the study has not begun
            counts[f"gone or not begun: {type(error).__name__}"] += 1
            continue
        try:
            CHECKS[file.suffix](content)
            counts[file.suffix] += 1
        except Exception as error:  # noqa: BLE001 - whatever a torn file raises
            torn.append(f"{file.name}, {len(content)} bytes: {error!r}")


def _table(content: bytes) -> None:
    text = content.decode()
    pd.read_csv(io.StringIO(text))
    lines = text.splitlines()
    if not text.endswith("\n") or len({line.count(",") for line in lines if '"' not in line}) != 1:
        raise ValueError("a line is cut off")


def _page(content: bytes) -> None:
    if not content.rstrip().endswith(b"</html>"):
        raise ValueError("the page is cut off")


CHECKS: dict[str, Callable[[bytes], object]] = {
    ".csv": _table,
    ".json": json.loads,
    ".yaml": yaml.safe_load,
    ".html": _page,
    ".npz": lambda content: list(np.load(io.BytesIO(content)).values()),
    ".pt": lambda content: torch.load(io.BytesIO(content), weights_only=True),
    ".safetensors": load,
}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
