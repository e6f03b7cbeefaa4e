"""`python -m benchmarks.growth [IMAGES ...]`: time and memory of each step against the number of images.

It writes `docs/results/growth.md`. The images are phantoms. The steps of each number run in a process of their own.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mirst.data import data_loader, read_dataset
from mirst.data.audit import audit_records
from mirst.data.cache import prepare_images
from mirst.data.folds import make_folds
from mirst.data.image_set import ImageSet
from mirst.data.phantom import write_phantoms
from mirst.defenses import CE
from mirst.nn import build_model
from mirst.report import write_report
from mirst.study import load_spec, run_study
from mirst.study.engines.memory import forget_peak_memory, peak_memory
from mirst.training import Training, fit

PAGE = Path("docs/results/growth.md")
COUNTS = (1000, 5000, 20000)
LIMIT = 1.2
EXCEPT = "audit"
STUDY = """
data: {{path: {data}, size: 16}}
model: {{name: cnn_small}}
training: {{epochs: 1}}
defenses: [ce]
attacks: [fgsm]
folds: {{count: 2}}
"""
Measured = dict[str, dict[str, float]]


def measure(count: int, folder: Path) -> Measured:
    """CPU seconds, wall seconds and MiB at most of each step, with `count` phantoms below `folder`."""
    os.environ["MIRST_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    found: Measured = {}

    def timed(step: str, run: Callable[[], Any]) -> Any:
        forget_peak_memory()
        cpu, wall = time.process_time(), time.perf_counter()
        result = run()
        found[step] = {
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
            "MiB": peak_memory() / 2**20,
        }
        return result

    records = timed("read", lambda: read_dataset(folder / "data"))
    records = timed("audit", lambda: audit_records(records)).grouped()
    images = timed("prepare", lambda: prepare_images([record.file for record in records], 64))
    timed("folds", lambda: make_folds(records, 5))
    labels = np.array([int(record.label == "malignant") for record in records])
    loader = data_loader(ImageSet(images.pixels, labels), 16, shuffle=True)
    model = build_model("resnet_tiny", 1, 2)
    timed("training epoch", lambda: fit(model, loader, CE(), settings=Training(epochs=1)))
    out = folder / "results"
    (folder / "study.yaml").write_text(STUDY.format(data=folder / "data"), encoding="utf-8")
    run_study(load_spec(folder / "study.yaml"), out)
    timed("report", lambda: write_report(out))
    found["report"]["page MiB"] = (out / "report.html").stat().st_size / 2**20
    return found


def exponent(counts: list[int], values: list[float]) -> float:
    """The slope of the values over the numbers of images, both as logarithms."""
    return float(np.polyfit(np.log(counts), np.log(np.maximum(values, 1e-3)), 1)[0])


def page(results: dict[int, Measured]) -> Iterator[str]:
    counts = sorted(results)
    yield "# Growth\n"
    yield "`python -m benchmarks.growth` writes this page. It shows CPU seconds and the exponent of their growth."
    yield "The images are phantoms. Each step has one thread; the audit has one per core.\n"
    yield f"| step | {' | '.join(f'{count:,} images' for count in counts)} | exponent | MiB at most | |"
    yield f"|---|{'---|' * (len(counts) + 3)}"
    for step in results[counts[0]]:
        seconds = [results[count][step]["cpu"] for count in counts]
        slope = exponent(counts, seconds)
        verdict = "" if step == EXCEPT else "reached" if slope <= LIMIT else "missed"
        cells = " | ".join(f"{value:.2f}" for value in seconds)
        yield f"| {step} | {cells} | {slope:.2f} | {results[counts[-1]][step]['MiB']:.0f} | {verdict} |"
    pages = [results[count]["report"]["page MiB"] for count in counts]
    yield f"\nTarget: an exponent of at most {LIMIT}, but for the {EXCEPT}. Size of the report in MiB:"
    yield f"{', '.join(f'{size:.2f}' for size in pages)}."


def main(counts: list[int]) -> None:
    results: dict[int, Measured] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_phantoms(folder / "data", count // 2, seed=count)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                results[count] = fresh.submit(measure, count, folder).result()
        print(count, json.dumps(results[count]), flush=True)
    PAGE.write_text("\n".join([*page(results), ""]), encoding="utf-8")


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or list(COUNTS))
