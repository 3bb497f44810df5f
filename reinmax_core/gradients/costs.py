"""How a gradient is carried to the logits where it is made from the costs of draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from reinmax_core import categorical
from reinmax_core.categorical import apply


@dataclass(frozen=True, slots=True)
class Scored:
    """Draws without a gradient, and zeros that have one."""

    draws: Tensor
    """One-hot, [..., n]."""

    score: Tensor
    """Zeros [...] whose gradient is that of the log-probability of the draws, D - p."""

    def of(self, values: Tensor) -> Tensor:
        """Zeros of the shape of `values`, each with the gradient for all the latents beneath the value.

        Raises:
            ValueError: the shape of `values` is no leading part of that of the draws.
        """
        latents = math.prod(categorical.beneath(values.shape, self.draws.shape))
        return self.score.reshape(*values.shape, latents).sum(-1)


def scored(logits: Tensor, drawn: Tensor, probs: Tensor) -> Scored:
    """Given draws without a gradient, with the score that carries one in their place.

    Args:
        logits: rows [..., n].
        drawn: classes [...].
        probs: softmax(logits), broadcastable to `logits`.
    """
    draws = categorical.one_hot(drawn, logits.shape[-1], logits.dtype)
    return Scored(draws, apply(_Score, logits, drawn, probs))


def by_rows(cost: Callable[[Tensor], Tensor], rows: Tensor, logits: Tensor, dim: int) -> Callable[[Tensor], Tensor]:
    """The cost for draws [..., n] of `rows`, where it is written for draws with axis and dtype of `logits`.

    What it gives has a shape that fits the draws and at least float32, also if the values are numbers of
    another kind, as of an accuracy.

    Raises:
        ValueError: when it is called, and the cost gives something else.
    """

    def values(draws: Tensor) -> Tensor:
        found = cost(categorical.unrowed(draws, rows, logits, dim))
        samples = draws.shape[: draws.ndim - rows.ndim]
        if found.shape[: len(samples)] != samples:
            raise ValueError(
                f"a cost is called with {tuple(samples)} draws of each row at once, on leading axes that its values "
                f"must keep, but gave values of shape {tuple(found.shape)}; sum or average the trailing axes only"
            )
        categorical.beneath(found.shape, draws.shape)
        return categorical.wide(found) if found.is_floating_point() else found.to(rows.dtype)

    return values


def carrying(values: Tensor, logits: Tensor, gradient: Tensor, learned: Sequence[Tensor] = ()) -> Tensor:
    """`values`, whose derivative with respect to the logits is `gradient`.

    Args:
        values: their shape is a leading part of that of the rows.
        logits: rows [..., n].
        gradient: that of each value with respect to the logits beneath it, [..., n].
        learned: parameters on which `gradient` depends. Once the values are differentiated they get the
            gradient of its mean square, whatever is made of the values.

    Raises:
        RuntimeError: there are parameters to be learned inside of torch.compile or a transform of torch.func.
    """
    if not torch.is_grad_enabled():
        return values
    learned = [parameter for parameter in learned if parameter.requires_grad]
    if learned and not categorical.readable():
        raise RuntimeError(
            "the learned parts of an estimator are not trained inside torch.compile and torch.func; estimate outside "
            "of it, or freeze them with parts.requires_grad_(False)"
        )
    carried = values + apply(_Carried, logits, gradient, tuple(values.shape))
    if not learned:
        return carried
    slopes = torch.autograd.grad(gradient.square().mean(), learned, retain_graph=True, materialize_grads=True)
    return apply(_Learning, carried, len(learned), *learned, *slopes)


def values_and_slopes(cost: Callable[[Tensor], Tensor], draws: Tensor) -> tuple[Tensor, Tensor]:
    """What draws [..., n] cost, and the derivatives of the sum of it with respect to them, without a gradient.

    Raises:
        ValueError: the cost has no derivative, or gives values of a shape that fits no latents.
    """
    if not categorical.readable():
        return _pulled_slopes(cost, draws)
    draws = draws.detach().requires_grad_(torch.is_grad_enabled())
    values = cost(draws)
    categorical.beneath(values.shape, draws.shape)
    if not torch.is_grad_enabled():
        return values, torch.zeros_like(draws)
    if not values.requires_grad:
        raise ValueError(
            "the estimator follows the derivative of the cost with respect to the draws, but the cost has none; "
            "leave out detach and argmax, or choose an estimator that needs none, such as 'rloo'"
        )
    (slopes,) = torch.autograd.grad(values.sum(), draws, retain_graph=True, materialize_grads=True)
    return values, slopes


def _pulled_slopes(cost: Callable[[Tensor], Tensor], draws: Tensor) -> tuple[Tensor, Tensor]:
    """As `values_and_slopes`, where torch compiles or transforms the code."""
    pulled: Any = torch.func.vjp(cost, draws)
    values, pull = pulled
    categorical.beneath(values.shape, draws.shape)
    return values, pull(torch.ones_like(values))[0].detach()


class _Score(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, drawn: Tensor, probs: Tensor) -> Tensor:
        return drawn.new_zeros(drawn.shape, dtype=logits.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], inputs[2])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        drawn, probs = ctx.saved_tensors
        # (D - p) g
        return (categorical.one_hot(drawn, probs.shape[-1], probs.dtype) - probs) * g.unsqueeze(-1), None, None


class _Carried(Function):
    """Zeros, one for each value, with a given gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
        return gradient.new_zeros(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * g.reshape(*g.shape, *[1] * (gradient.ndim - g.ndim)), None, None


class _Learning(Function):
    """Passes values on, and gradients of its own to the parameters that come with them."""

    @staticmethod
    def forward(values: Tensor, count: int, *parameters_and_slopes: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[2 + inputs[1] :])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        slopes = ctx.saved_tensors
        return g, None, *slopes, *[None] * len(slopes)
