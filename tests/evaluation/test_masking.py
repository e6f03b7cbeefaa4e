"""Planted models, each masked in one way, must trip the checks made for it; honest ones must trip none."""

import copy
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mirst.attacks import APGD, CW, FAB, FGSM, PGD, MultiTargeted, Square, StandIn, SurrogateBackward, Transfer
from mirst.defenses import CE, RST
from mirst.errors import MirstError
from mirst.evaluation.masking import check_masking
from mirst.evaluation.masking.attack_checks import more_steps, noise, one_step, unbounded
from mirst.evaluation.masking.check import Check, overall, tolerance
from mirst.evaluation.masking.gradient_checks import finite_differences, gradients, repeatable
from mirst.evaluation.masking.suite_checks import budget, gradient_free, rising_eps, transfer
from mirst.evaluation.suites import paper
from mirst.nn import BoxFusion, box_code, replace_first_max_pool
from mirst.nn.box_fusion import BoxRegression
from mirst.nn.frozen import frozen
from mirst.training import Training, fit
from tests.helpers import small_cnn, snapshot

EPS = 0.08
NAMES = ["budget", "one-step", "rising eps", "unbounded", "more steps", "gradient-free", "transfer"]
NAMES += ["gradients", "repeatable", "noise", "finite differences"]


def images(n, seed):
    """A bright patch, left or right, and a faint checkerboard in phase with the label, on noise with a black border.

    Most patches stand out by more than 2 eps, the checkerboard by less: one is the robust feature, the other the easy.
    """
    draws = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    contrast = 0.15 + 0.45 * torch.rand(n, generator=draws)
    board = 0.12 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2 - 0.5)
    x = 0.2 + 0.2 * torch.rand(n, 1, 16, 16, generator=draws) + board * (2 * y - 1).view(-1, 1, 1, 1)
    patch = torch.zeros(n, 1, 16, 16)
    patch[y == 0, :, 6:10, 3:7], patch[y == 1, :, 6:10, 9:13] = 1.0, 1.0
    x = x + contrast.view(-1, 1, 1, 1) * patch
    x[:, :, :2] = 0.0
    return x.clamp(0, 1), y


def trained(defense, epochs, seed=0):
    model = small_cnn(seed=seed)
    data = DataLoader(TensorDataset(*images(200, seed=1)), batch_size=20, shuffle=True)
    fit(model, data, defense, settings=Training(epochs=epochs, lr=5e-3), seed=seed)
    return model.eval()


@pytest.fixture(scope="session")
def undefended():
    return trained(CE(), epochs=10, seed=3)


@pytest.fixture(scope="session")
def source():
    """Of transferred attacks."""
    return trained(CE(), epochs=10)


@pytest.fixture(scope="session")
def robust():
    return trained(RST(eps=EPS, steps=7, alpha=2.0), epochs=20, seed=2)


@pytest.fixture(scope="session")
def held_out():
    return images(32, seed=2)


class Planted(nn.Module):
    """A net with something done to its images or its logits."""

    def __init__(self, net, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


def quantised(x):
    return torch.round(x * 8) / 8


def straight_through(x):
    return x + (quantised(x) - x).detach()


def turned_round(x):
    """The gradient that comes back points the other way."""
    return 2 * x.detach() - x


def noisy(x):
    return x + 0.1 * torch.randn_like(x)


def saturated(z):
    return torch.tanh(1e5 * (z - z.mean(1, keepdim=True)))


def rippled(z):
    """Waves on the margin: small steps stop on the first crest, one long step does not."""
    gap = z[:, 1] - z[:, 0]
    return torch.stack([torch.zeros_like(gap), gap + 0.1 * torch.sin(40 * gap)], 1)


def constant(z):
    return 0 * z + torch.tensor([0.0, 1.0], dtype=z.dtype)


def large(z):
    """Margins at which the cross-entropy's gradient is 0 in float32."""
    return 1e3 * z


@dataclass(frozen=True, kw_only=True)
class WrongWay:
    """PGD that descends the loss."""

    eps: float

    def __call__(self, model, x, y, *, generator=None):
        return PGD(eps=self.eps, steps=10, step_size=self.eps / 4, targeted=True)(model, x, y)


def suite(source, white_box):
    """White-box attacks first; a transferred one where there is a source."""
    attacks = dict(white_box)
    if source is not None:
        attacks["transfer"] = Transfer(source_model=source, attack=CW(eps=EPS, step_size=EPS / 8, steps=20))
    return attacks | {"square": Square(eps=EPS, queries=200)}


def generator():
    return torch.Generator().manual_seed(0)


def wrong(model, x, y):
    with frozen(model, training=False), torch.no_grad():
        return model(x).argmax(1) != y


def cascade(model, x, y, attacks):
    """How many images each attack was the first to misclassify."""
    draws = generator()
    by = ["none" if now else "" for now in wrong(model, x, y)]
    for name, attack in attacks.items():
        left = [i for i, attack in enumerate(by) if not attack]
        if not left:
            break
        after = wrong(model, attack(model, x[left], y[left], generator=draws), y[left])
        for i, now in zip(left, after, strict=True):
            by[i] = name if now else ""
    return Counter(name for name in by if name)


def curve(model, x, y):
    counts = {0.0: int(wrong(model, x, y).sum())}
    for eps in (EPS / 2, EPS):
        attack = APGD(eps=eps, loss="margin", steps=20, random_start=False)
        counts[eps] = int((wrong(model, x, y) | wrong(model, attack(model, x, y), y)).sum())
    return counts


STRONG = {"apgd": APGD(eps=EPS, loss="margin", steps=40), "fab": FAB(eps=EPS, steps=20)}


def checked(model, batch, source, white_box=STRONG):
    with torch.random.fork_rng():
        torch.manual_seed(0)  # for the randomised models
        attacks = suite(source, white_box)
        return check_masking(
            model,
            *batch,
            eps=EPS,
            attacks=attacks,
            misclassified_by=cascade(model, *batch, attacks),
            curve=curve(model, *batch),
        )


def tripped(checks):
    return {check.name: check.verdict for check in checks if check.verdict != "pass"}


def test_undefended_model_of_large_margins_trips_nothing(undefended, source, held_out):
    model, (x, y) = Planted(undefended, after=large), held_out
    images = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(images), y), images)
    assert (gradient.flatten(1) == 0).all(1).float().mean() > 0.5  # what misleads attacks on the cross-entropy
    checks = checked(model, held_out, source)
    assert [check.name for check in checks] == NAMES
    assert tripped(checks) == {}
    assert overall(checks) == "pass"


def test_adversarially_trained_model_trips_nothing(robust, undefended, source, held_out):
    x, y = images(200, seed=5)
    attacked = APGD(eps=EPS, loss="margin")(robust, x, y, generator=generator())
    assert wrong(robust, x, y).float().mean() < 0.02
    assert wrong(robust, attacked, y).float().mean() < 0.4
    assert curve(undefended, *held_out)[EPS] > 2 * curve(robust, *held_out)[EPS]
    checks = checked(robust, held_out, source)
    assert tripped(checks) == {}
    assert overall(checks) == "pass"


@pytest.mark.parametrize(
    ("planted", "signs", "perhaps"),
    [
        ({"before": quantised}, {"unbounded", "transfer", "gradients"}, {"gradient-free"}),
        ({"before": straight_through}, {"finite differences"}, set()),
        ({"before": turned_round}, {"unbounded", "transfer", "finite differences"}, {"gradient-free", "more steps"}),
        ({"after": saturated}, {"unbounded", "transfer", "gradients"}, {"gradient-free"}),
        ({"after": rippled}, {"one-step"}, {"more steps"}),
        ({"before": noisy}, {"repeatable", "finite differences"}, {"more steps", "transfer", "gradient-free"}),
    ],
    ids=["quantised", "straight-through", "turned round", "saturated", "rippled", "noisy"],
)
def test_masked_model_trips_its_checks(planted, signs, perhaps, undefended, source, held_out):
    checks = checked(Planted(undefended, **planted), held_out, source)
    assert signs <= tripped(checks).keys() <= signs | perhaps
    assert {tripped(checks)[name] for name in signs} == {"fail"}
    assert overall(checks) == "fail"


def with_box(model):
    """`model` fused with a box that often decides alone."""
    fusion = BoxFusion(model, positive=1).eval()
    fusion.set_box(BoxRegression(mean=(0.0, -2.0), std=(0.5, 1.0), weight=(2.0, 2.0), bias=0.0))
    fusion.pixel_var.fill_(25.0)
    return fusion


@pytest.fixture
def boxed(held_out):
    """The held-out images and boxes; those of every second image agree with the label by more than the bound."""
    x, y = held_out
    side = (2 * y - 1) * (torch.arange(len(y)) // 2 % 2)
    boxes = torch.stack([0.7 * side, -2 + 1.4 * side], 1)
    return torch.cat([x, box_code(boxes, x.shape[-1])], 1), y


def test_a_fused_model_is_checked_without_its_box(undefended, boxed):
    model, (x, y) = with_box(undefended), boxed
    attacked = APGD(eps=0.4, loss="margin")(model, x, y, generator=generator())
    assert not wrong(model, attacked, y)[torch.arange(len(y)) // 2 % 2 == 1].any()  # the box holds them
    checks = checked(model, boxed, with_box(small_cnn(seed=9).eval()))
    assert tripped(checks) == {}
    called = {"one-step", "unbounded", "more steps", "gradients", "repeatable", "finite differences"}
    assert {check.name for check in checks if check.figures.startswith("without the box, ")} == called


@pytest.mark.parametrize(
    ("planted", "signs"),
    [
        ({"before": quantised}, {"unbounded", "gradients"}),
        ({"before": straight_through}, {"finite differences"}),
        ({"after": saturated}, {"unbounded", "gradients"}),
        ({"before": noisy}, {"repeatable", "finite differences"}),
    ],
    ids=["quantised", "straight-through", "saturated", "noisy"],
)
def test_masking_behind_a_box_is_found(planted, signs, undefended, boxed):
    checks = checked(with_box(Planted(undefended, **planted)), boxed, with_box(undefended))
    assert {tripped(checks).get(name) for name in signs} == {"fail"}


@pytest.mark.parametrize(
    ("attack", "after", "verdicts"),
    [
        (WrongWay(eps=EPS), None, {"gradient-free": "fail"}),
        (PGD(eps=EPS, steps=10), None, {"budget": "suspect", "gradient-free": "fail"}),
        (PGD(eps=EPS, steps=20, step_size=EPS / 8), large, {"gradient-free": "fail"}),
    ],
    ids=["wrong way", "tiny budget", "saturated cross-entropy"],
)
def test_broken_attack_trips_the_checks_of_the_suite(attack, after, verdicts, undefended, held_out):
    model = Planted(undefended, after=after) if after else undefended
    assert tripped(checked(model, held_out, None, {"pgd": attack})) == verdicts


def test_noise_is_a_floor_for_an_attack(undefended, held_out):
    def verdict(attack):
        attacked = int(wrong(undefended, attack(undefended, *held_out), held_out[1]).sum())
        return noise(undefended, *held_out, attack.eps, attacked, generator=generator()).verdict

    assert verdict(WrongWay(eps=0.4)) == "fail"
    assert verdict(CW(eps=0.4, step_size=0.05, steps=20)) == "pass"


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_constant_model_is_called_collapsed(labels, undefended):
    model, x, y = Planted(undefended, after=constant), images(4, seed=0)[0], torch.tensor(labels)
    found = unbounded(model, x, y, generator=generator())
    assert found == Check("unbounded", "fail", "collapsed: the model predicts class 1 for every image")
    assert gradients(model, x, y).verdict == "fail"


def test_a_batch_of_one_class_is_no_collapse(undefended, held_out):
    x, y = held_out
    found = unbounded(undefended, x[y == 1], y[y == 1], generator=generator())
    assert found == Check("unbounded", "pass", "an attack without bounds misclassifies 16 of 16 images")


def test_finite_differences_bear_drop_max_and_a_flat_background(undefended, held_out):
    model = replace_first_max_pool(copy.deepcopy(undefended))
    found = finite_differences(model, *held_out, generator=generator())
    assert found.verdict == "pass"
    assert "disagree on 0 of 32" in found.figures


@pytest.mark.parametrize("after", [lambda z: z @ torch.eye(2), lambda z: z.float()])
def test_model_without_float64_is_suspect(after, undefended, held_out):
    found = finite_differences(Planted(undefended, after=after), *held_out, generator=generator())
    assert found.verdict == "suspect"
    assert "cannot run in float64" in found.figures


def test_gradients_that_are_not_finite_are_counted(undefended, held_out):
    found = gradients(Planted(undefended, after=lambda z: (z - z.detach()).sqrt()), *held_out)
    assert found == Check(
        "gradients", "fail", "of 32 images, 0 have a zero gradient and 32 have one that is not finite"
    )


def test_budget_looks_inside_other_attacks(undefended):
    short, long = PGD(eps=0.02, steps=5), PGD()
    attacks = {
        "fgsm": FGSM(),
        "square": Square(),
        "pgd": long,
        "cw": CW(),
        "transfer": Transfer(source_model=undefended, attack=SurrogateBackward(attack=short)),
        "targets": MultiTargeted(attack=PGD(eps=0.02, steps=10, targeted=True)),
    }
    found = budget(attacks)
    assert found.verdict == "suspect"
    assert found.figures == (
        "the steps of cw add up to 51% of its eps, the steps of transfer add up to 25% of its eps, "
        "the steps of targets add up to 50% of its eps"
    )
    assert budget({"pgd": long, "exact": PGD(eps=0.3, steps=3, step_size=0.1), "fab": FAB()}).verdict == "pass"


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ({0.0: 3, 0.1: 30, 0.05: 10}, "pass"),
        ({0.0: 3, 0.05: 10, 0.1: 9}, "pass"),
        ({0.0: 3, 0.05: 10, 0.1: 8}, "fail"),
        ({0.0: 12, 0.05: 11, 0.1: 10}, "fail"),
    ],
)
def test_rising_eps(counts, verdict):
    assert rising_eps(counts, 64).verdict == verdict


@pytest.mark.parametrize("check", [gradient_free, transfer])
def test_more_than_the_tolerance_missed_by_white_box_attacks(check):
    assert [check(only, 64).verdict for only in (0, 1, 2)] == ["pass", "pass", "fail"]
    assert [check(only, 300).verdict for only in (3, 4)] == ["pass", "fail"]
    assert "2 of 64" in check(2, 64).figures


def test_tolerance_is_one_image_or_one_per_cent():
    assert [tolerance(n) for n in (1, 64, 100, 500)] == [1, 1, 1, 5]


def test_the_worst_verdict_counts():
    good, odd, bad = (Check("some", verdict, "figures") for verdict in ("pass", "suspect", "fail"))
    assert overall([good, odd]) == "suspect"
    assert overall([bad, odd, good]) == "fail"
    with pytest.raises(MirstError, match="no check was run"):
        overall([])


def test_it_repeats_leaves_the_model_alone_and_leaves_out_what_it_cannot_know():
    model = small_cnn(in_channels=3, classes=4).train()
    x, y = torch.rand(4, 3, 16, 16, generator=generator()), torch.tensor([0, 1, 2, 3])
    before, state = snapshot(model), torch.get_rng_state()

    def run(seed):
        return check_masking(
            model, x, y, eps=EPS, attacks={"pgd": PGD(eps=EPS)}, misclassified_by={"none": 3}, seed=seed
        )

    checks = run(1)
    assert checks == run(1)
    assert [check.name for check in checks] == [
        n for n in NAMES if n not in {"rising eps", "gradient-free", "transfer"}
    ]
    assert snapshot(model) == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: one_step(m, x, y, 0.0), "eps is 0.0"),
        (lambda m, x, y: more_steps(m, x, y, 1.5, generator=generator()), "eps is 1.5"),
        (lambda m, x, y: gradients(m, x[:0], y[:0]), "no images"),
        (lambda m, x, y: repeatable(m, x[:0]), "no images"),
        (lambda m, x, y: gradients(m, x + 1, y), r"lie in \[0, 1\]"),
        (lambda m, x, y: noise(m, x, y, EPS, 7, generator=generator()), "7 of 6 images"),
        (lambda m, x, y: gradient_free(-1, 6), "-1 of 6 images"),
        (lambda m, x, y: rising_eps({0.0: 1}, 6), "two or more eps"),
        (
            lambda m, x, y: check_masking(m, x, y, eps=EPS, attacks={}, misclassified_by={"pgd": 1}),
            "misclassified_by contains pgd",
        ),
    ],
)
def test_bad_input_is_named(call, message, model, batch):
    with pytest.raises(MirstError, match=message):
        call(model, *batch)


def counting():
    """A model whose logits move a little with every call."""
    calls = []

    def moved(z):
        calls.append(len(z))
        return z * (1 + 0.01 * (len(calls) // 5))

    return moved


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ({"before": noisy}, "two identical calls differ"),
        ({"before": lambda x: F.dropout(x, 0.3, training=True)}, "two identical calls differ"),
        ({"after": counting()}, "after calls on other images differ"),
        ({"before": lambda x: x - x.mean()}, "an image alone and the same image in a batch differ"),
        ({"after": lambda z: z - z.mean(0)}, "an image alone and the same image in a batch differ"),
    ],
    ids=["noise", "dropout", "state", "mean of the batch", "logits of the batch"],
)
def test_what_else_the_logits_depend_on_is_named(planted, words, undefended, held_out):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = repeatable(Planted(undefended, **planted), held_out[0])
    assert found.verdict == "fail"
    assert words in found.figures


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_of_half_precision_is_repeatable(dtype, undefended, held_out):
    assert repeatable(copy.deepcopy(undefended).to(dtype), held_out[0]).verdict == "pass"


@pytest.mark.parametrize("eps", [0.001, 0.005, 5 / 255])
def test_the_papers_attacks_alone_never_pass(eps):
    found = budget(paper(eps).attacks)
    assert found.verdict == "suspect"
    assert "all attacks have fixed steps (fgsm, pgd, cw), so surviving them proves nothing" in found.figures


def test_the_gradient_of_a_stand_in_is_what_is_checked(undefended, held_out):
    model = Planted(nn.Sequential(Quantised(), undefended))
    attacks = {"stand-in": StandIn(attack=STRONG["apgd"], stand_ins={Quantised: nn.Identity()})}
    counts = cascade(model, *held_out, attacks)

    def verdicts(stand_ins):
        found = check_masking(model, *held_out, eps=EPS, attacks=attacks, misclassified_by=counts, stand_ins=stand_ins)
        return {check.name: check.verdict for check in found}

    assert verdicts(None)["gradients"] == "fail"
    through = verdicts({Quantised: nn.Identity()})
    assert through["gradients"] == through["unbounded"] == "pass"
    assert "finite differences" not in through


class Quantised(nn.Module):
    def forward(self, x):
        return quantised(x)
