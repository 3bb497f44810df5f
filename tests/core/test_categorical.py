"""Rows, probabilities, draws and noise by themselves."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor

from reinmax_core import categorical
from reinmax_core.estimators import ReinMax


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frequencies(drawn: Tensor, classes: int) -> Tensor:
    return torch.bincount(drawn.long().flatten(), minlength=classes)


@pytest.mark.parametrize("tau", [1e-30, 0.5, 1.0, 1.3, 100.0])
@pytest.mark.parametrize("classes", [1, 2, 3, 32, 33])
def test_probabilities_are_those_of_a_softmax(classes: int, tau: float) -> None:
    logits = torch.randn(20, classes, dtype=torch.float64)
    logits[0] = 7.0
    peaks = logits - logits.amax(-1, keepdim=True)
    assert torch.allclose(categorical.probabilities(logits, tau), (peaks / tau).softmax(-1), atol=1e-15)


def test_small_probabilities_keep_their_digits() -> None:
    for classes in (2, 3):
        logits = torch.zeros(classes)
        logits[0] = 40
        assert categorical.probabilities(logits)[1].item() == pytest.approx(torch.tensor(-40.0).double().exp().item())


@pytest.mark.parametrize("classes", [2, 5])
def test_repeated_rows_are_computed_once(classes: int) -> None:
    logits = torch.randn(1, 7, classes).expand(100, 7, classes)
    assert categorical.probabilities(logits).shape == (1, 7, classes)
    assert categorical.draw(categorical.probabilities(logits), logits.shape).shape == (100, 7)


@pytest.mark.parametrize("draw", [categorical.draw, categorical.race])
@pytest.mark.parametrize("classes", [3, 40, 500])
def test_both_ways_to_draw_follow_the_probabilities(draw: object, classes: int) -> None:
    probs = (torch.rand(classes, generator=seeded(1)) + 0.2).log().softmax(-1)
    drawn = draw(probs, (20_000, classes), seeded())  # type: ignore[operator]
    assert (
        chisquare(frequencies(drawn, classes), 20_000 * (probs.double() / probs.double().sum()).numpy()).pvalue > 1e-4
    )


@pytest.mark.parametrize("draw", [categorical.draw, categorical.race])
@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_classes_of_probability_0_are_never_drawn(draw: object, classes: int) -> None:
    """Not even at the ends, where the cumulative distribution is 0 or all of it."""
    possible = torch.arange(classes) == classes // 2
    drawn = draw(possible.float(), (20_000, classes), seeded())  # type: ignore[operator]
    assert (drawn == classes // 2).all()


def test_many_equal_classes_can_all_be_drawn_in_half_precision() -> None:
    rows = categorical.rows(torch.zeros(1, 1024, dtype=torch.bfloat16))
    drawn = categorical.draw(categorical.probabilities(rows), (50_000, 1024), seeded())
    assert frequencies(drawn, 1024).min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_numbers_have_finite_logarithms_at_both_ends(dtype: torch.dtype) -> None:
    ends = torch.tensor([0.0, 1 - torch.finfo(dtype).eps / 2], dtype=dtype)
    inside = categorical.squeeze_inside_(ends.clone())
    assert torch.allclose(inside, ends, atol=torch.finfo(dtype).eps)
    for noise in (-inside.log(), -(-inside.log()).log(), inside.logit()):
        assert noise.isfinite().all()
    assert (-inside.log() > 0).all()


def test_noise_has_its_law() -> None:
    like = torch.zeros(20_000, 3)
    assert kstest(categorical.exponential((20_000,), like, seeded()).numpy(), "expon").pvalue > 1e-3
    assert kstest(categorical.gumbel(like, seeded()).flatten().numpy(), "gumbel_r").pvalue > 1e-3
    differences = categorical.gumbel(like[:, :2], seeded()).diff(dim=-1).flatten()
    assert kstest(differences.numpy(), "logistic").pvalue > 1e-3


@pytest.mark.parametrize("classes", [1, 2, 6])
def test_one_hot_and_largest_undo_each_other(classes: int) -> None:
    drawn = torch.randint(classes, (30,))
    in_form = drawn.double() if classes == 2 else drawn
    assert torch.equal(categorical.largest(categorical.one_hot(in_form, classes, torch.float64)), in_form)


def test_choosing_by_draw_does_not_round() -> None:
    zero, one = torch.tensor([1e-30, 1.0]), torch.tensor([1.0, 1e-30])
    assert torch.equal(categorical.at_drawn(torch.zeros(2), zero, one), zero)
    assert torch.equal(categorical.at_drawn(torch.ones(2), zero, one), one)


def test_logits_too_large_to_sum_are_still_finite() -> None:
    assert categorical.rows(torch.full((4, 3), 3e38)).isfinite().all()


def test_axes_beneath_a_value() -> None:
    assert categorical.beneath((5,), (5, 3, 2, 7)) == (3, 2)
    assert categorical.beneath((5, 3, 2), (5, 3, 2, 7)) == ()
    with pytest.raises(ValueError, match=r"leading part of \(5, 3, 2\).* gave \(3,\)"):
        categorical.beneath((3,), (5, 3, 2, 7))


def rare(classes: int, chance: float) -> tuple[Tensor, list[int]]:
    """Probabilities [1, n] with rare classes at the first, a middle and the last place, or at the first of two."""
    places = [0] if classes == 2 else sorted({0, classes // 2, classes - 1} - ({1} if classes == 3 else set()))
    probs = torch.full((1, classes), (1 - len(places) * chance) / (classes - len(places)))
    probs[0, places] = chance
    return probs, places


def rare_draws(draw: object, classes: int, chance: float, rows: int) -> tuple[Tensor, float]:
    """How often each of the rare classes was drawn, and how often it should have been."""
    probs, places = rare(classes, chance)
    generator, counts, at_once = seeded(classes), torch.zeros(len(places)), 2 ** (22 - classes.bit_length() // 2)
    for start in range(0, rows, at_once):
        shape = (min(at_once, rows - start), classes)
        drawn = draw(probs, shape, generator)  # type: ignore[operator]
        counts += torch.stack([(drawn == place).sum() for place in places])
    return counts, rows * chance


@pytest.mark.parametrize(
    ("draw", "classes", "chance", "rows"),
    [
        (categorical.draw, 2, 1e-6, 30_000_000),
        (categorical.draw, 3, 1e-6, 15_000_000),
        (categorical.draw, 100, 1e-5, 1_500_000),
        (categorical.draw, 5000, 4e-5, 300_000),
        (categorical.race, 3, 1e-5, 2_000_000),
        pytest.param(categorical.draw, 2, 1e-7, 300_000_000, marks=pytest.mark.slow),
        pytest.param(categorical.draw, 3, 1e-7, 150_000_000, marks=pytest.mark.slow),
        pytest.param(categorical.draw, 100, 1e-6, 15_000_000, marks=pytest.mark.slow),
    ],
)
def test_rare_classes_are_drawn_at_their_rate(draw: object, classes: int, chance: float, rows: int) -> None:
    """In single precision, at the ends and between; a uniform number of 24 bits errs by up to 6e-8."""
    counts, wanted = rare_draws(draw, classes, chance, rows)
    assert ((counts - wanted).abs() < 4 * wanted**0.5).all()
    assert abs(counts.sum() - len(counts) * wanted) < 3 * (len(counts) * wanted) ** 0.5


def test_no_bit_of_a_random_number_is_rounded_away() -> None:
    """The chance of class 1 is the least in single precision that is above the row's own number."""
    bits = torch.empty(10_000, dtype=torch.int32).random_(generator=seeded())
    chances = (bits // 64 + 1).double() * 64 / 2**31
    rarer = chances <= 0.5
    assert (bits % 64 >= 32)[rarer].any()
    probs = torch.stack((1 - chances, chances), -1).float()
    assert (categorical.draw(probs, probs.shape, seeded())[rarer] == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_what_hardly_ever_happens_does_not_happen(classes: int) -> None:
    """A chance of 1e-12 in 2e8 draws, where one rounded up to a step of single precision would show 12 times."""
    logits = torch.zeros(1, classes)
    logits[0, 0] = -27.631
    probs = categorical.probabilities(logits)
    assert probs[0, 0].item() == pytest.approx(1e-12 / (classes - 1), rel=1e-3)
    generator = seeded()
    for _ in range(100):
        assert not (categorical.draw(probs, (2_000_000, classes), generator) == 0).any()


def test_more_classes_than_single_precision_can_count() -> None:
    """2^24 + 3 of them: the last can be drawn, draws are uniform, and ReinMax has the gradient of its formula."""
    classes = 2**24 + 3
    logits = torch.zeros(1, classes)
    drawn = categorical.draw(categorical.probabilities(logits), (1000, classes), seeded())
    for half in (drawn < classes // 2, drawn % 2 == 0, drawn // 2 % 2 == 0, drawn % 4096 < 2048):
        assert abs(half.sum() - 500) < 4 * 250**0.5
    logits[0, -1] = 40
    assert ReinMax().sample(logits)[0].nonzero().item() == classes - 1
    logits.zero_().requires_grad_()
    draws = ReinMax().sample(logits, generator=seeded())
    number, upstream = int(draws.argmax()), torch.arange(classes).remainder(7).float()
    (found,) = torch.autograd.grad(draws, logits, upstream.unsqueeze(0))
    # p (g - g_d) / 2, and at d what makes the sum 0
    wanted = (upstream - upstream[number]).double() / (2 * classes)
    wanted[number] = -wanted.sum()
    assert torch.allclose(found[0].double(), wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_hot_draws_of_every_type_hold_ones_and_may_be_changed_in_place(dtype: torch.dtype) -> None:
    for classes in (2, 3, 200):
        logits = torch.randn(50, classes, dtype=dtype, generator=seeded()).requires_grad_()
        draws = ReinMax().sample(logits, generator=seeded(1))
        assert torch.equal(draws.detach().double().sum(-1), torch.ones(50, dtype=torch.float64))
        assert draws.detach().unique().tolist() == [0, 1]
        draws.mul_(3).sum().backward()
        assert logits.grad is not None


@pytest.mark.parametrize("numbers", [1, 2, 10, 128, 129])
def test_sums_of_rows_are_sums(numbers: int) -> None:
    terms = torch.randn(4, 5, numbers, dtype=torch.float64, generator=seeded())
    for layout in (terms, terms.transpose(0, 1), terms[:, ::2], terms[:0]):
        assert torch.allclose(categorical.row_sums(layout), layout.sum(-1, keepdim=True), atol=1e-13)
