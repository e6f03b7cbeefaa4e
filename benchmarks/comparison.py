"""What comparing the optimised copy with the model costs: `python -m benchmarks.comparison`."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.timing import medians
from mirst.attacks import APGD, FGSM, PGD
from mirst.defenses import AT, MIRST
from mirst.nn import build_model
from mirst.nn.accelerate.agreement import optimized
from mirst.nn.accelerate.folded_batch_norms import folded
from mirst.nn.frozen import frozen


def comparison(repeats: int = 7) -> Iterator[str]:
    for name, size, batch in (("resnet_tiny", 64, 64), ("resnet_tiny", 64, 16), ("resnet18", 64, 16)):
        torch.manual_seed(0)
        model = build_model(name, 1, 2).eval()
        x, y = torch.rand(batch, 1, size, size), torch.arange(batch) % 2
        crafting = {"AT step": AT(), "MIRST step": MIRST()} if batch == 16 else {}
        attacks = {"FGSM": FGSM(), "PGD-20": PGD(), "APGD-100": APGD()}
        runs: dict[str, Callable[[], object]] = {
            "copy": lambda model=model: folded(model),
            "copy and comparison": lambda model=model, x=x: _optimized(model, x),
        }
        runs |= {title: lambda run=run, x=x, y=y, model=model: run(model, x, y) for title, run in attacks.items()}
        runs |= {
            title: lambda run=run, x=x, y=y, model=model: _step(run, model, x, y) for title, run in crafting.items()
        }
        seconds = medians(runs, repeats)
        alone = seconds["copy and comparison"] - seconds["copy"]
        yield f"{name}, {size} px, batch {batch}: copy {seconds['copy']:.4f} s, comparison {alone:.4f} s"
        yield from (
            f"  {title}: {alone / seconds[title]:.3f} of {seconds[title]:.3f} s" for title in [*attacks, *crafting]
        )


def _optimized(model: torch.nn.Module, x: torch.Tensor) -> object:
    with frozen(model, training=False):
        return optimized(model, x)


def _step(defense: AT | MIRST, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    model.train()
    defense(model, x, y).total.backward()
    model.eval()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in comparison():
        print(line, flush=True)
