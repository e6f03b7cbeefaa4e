"""`python -m benchmarks.gpu`: training steps and drop-max on a CUDA GPU, written to `docs/results/gpu.md`."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from mirst.defenses import CE, MIRST, RST, Defense
from mirst.nn import build_model, drop_max2d

PAGE = Path("docs/results/gpu.md")
DEFENSES: dict[str, tuple[Defense, bool, int, int]] = {
    "CE": (CE(), False, 0, 1),
    "RST": (RST(), False, 10, 2),
    "MIRST": (MIRST(), False, 10, 5),
    "MIRST + DM": (MIRST(), True, 10, 5),
}
"""Each with drop-max or not, the number of crafting steps, and of batches on which a step trains the weights."""
REPEATS = 7


def seconds(run: Callable[[], object]) -> float:
    """Median of `REPEATS` runs after two warm-up runs, each waited for."""
    times = []
    for number in range(REPEATS + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def step(defense: Defense, drop_max: bool, batch: int, bf16: bool) -> Callable[[], None]:
    """One training step of resnet50 on `batch` gray images of 224 px, without the optimizer."""
    model = build_model("resnet50", 1, 2, drop_max).cuda().train().to(memory_format=torch.channels_last)
    x, y = torch.rand(batch, 1, 224, 224, device="cuda"), torch.arange(batch, device="cuda") % 2

    def run() -> None:
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16) if bf16 else nullcontext():
            defense(model, x, y).total.backward()

    return run


def training_steps() -> Iterator[str]:
    """Images per second, and each step as a multiple of its counted passes.

    A batch that trains the weights has three passes (forward, input gradient, weight gradient), as a CE step; a
    crafting step has the first two.
    """
    yield (
        "| precision | batch | " + " | ".join(f"{name}, images/s" for name in DEFENSES) + " | multiple of the passes |"
    )
    yield "|---|---|" + "---|" * (len(DEFENSES) + 1)
    for bf16 in (False, True):
        for batch in (8, 32):
            took = {name: seconds(step(case[0], case[1], batch, bf16)) for name, case in DEFENSES.items()}
            floors = {name: took["CE"] * (case[2] * 2 / 3 + case[3]) for name, case in DEFENSES.items()}
            rates = " | ".join(f"{batch / took[name]:.0f}" for name in DEFENSES)
            ratios = ", ".join(f"{name} {took[name] / floors[name]:.2f}" for name in DEFENSES if name != "CE")
            yield f"| {'bf16 autocast' if bf16 else 'fp32'} | {batch} | {rates} | {ratios} |"


def pooling() -> Iterator[str]:
    yield "| tensor | format | forward | forward + backward |\n|---|---|---|---|"
    for shape in ((8, 64, 112, 112), (16, 16, 32, 32), (32, 64, 112, 112)):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.rand(shape, device="cuda").contiguous(memory_format=layout)
            forward = _ratio(lambda pool, x=x: lambda: pool(x))
            both = _ratio(lambda pool, x=x: _with_backward(pool, x))
            name = "channels last" if layout is torch.channels_last else "NCHW"
            yield f"| {shape} | {name} | {forward:.2f} | {both:.2f} |"


def _ratio(case: Callable[[Callable[[Tensor], Tensor]], Callable[[], object]]) -> float:
    def max_pool(x: Tensor) -> Tensor:
        return max_pool2d(x, 3, 2, 1)

    def drop_max(x: Tensor) -> Tensor:
        return drop_max2d(x, 3, 2, 1)

    return seconds(_often(case(drop_max))) / seconds(_often(case(max_pool)))


def _often(run: Callable[[], object]) -> Callable[[], None]:
    def several() -> None:
        for _ in range(50):
            run()

    return several


def _with_backward(pool: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    """With a dense gradient in the format of the output, as a convolution hands it back."""
    leaf = x.clone().requires_grad_(True)
    gradient = torch.rand_like(pool(leaf))
    return lambda: torch.autograd.grad(pool(leaf), leaf, gradient)


def deviation() -> str:
    """Largest difference of drop-max and its gradient on the GPU from those on the CPU."""
    x = torch.rand(4, 8, 33, 32)
    worst = 0.0
    for layout in (torch.contiguous_format, torch.channels_last):
        results = []
        for device in ("cpu", "cuda"):
            leaf = x.to(device).contiguous(memory_format=layout).requires_grad_(True)
            y = drop_max2d(leaf, 3, 2, 1)
            (gradient,) = torch.autograd.grad(y.square().sum(), leaf)
            results.append((y.detach().cpu(), gradient.cpu()))
        (a, ga), (b, gb) = results
        worst = max(worst, (a - b).abs().max().item(), (ga - gb).abs().max().item())
    logits = [_logits(device) for device in ("cpu", "cuda")]
    return f"drop-max, CPU against GPU: {worst:.3g}; logits of resnet18: {(logits[0] - logits[1]).abs().max():.3g}"


@torch.no_grad()
def _logits(device: str) -> Tensor:
    torch.manual_seed(0)
    model: nn.Module = build_model("resnet18", 1, 2, True).eval()
    x = torch.rand(4, 1, 64, 64)
    return model.to(device)(x.to(device)).cpu()


def main() -> None:
    torch.manual_seed(0)
    lines = [
        "# On a GPU",
        "",
        f"`python -m benchmarks.gpu` writes this page. Measured on: {torch.cuda.get_device_name()}, torch "
        f"{torch.__version__}.",
        "",
        "## Training step of resnet50, 224 px, gray images, without the optimizer",
        "",
        *training_steps(),
        "",
        "## drop-max as a multiple of max-pool",
        "",
        *pooling(),
        "",
        deviation(),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
