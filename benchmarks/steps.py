"""Training steps of RST, MIRST and the certified defenses: time, and peak memory."""

import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.passes import passes
from benchmarks.timing import Target, medians, section, timed
from mirst.defenses import AT, CE, CROWNIBP, GR, IBP, LLR, MIRST, MTLIBP, RST, SABR, TRADES, Defense
from mirst.nn import build_model, reference_mode
from mirst.study.engines.memory import peak_memory

FUSED = {"craft_mode": "train", "joint_batch": False}
DEFENSES: dict[str, tuple[Defense, bool]] = {
    "CE": (CE(), True),
    "RST": (RST(), True),
    "RST, passes shared": (RST(**FUSED), True),
    "MIRST": (MIRST(), True),
    "MIRST, passes shared": (MIRST(**FUSED), True),
    "plain RST": (RST(), False),
    "plain MIRST": (MIRST(), False),
    "plain MIRST, crafted in train mode": (MIRST(craft_mode="train"), False),
    "plain MIRST, crafted in train mode, one by one": (MIRST(**FUSED), False),
}
BY_PASSES: dict[str, Defense] = {
    "CE": CE(),
    "GR": GR(),
    "AT": AT(),
    "LLR": LLR(),
    "TRADES": TRADES(),
    "RST": RST(),
    "RST, passes shared": RST(**FUSED),
    "MIRST": MIRST(),
    "MIRST, passes shared": MIRST(**FUSED),
}
CERTIFIED: dict[str, Defense] = {
    "CE": CE(),
    "IBP": IBP(),
    "IBP in the ramp": IBP(eps_share=0.5),
    "CROWN-IBP": CROWNIBP(beta=0.5),
    "SABR": SABR(),
    "MTL-IBP": MTLIBP(),
    "RST": RST(),
    "MIRST": MIRST(),
}
PLAIN = ("plain MIRST, crafted in train mode, one by one",)


def steps() -> Iterator[str]:
    for name, size, repeats in (("resnet_tiny", 64, 15), ("resnet18", 64, 5)):
        yield timed(
            f"Training step, {name}, {size} px, batch 16",
            {title: step(name, size, defense, fast) for title, (defense, fast) in DEFENSES.items()},
            repeats,
            targets=(
                Target(("MIRST", "MIRST, passes shared"), ("RST", "RST, passes shared"), 1.2),
                Target(("MIRST, passes shared",), PLAIN, 0.85),
            ),
        )


def floors() -> Iterator[str]:
    """Training steps against the passes that they take, at the cost of a pass in a step of CE."""
    for name, size, repeats, limit in (("resnet_tiny", 64, 15, 1.4), ("resnet18", 64, 5, 1.25)):
        seconds = medians({title: step(name, size, defense, True) for title, defense in BY_PASSES.items()}, repeats)
        one = seconds["CE"] / passes(CE())
        lines = [
            f"### Training step against its passes, {name}, {size} px, batch 16; {torch.get_num_threads()} thread(s), "
            f"medians of {repeats}",
            "",
            "| | passes | ms | of the floor | |",
            "|---|---|---|---|---|",
        ]
        for title, defense in BY_PASSES.items():
            count = passes(defense)
            ratio = seconds[title] / (count * one)
            verdict = "reached" if ratio <= limit else "missed"
            lines.append(f"| {title} | {count:g} | {seconds[title] * 1000:.4g} | {ratio:.2f} | {verdict} |")
        yield "\n".join([*lines, "", f"A pass takes {one * 1000:.3g} ms. Target: at most {limit}.", ""])


def threads() -> Iterator[str]:
    """The same step by one and by two threads, in turns."""
    for name, size in (("resnet18", 64), ("resnet18", 128)):
        run = step(name, size, RST(), True)

        def with_threads(count: int, run: Callable[[], None] = run) -> None:
            torch.set_num_threads(count)
            run()

        yield section(
            f"RST step of {name}, {size} px, batch 16, by threads; medians of 5",
            medians({f"{count} thread(s)": partial(with_threads, count) for count in (1, 2)}, 5),
            "ms",
            1000,
            (Target(("2 thread(s)",), ("1 thread(s)",), 0.6),),
        )


def certified_steps() -> Iterator[str]:
    for name, size, repeats in (("cnn_small", 64, 15), ("resnet_tiny", 64, 15), ("resnet18", 64, 5)):
        model = _model(name, fast=True)  # one for all: a model is traced once in a training
        yield timed(
            f"Training step on bounds, {name}, {size} px, batch 32",
            {title: _step_on(model, size, 32, defense) for title, defense in CERTIFIED.items()},
            repeats,
            targets=(Target(("IBP",), ("CE",), 3.0),),
        )


def memory() -> Iterator[str]:
    """Of the whole process, above what it held before the step."""
    cases = {
        "RST": RST(),
        "RST one by one": RST(joint_batch=False),
        "MIRST one by one": MIRST(joint_batch=False),
        "MIRST, passes shared": MIRST(**FUSED),
        "MIRST, joint batch": MIRST(),
    }
    peaks = {}
    for title, defense in cases.items():
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            peaks[title] = fresh.apply(_peak, (defense,))
    yield section(
        "Peak memory of a training step, resnet18, 128 px, batch 16",
        peaks,
        "MiB",
        1 / 2**20,
        targets=(Target(("MIRST one by one",), ("RST",), 1.2), Target(("MIRST, passes shared",), ("RST",), 1.2)),
    )


def step(name: str, size: int, defense: Defense, fast: bool) -> Callable[[], None]:
    """One step of the defense, on a batch of 16."""
    return _step_on(_model(name, fast), size, 16, defense, fast)


def _model(name: str, fast: bool) -> torch.nn.Module:
    model = build_model(name, 1, 2).train()
    return model.to(memory_format=torch.channels_last) if fast else model  # as `fit` has it


def _step_on(model: torch.nn.Module, size: int, batch: int, defense: Defense, fast: bool = True) -> Callable[[], None]:
    x, y = torch.rand(batch, 1, size, size), torch.arange(batch) % 2

    def run() -> None:
        model.zero_grad()
        with reference_mode(not fast):
            defense(model, x, y).total.backward()

    return run


def _peak(defense: Defense) -> int:
    """Bytes, in a process that has done nothing else: what it has freed would hide what a step needs."""
    torch.set_num_threads(1)
    run = step("resnet18", 128, defense, True)
    before = peak_memory()
    run()
    return peak_memory() - before
