"""Training steps of RST, MIRST and the certified defenses: time, and peak memory."""

import multiprocessing
from collections.abc import Callable, Iterator

import torch

from benchmarks.timing import Target, section, timed
from mirst.defenses import CE, CROWNIBP, IBP, MIRST, MTLIBP, RST, SABR, Defense
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
                Target("MIRST, passes shared", ("RST", "RST, passes shared"), 1.2),
                Target("MIRST, passes shared", PLAIN, 0.85),
            ),
        )


def certified_steps() -> Iterator[str]:
    for name, size, repeats in (("cnn_small", 64, 15), ("resnet_tiny", 64, 15), ("resnet18", 64, 5)):
        model = _model(name, fast=True)  # one for all: a model is traced once in a training
        yield timed(
            f"Training step on bounds, {name}, {size} px, batch 32",
            {title: _step_on(model, size, 32, defense) for title, defense in CERTIFIED.items()},
            repeats,
            targets=(Target("IBP", ("CE",), 3.0),),
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
        targets=(Target("MIRST one by one", ("RST",), 1.2), Target("MIRST, passes shared", ("RST",), 1.2)),
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
