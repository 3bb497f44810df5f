"""What holds for every estimator whatever the shape, type, layout, axis, mask, temperature and seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reinmax_core import reinmax
from reinmax_core.estimators import Estimator
from reinmax_core.value import discover

ESTIMATORS = discover(Estimator)
CLASSES = [1, 2, 3, 7, 33, 70]
REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=60)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(logits: Tensor) -> Tensor:
    return logits


def expanded(logits: Tensor) -> Tensor:
    """Its first row, or whatever the first axis holds, in the place of all."""
    return logits[:1].expand(logits.shape) if len(logits) else logits


def transposed(logits: Tensor) -> Tensor:
    """The same numbers with the axes in the opposite order in memory."""
    backwards = tuple(reversed(range(logits.ndim)))
    return logits.permute(backwards).contiguous().permute(backwards)


def sliced(logits: Tensor) -> Tensor:
    """The same numbers with other ones before, between and behind them in memory."""
    around = logits.new_full((*(2 * length + 1 for length in logits.shape),), 3.0)
    part = around[tuple(slice(1, None, 2) for _ in logits.shape)]
    return part.copy_(logits)


@dataclass(frozen=True)
class Case:
    """Rows of logits and how they are handed over."""

    logits: Tensor
    dim: int
    mask: Tensor | None
    tau: float
    seed: int

    def possible(self) -> Tensor:
        possible = self.logits > -torch.inf
        return possible if self.mask is None else possible & self.mask

    def estimator(self, name: str) -> Estimator:
        tempered = "tau" in ESTIMATORS[name].model_fields
        estimator: Estimator = ESTIMATORS[name].model_validate({"tau": self.tau} if tempered else {})
        return estimator

    def by_class(self, tensor: Tensor) -> Tensor:
        """With the classes' axis last; further axes may lead."""
        return tensor.movedim(self.dim % self.logits.ndim - self.logits.ndim, -1)

    def draws(self, estimator: Estimator, logits: Tensor) -> Tensor:
        return estimator.sample(logits, dim=self.dim, mask=self.mask, generator=seeded(self.seed))

    def gradient(self, estimator: Estimator, logits: Tensor) -> Tensor:
        """That of the sum of a cost for each row, which is computed in the type of this case's logits."""
        logits = logits.detach().requires_grad_()
        weights = torch.linspace(-1, 2, self.logits.shape[self.dim], dtype=self.logits.dtype)

        def cost(draws: Tensor) -> Tensor:
            by_class = self.by_class(draws).to(self.logits.dtype)
            return ((by_class * weights).sum(-1) - 0.3) ** 3 + (by_class * weights.square()).sum(-1)

        values = estimator.expectation(logits, cost, dim=self.dim, mask=self.mask, generator=seeded(self.seed))
        return torch.autograd.grad(values.sum(), logits)[0]


@st.composite
def cases(
    draw: st.DrawFn,
    classes: st.SearchStrategy[int],
    dtypes: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16, torch.float32, torch.float64),
) -> Case:
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    axis = draw(st.integers(0, len(shape)))
    shape.insert(axis, draw(classes))
    layout = draw(st.sampled_from((dense, expanded, transposed, sliced)))
    generator = seeded(draw(st.integers(0, 2**16)))
    # Whole numbers of 1/16, so that all types hold the same.
    logits = torch.randn(shape, generator=generator).mul(32).round().div(16)
    # This class stays possible in every row; it is the one that `expanded` repeats where the classes come first.
    least = draw(st.integers(0, shape[axis] - 1)) if axis else 0
    if draw(st.booleans()):
        logits[torch.rand(shape, generator=generator) < 0.3] = -torch.inf
        logits.select(axis, least).fill_(0.5)
    mask = None
    if draw(st.booleans()):
        mask_shape = shape if draw(st.booleans()) else [shape[axis], *[1] * (len(shape) - axis - 1)]
        mask = torch.rand(mask_shape, generator=generator) < 0.6
        mask.select(axis - len(shape), least).fill_(True)
        logits.select(axis, least).clamp_(min=-1)
    return Case(
        layout(logits.to(draw(st.sampled_from(dtypes)))),
        axis - len(shape) if draw(st.booleans()) else axis,
        mask,
        draw(st.sampled_from((1.0, 1.3, 6.0))),
        draw(st.integers(0, 2**32)),
    )


def for_every_estimator(
    dtypes: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16, torch.float32, torch.float64),
) -> Callable[[Callable[..., None]], Any]:
    """Runs a test `(estimator, case)` over cases that suit each estimator."""

    def decorate(test: Callable[..., None]) -> Any:
        @pytest.mark.parametrize("name", ESTIMATORS)
        @REPEATABLE
        @given(data=st.data())
        def run(name: str, data: st.DataObject) -> None:
            classes = st.just(2) if ESTIMATORS[name].binary_only else st.sampled_from(CLASSES)
            case = data.draw(cases(classes, dtypes))
            test(case.estimator(name), case)

        run.__doc__ = test.__doc__
        return run

    return decorate


@for_every_estimator()
def test_draws_are_one_hot_and_possible(estimator: Estimator, case: Case) -> None:
    before, mask = case.logits.clone(), None if case.mask is None else case.mask.clone()
    draws = case.draws(estimator, case.logits)
    assert (draws.shape, draws.dtype, draws.device) == (before.shape, before.dtype, before.device)
    assert ((draws == 0) | (draws == 1)).all()
    assert (draws.sum(case.dim) == 1).all()
    assert not draws[~case.possible()].any()
    assert torch.equal(draws, case.draws(estimator, before.contiguous())), "the layout decides"
    assert torch.equal(case.logits, before), "the logits were changed"
    assert mask is None or (case.mask is not None and torch.equal(case.mask, mask)), "the mask was changed"


@for_every_estimator()
def test_gradients_are_finite_and_sum_to_zero_whatever_the_layout(estimator: Estimator, case: Case) -> None:
    before, draws = case.logits.clone(), case.draws(estimator, case.logits)
    found = case.gradient(estimator, case.logits)
    assert (found.shape, found.dtype) == (before.shape, before.dtype)
    assert found.isfinite().all()
    assert not found[~case.possible()].any()
    exactness = 20 * torch.finfo(before.dtype).eps
    totals, sizes = (part.double().sum(case.dim) for part in (found, found.abs()))
    assert (totals.abs() <= exactness * (1 + sizes)).all()
    computed_in = torch.promote_types(before.dtype, torch.float32)
    wanted = case.gradient(estimator, before.to(computed_in).contiguous())
    assert torch.allclose(found.to(computed_in), wanted, rtol=exactness, atol=exactness)
    assert torch.equal(case.logits, before), "the logits were changed"
    assert torch.equal(case.draws(estimator, case.logits), draws)


@for_every_estimator(dtypes=(torch.float64,))
def test_a_number_added_to_all_logits_of_a_row_changes_nothing(estimator: Estimator, case: Case) -> None:
    rows = case.logits.select(case.dim, 0).shape
    shifts = torch.randint(-40, 40, rows, generator=seeded(case.seed)).double().unsqueeze(case.dim)
    shifted = case.logits + shifts
    assert torch.equal(case.draws(estimator, shifted), case.draws(estimator, case.logits))
    found, wanted = (case.gradient(estimator, logits) for logits in (shifted, case.logits))
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10)


@REPEATABLE
@given(case=cases(st.sampled_from(CLASSES)))
def test_the_function_agrees_with_the_estimator(case: Case) -> None:
    """And its second output is the softmax, 0 where no class can be drawn."""
    logits = case.logits.detach().requires_grad_()
    draws, probs = reinmax(logits, case.tau, dim=case.dim, mask=case.mask, generator=seeded(case.seed))
    assert torch.equal(draws, case.draws(case.estimator("reinmax"), case.logits))
    impossible = ~case.possible()
    wanted = case.logits.double().masked_fill(impossible, -torch.inf).softmax(case.dim).to(probs.dtype)
    exactness = 4 * torch.finfo(probs.dtype).eps
    assert torch.allclose(probs, wanted, rtol=exactness, atol=exactness)
    (found,) = torch.autograd.grad((draws, probs), logits, (logits.detach().clamp(-9, 9), probs.detach()))
    assert found.isfinite().all()
    assert not found[impossible].any()
