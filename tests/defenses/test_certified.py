"""IBP, SABR and MTL-IBP against slow transcriptions, and what all certified defenses share."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from mirst.attacks import PGD
from mirst.defenses import CE, CROWNIBP, IBP, MTLIBP, SABR
from mirst.defenses.stability import stability
from mirst.errors import MirstError
from mirst.nn import Normalized, build_model, replace_first_max_pool
from mirst.nn.cnn_small import SmallCNN
from tests.defenses.interval_oracle import bounds, worst_case
from tests.defenses.oracle import assert_same_loss_and_gradients
from tests.helpers import seeded, small_cnn, snapshot, without_dropout

EPS = 0.03
ALL = [IBP, CROWNIBP, SABR, MTLIBP]
QUICK = {IBP: {}, CROWNIBP: {}, SABR: {"steps": 3}, MTLIBP: {"steps": 3}}
every_defense = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def pooled(drop_max):
    model = without_dropout(small_cnn(classes=3)).double()
    return replace_first_max_pool(model) if drop_max else model


def small(drop_max):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Normalized(SmallCNN(in_channels=1, num_classes=3, width=4), (0.25,), (0.25,)).double()
        IBP().initialise(model)
        model(torch.rand(8, 1, 16, 16).double())
    return replace_first_max_pool(model) if drop_max else model


@pytest.fixture(params=[(make, mode, dm) for make in (pooled, small) for mode in (True, False) for dm in (True, False)])
def twins(request):
    make, mode, drop_max = request.param
    return tuple(make(drop_max).train(mode) for _ in range(2))


@pytest.fixture
def images(batch):
    return batch[0].double(), torch.tensor([0, 1, 2, 1, 2, 0])


def slow_cross_entropy(logits, y):
    rows = logits - logits.detach().max(1, keepdim=True).values  # worst-case logits may exceed 1000
    return -sum(row[label] - torch.log(torch.exp(row).sum()) for row, label in zip(rows, y, strict=True)) / len(y)


def ball(x, radius, centre=None):
    centre = x if centre is None else centre
    return torch.maximum(centre - radius, torch.zeros(())), torch.minimum(centre + radius, torch.ones(()))


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_ibp_equals_a_slow_transcription(twins, images, share):
    (ours, theirs), (x, y) = twins, images
    total, terms = IBP(eps=EPS, kappa=0.3, stabilisation=0.0).at_eps_share(share)(ours, x, y)
    clean, worst = worst_case(theirs, x, y, *ball(x, share * EPS))
    losses = slow_cross_entropy(clean, y), slow_cross_entropy(worst, y)
    weight = 0.7 * share
    assert_same_loss_and_gradients(ours, total, theirs, (1 - weight) * losses[0] + weight * losses[1])
    assert terms == pytest.approx({"clean": losses[0].item(), "certified": losses[1].item()})


def attacked(model, x, y, steps):
    """As the defenses craft: in eval mode, from a random start."""
    mode = model.training
    attack = PGD(eps=EPS, steps=steps, step_size=2 * EPS / steps, random_start=True)
    images = attack(model.eval(), x, y, generator=seeded())
    model.train(mode)
    return images


@pytest.mark.parametrize("small_box", [0.0, 0.4, 1.0])
def test_sabr_equals_a_slow_transcription(twins, images, small_box):
    (ours, theirs), (x, y) = twins, images
    total = SABR(eps=EPS, small_box=small_box, steps=3)(ours, x, y, generator=seeded()).total
    radius = small_box * EPS
    centre = attacked(theirs, x, y, 3)
    centre = torch.minimum(torch.maximum(centre, x - (EPS - radius)), x + (EPS - radius))
    _, worst = worst_case(theirs, x, y, *ball(x, radius, centre))
    assert_same_loss_and_gradients(ours, total, theirs, slow_cross_entropy(worst, y))


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_mtl_ibp_equals_a_slow_transcription(twins, images, alpha):
    """Adversarial images have the batch statistics of the clean ones."""
    (ours, theirs), (x, y) = twins, images
    total = MTLIBP(eps=EPS, alpha=alpha, steps=3)(ours, x, y, generator=seeded()).total
    moved = attacked(theirs, x, y, 3)
    _, point, _, last, _ = bounds(theirs, x, moved, moved)
    _, worst = worst_case(theirs, x, y, *ball(x, EPS))
    expected = (1 - alpha) * slow_cross_entropy(last(point), y) + alpha * slow_cross_entropy(worst, y)
    assert_same_loss_and_gradients(ours, total, theirs, expected)


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_the_ramp_adds_the_regularisers_of_shi(images, share):
    (ours, theirs), (x, y) = (small(False).train() for _ in range(2)), images
    plain = IBP(eps=EPS, stabilisation=0.0).at_eps_share(share)(theirs, x, y).total
    total = IBP(eps=EPS, stabilisation=0.8).at_eps_share(share)(ours, x, y).total
    *_, before = bounds(small(False).train(), x, *ball(x, share * EPS))
    normalised = [(side - 0.25) / 0.25 for side in before[0]]
    added = 0.8 * (1 - share) * sum(slow_stability(normalised, one) for one in before[1:]) / (len(before) - 1)
    assert added > 1e-3
    torch.testing.assert_close(total - plain, added)


def slow_stability(images, one):
    """Equations 9 and 10 of Shi et al. 2021, unit by unit."""
    (low, high), tau = one, 0.5
    centres = ((low + high) / 2).flatten()
    width, own = (images[1] - images[0]).mean(), (high - low).mean()
    loss = max(torch.zeros(()), tau - width / own) / tau
    mean = sum(centres) / len(centres)
    active = [c for c, end in zip(centres, low.flatten(), strict=True) if end > 0]
    inactive = [c for c, end in zip(centres, high.flatten(), strict=True) if end < 0]
    if active and inactive:
        first = sum(active) / -sum(inactive)
        second = sum((c - mean) ** 2 for c in active) / sum((c - mean) ** 2 for c in inactive)
        for ratio in (first, second):
            loss = loss + max(torch.zeros(()), tau - min(ratio, 1 / ratio)) / tau
    return loss


def test_a_layer_without_active_units_is_not_balanced():
    images, dead = (torch.zeros(3), torch.ones(3)), (torch.full((3,), -2.0), torch.ones(3))
    assert stability(images, [dead]) == 0


@every_defense
def test_the_regularisers_end_with_the_ramp(kind, images):
    x, y = images
    losses = [
        kind(eps=EPS, stabilisation=weight, **QUICK[kind])(small(False).train(), x, y, generator=seeded()).total
        for weight in (0.0, 5.0)
    ]
    assert torch.equal(*losses)


@every_defense
def test_at_a_share_eps_is_scaled_and_at_none_training_is_plain(kind):
    defense = kind(eps=0.2, class_weights=(1.0, 3.0))
    assert defense.at_eps_share(1.0) == defense
    assert defense.at_eps_share(0.25) == dataclasses.replace(defense, eps=0.05, eps_share=0.25)
    assert defense.at_eps_share(0.0) == CE(class_weights=(1.0, 3.0))
    assert defense.at_eps_share(0.5).with_class_weights((2.0, 1.0)).eps_share == 0.5


@pytest.mark.parametrize(
    "defense",
    [SABR(eps=EPS, small_box=1.0, steps=1), MTLIBP(eps=EPS, alpha=1.0, steps=1), CROWNIBP(eps=EPS, kappa=0.0)],
    ids=lambda defense: type(defense).__name__,
)
def test_their_limits_are_ibp(defense, images):
    (ours, theirs), (x, y) = (small(False).train() for _ in range(2)), images
    total = defense(ours, x, y, generator=seeded()).total
    assert_same_loss_and_gradients(ours, total, theirs, IBP(eps=EPS, kappa=0.0)(theirs, x, y).total)


@every_defense
@pytest.mark.parametrize("name", ["resnet_tiny", "cnn_small"])
def test_the_certified_loss_is_above_that_of_any_attack(kind, name, images):
    x, y = images[0].float(), images[1] % 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(name, 1, 2).eval()
    fields = QUICK[kind] | ({"small_box": 1.0} if kind is SABR else {})
    terms = kind(eps=EPS, **fields)(model, x, y).terms
    moved = PGD(eps=EPS, steps=10, step_size=EPS / 4)(model, x, y)
    with torch.no_grad():
        attacked_loss = nn.functional.cross_entropy(model(moved), y).item()
    assert terms["certified"] >= attacked_loss - 1e-6


@every_defense
def test_batch_norms_follow_the_clean_images_once(kind, images):
    x, y = images
    ours, theirs = (small(False).train() for _ in range(2))
    kind(eps=EPS, **QUICK[kind])(ours, x, y, generator=seeded())
    theirs(x)
    for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    still = small(False).eval()
    before = snapshot(still)
    kind(eps=EPS, **QUICK[kind])(still, x, y, generator=seeded())
    assert snapshot(still) == before


@every_defense
def test_initial_weights_are_those_of_shi(kind):
    torch.manual_seed(0)
    model = SmallCNN(in_channels=1, num_classes=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    kind().initialise(model)
    drawn, hidden = model.body[1][0].weight.detach(), model.hidden[0].weight.detach()
    assert drawn.std() == pytest.approx(math.sqrt(2 * math.pi) / (32 * 9), rel=0.05)
    assert abs(drawn.mean()) < 1e-3
    assert hidden.std() == pytest.approx(math.sqrt(2 * math.pi) / 1024, rel=0.05)
    kept = [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert set(before) - set(kept) == {"stem.0.weight", *(f"body.{i}.0.weight" for i in range(2)), "hidden.0.weight"}
    torch.manual_seed(1)
    again = SmallCNN(in_channels=1, num_classes=2)
    torch.manual_seed(1)
    kind().initialise(again)
    assert torch.equal(again.stem[0].weight, model.stem[0].weight)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *[(kind, field, value) for kind in ALL for field, value in (("eps", -1.0), ("stabilisation", -1.0))],
        *[(kind, "eps_share", 1.5) for kind in ALL],
        *[(IBP, "kappa", value) for value in (-0.1, 1.1, math.nan)],
        (CROWNIBP, "kappa", 2.0),
        (CROWNIBP, "beta", -0.1),
        (SABR, "small_box", 1.1),
        (MTLIBP, "alpha", -1.0),
        *[(kind, field, value) for kind in (SABR, MTLIBP) for field, value in (("steps", 0), ("craft_mode", "both"))],
    ],
)
def test_fields_out_of_range_get_a_sentence(kind, field, value):
    with pytest.raises(MirstError, match=field):
        kind(**{field: value})


@every_defense
def test_a_model_with_a_layer_without_bounds_gets_a_sentence(kind, batch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    with pytest.raises(MirstError, match="LayerNorm"):
        kind(**QUICK[kind])(model, *batch)


def test_a_model_that_was_changed_is_traced_anew(images):
    x, y = images
    model, other = (without_dropout(small_cnn(classes=3)).double().eval() for _ in range(2))
    before = IBP(eps=EPS)(model, x, y).total
    model[2], other[2] = nn.Tanh(), nn.Tanh()
    after = IBP(eps=EPS)(model, x, y).total
    assert not torch.equal(before, after)
    assert torch.equal(after, IBP(eps=EPS)(other, x, y).total)
    other[0].register_forward_hook(lambda *_: None)
    with pytest.raises(MirstError, match="hook"):
        IBP(eps=EPS)(other, x, y)
