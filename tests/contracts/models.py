"""Models as users bring them: what an optimised copy could get wrong."""

import functools
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mirst.nn import BoxFusion, Ensemble, box_code
from tests.helpers import FUSED

Factory = Callable[[], nn.Module]


class Net(nn.Module):
    """Convolution, batch norm, ReLU, pool, convolution, classifier: the body of most families below."""

    def __init__(self, conv: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1) if conv is None else conv
        self.norm = nn.BatchNorm2d(6) if norm is None else norm
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2))

    def features(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.pool(self.features(x).relu())).relu())


# Subclasses of layers


class Doubled(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, 2 * self.weight, self.bias, self.stride, self.padding)


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019); the view fails on weights that lie channels last."""

    def forward(self, x):
        flat = self.weight.view(len(self.weight), -1)
        weight = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
        return F.conv2d(x, weight.view_as(self.weight), self.bias, self.stride, self.padding)


class Gained(nn.Conv2d):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 3.0))

    def forward(self, x):
        return self._conv_forward(x, self.gain * self.weight, self.bias)


class Quantised(nn.Conv2d):
    """Two-bit weights with a straight-through gradient."""

    def forward(self, x):
        scale = self.weight.detach().abs().amax() / 2
        weight = self.weight + ((self.weight / scale).round() * scale - self.weight).detach()
        return self._conv_forward(x, weight, self.bias)


class Circular(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), self.weight, self.bias)


class WithRelu(nn.BatchNorm2d):
    def forward(self, x):
        return -super().forward(x).relu()


class OnePlus(nn.BatchNorm2d):
    """Its weight is an offset from 1."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, 1 + self.weight, self.bias, self.training)


class Called(nn.Conv2d):
    """`__call__` itself is another."""

    def __call__(self, x):
        return 2 * super().__call__(x)


def conv(kind: type[nn.Conv2d]) -> nn.Conv2d:
    return kind(1, 6, 3, padding=1)


# Patched instances


def patched_conv() -> nn.Module:
    net = Net()
    layer = net.conv
    layer.forward = lambda x: F.conv2d(x, 2 * layer.weight, layer.bias, padding=1)
    return net


def patched_inner() -> nn.Module:
    net = Net()
    layer, inner = net.conv, net.conv._conv_forward
    layer._conv_forward = lambda x, weight, bias: inner(x, 2 * weight, bias)
    return net


def patched_norm() -> nn.Module:
    net = Net()
    layer = net.norm
    layer.forward = lambda x: 3 * nn.BatchNorm2d.forward(layer, x)
    return net


def patched_model() -> nn.Module:
    net = Net()
    net.forward = lambda x: net.head(net.second(net.pool(net.conv(x).relu())).relu())
    return net


def hooked(register: str, hook: Callable) -> Factory:
    def build() -> nn.Module:
        net = Net()
        getattr(net.conv, register)(hook)
        return net

    return build


# Forwards that use their layers otherwise


class ReadsConv(Net):
    def features(self, x):
        return self.norm(self.conv(x)) + F.conv2d(x, self.conv.weight, padding=1)


class ReadsNorm(Net):
    def features(self, x):
        return self.norm(self.conv(x)) * self.norm.weight.view(-1, 1, 1) + self.norm.running_mean.view(-1, 1, 1)


class ReadsByName(Net):
    def features(self, x):
        return self.norm(self.conv(x)) * sum(p.square().sum() for p in self.conv.parameters())


class Reader(nn.Module):
    """Reads a layer that it does not hold."""

    def __init__(self, peer):
        super().__init__()
        self.peers = [peer]

    def forward(self, x):
        return x * self.peers[0].weight.abs().mean() * 10


class ReadsThroughLeaf(Net):
    def __init__(self):
        super().__init__()
        self.reader = Reader(self.conv)

    def features(self, x):
        return self.reader(self.norm(self.conv(x)))


class ThroughLambda(Net):
    def __init__(self):
        super().__init__()
        self.apply_norm = lambda x: self.norm(x)

    def features(self, x):
        return self.apply_norm(self.conv(x))


class ThroughPartial(Net):
    def __init__(self):
        super().__init__()
        self.apply_norm = functools.partial(nn.Module.__call__, self.norm)

    def features(self, x):
        return self.apply_norm(self.conv(x))


class NormFirstThenLambda(Net):
    """The norm is called by name where the copy is traced, and by a closure after a flag was set."""

    def __init__(self):
        super().__init__()
        norm = self.norm
        self.again = lambda x: norm(x)

    def features(self, x):
        return self.again(self.norm(self.conv(x)))


class FunctionalNorm(Net):
    def features(self, x):
        n = self.norm
        return F.batch_norm(self.conv(x), n.running_mean, n.running_var, 2 * n.weight, n.bias, n.training)


class Skips(Net):
    def features(self, x):
        before = self.conv(x)
        return self.norm(before) + before


class UsesConvTwice(Net):
    def features(self, x):
        return self.norm(self.conv(x)) + self.conv(1 - x)


class TwoNames(Net):
    def __init__(self):
        super().__init__()
        self.alias = self.norm

    def features(self, x):
        return self.alias(self.conv(x))


class Branches(Net):
    def features(self, x):
        return self.norm(self.conv(x)) if x.mean() > 10 else self.conv(x)


class BySize(Net):
    def features(self, x):
        return self.norm(self.conv(x)) if x.shape[-1] > 100 else 2 * self.conv(x)


class ByGrad(Net):
    """A path for training only, as some purifiers have."""

    def features(self, x):
        return self.norm(self.conv(x)) if torch.is_grad_enabled() else self.conv(x)


class Flagged(Net):
    use_norm = True

    def features(self, x):
        return self.norm(self.conv(x)) if self.use_norm else self.conv(x)


class RewritesWeight(Net):
    """Standardises the weight in place before each use, behind autograd's back."""

    def features(self, x):
        weight = self.conv.weight
        weight.data.copy_(weight.data / weight.data.norm())
        return self.norm(self.conv(x))


class RoutesByBrightness(Net):
    """Its strided convolution gets its weights from what the batch looks like."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(6, 6, 3, 2, 1, bias=False)
        weight = self.down.weight.detach().clone()
        self.register_buffer("experts", torch.stack([weight, -weight]))

    def features(self, x):
        features = super().features(x)
        with torch.no_grad():
            self.down.weight.copy_(self.experts[int(x.mean() > 0.5)])
        return self.down(features)


class LowRank(Net):
    """The convolution is called with a weight that is not its own, as adapters do."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(1, 9)), nn.Parameter(torch.zeros(6, 1))

    def features(self, x):
        weight = self.conv.weight + (self.b @ self.a).view(6, 1, 3, 3)
        return self.norm(torch.func.functional_call(self.conv, {"weight": weight}, (x,)))


class ScaledGradient(Net):
    """A hook on a parameter scales its gradient, once."""

    def __init__(self):
        super().__init__()
        self.second.weight.register_hook(lambda gradient: 0.1 * gradient)


class Keeps(Net):
    def features(self, x):
        self.kept = self.norm(self.conv(x))
        return self.kept


class KeepsOnce(Net):
    kept = None

    def features(self, x):
        if self.kept is None:
            self.kept = [x.new_tensor(2.0)]
        return self.norm(self.conv(x)) * self.kept[0]


class CountsCalls(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(1, 6, 1, 1))

    def features(self, x):
        self.calls += 1
        features = self.norm(self.conv(x))
        self.mean = 0.9 * self.mean + 0.1 * features.detach().mean((0, 2, 3), keepdim=True)
        return features


class InPlace(Net):
    def forward(self, x):
        return super().forward(x.mul_(2).sub_(1))


class MonteCarloDropout(Net):
    def features(self, x):
        return F.dropout(self.norm(self.conv(x)), 0.3, training=True)


class Autocast(Net):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


class Checkpointed(Net):
    def features(self, x):
        return checkpoint(super().features, x, use_reentrant=False)


class NotCopied(Net):
    def __deepcopy__(self, memo):
        raise TypeError("there is one of me")


class KnowsBox(nn.Module):
    """A fusion that is given the same box for every image, so that it takes the images of the other families."""

    def __init__(self):
        super().__init__()
        self.fusion = BoxFusion(Net(), positive=1)
        self.fusion.set_box(FUSED)

    def forward(self, x):
        box = box_code(torch.tensor([[0.3, -2.0]]), x.shape[-1]).to(x)
        return self.fusion(torch.cat([x, box.expand(len(x), -1, -1, -1)], 1))


class OwnEnsemble(nn.Module):
    def __init__(self):
        super().__init__()
        self.members = nn.ModuleList(Net() for _ in range(3))

    def forward(self, x):
        return torch.stack([member(x) for member in self.members]).mean(0)


def parametrised(function: Callable[[nn.Module], nn.Module]) -> Factory:
    return lambda: Net(conv=function(nn.Conv2d(1, 6, 3, padding=1)))


def qat() -> nn.Module:
    from torch.ao.nn.intrinsic.qat import ConvBn2d
    from torch.ao.quantization import get_default_qat_qconfig

    net = Net(conv=ConvBn2d(1, 6, 3, padding=1, qconfig=get_default_qat_qconfig("fbgemm")), norm=nn.Identity())
    net(torch.rand(4, 1, 16, 16))  # its observers have no range before
    return net


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(nn.Sequential(*_layers()))


def _layers() -> list[nn.Module]:
    return [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(24, 2)]  # fmt: skip


def norm_without(**without: bool) -> Factory:
    return lambda: Net(norm=nn.BatchNorm2d(6, **without))


FAMILIES: dict[str, Factory] = {
    "plain": Net,
    "doubled weight": lambda: Net(conv=conv(Doubled)),
    "weight standardisation": lambda: Net(conv=conv(Standardised)),
    "gain": lambda: Net(conv=conv(Gained)),
    "quantised weight": lambda: Net(conv=conv(Quantised)),
    "own padding": lambda: Net(conv=Circular(1, 6, 3)),
    "own call": lambda: Net(conv=conv(Called)),
    "norm with relu": lambda: Net(norm=WithRelu(6)),
    "norm of one plus weight": lambda: Net(norm=OnePlus(6)),
    "conv patched": patched_conv,
    "conv patched inside": patched_inner,
    "norm patched": patched_norm,
    "model patched": patched_model,
    "output hook": hooked("register_forward_hook", lambda layer, x, output: 2 * output),
    "input hook": hooked("register_forward_pre_hook", lambda layer, x: (2 * x[0],)),
    "backward hook": hooked("register_full_backward_hook", lambda layer, grad_in, grad_out: None),
    "reads the conv": ReadsConv,
    "reads the norm": ReadsNorm,
    "reads parameters()": ReadsByName,
    "reads through a leaf": ReadsThroughLeaf,
    "norm through a lambda": ThroughLambda,
    "norm through a partial": ThroughPartial,
    "norm twice": NormFirstThenLambda,
    "functional norm": FunctionalNorm,
    "skip around the norm": Skips,
    "conv twice": UsesConvTwice,
    "norm of two names": TwoNames,
    "branch by data": Branches,
    "branch by size": BySize,
    "branch by gradient mode": ByGrad,
    "weight rewritten": RewritesWeight,
    "weight by brightness": RoutesByBrightness,
    "low-rank adapter": LowRank,
    "parameter hook": ScaledGradient,
    "group norm": lambda: Net(norm=nn.GroupNorm(2, 6)),
    "instance norm": lambda: Net(norm=nn.InstanceNorm2d(6, affine=True)),
    "keeps a feature": Keeps,
    "keeps once": KeepsOnce,
    "buffers change": CountsCalls,
    "in place": InPlace,
    "active dropout": MonteCarloDropout,
    "autocast": Autocast,
    "checkpointed": Checkpointed,
    "not copied": NotCopied,
    "ensemble of the user's own": OwnEnsemble,
    "ensemble": lambda: Ensemble([Net() for _ in range(3)], (0.2, -0.1, 0.0)),
    "ensemble of fusions": lambda: Ensemble([BoxFusion(Net(), positive=0) for _ in range(2)], (0.2, 0.1), positive=0),
    "box fusion": lambda: BoxFusion(Net(), positive=1),
    "box fusion inside": KnowsBox,
    "norm without statistics": norm_without(track_running_stats=False),
    "norm without weight": norm_without(affine=False),
    "weight norm": parametrised(nn.utils.parametrizations.weight_norm),
    "spectral norm": parametrised(nn.utils.parametrizations.spectral_norm),
    "old spectral norm": parametrised(nn.utils.spectral_norm),
    "quantisation-aware": qat,
    "scripted": scripted,
    "data parallel": lambda: nn.DataParallel(Net()),
    "compiled": lambda: torch.compile(Net(), backend="eager"),
}


TAKE_A_BOX = {"box fusion", "ensemble of fusions"}


def family(name: str) -> nn.Module:
    """One of `FAMILIES`, on statistics of its own, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FAMILIES[name]()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.3, 2.0)
                if layer.affine:
                    nn.init.uniform_(layer.weight, 0.5, 1.5)
    return model.eval()
