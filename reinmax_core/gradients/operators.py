"""How a gradient passes a draw: given the drawn class and the noise, every function here is deterministic.

Symbols: theta logits, p = softmax(theta), D the one-hot draw and d its class, g = df/dD the gradient that
arrives at the draw, J(p) g = p * g - p (p . g) the product with the Jacobian of a softmax at p. J(p) is
symmetric and gives 0 for a constant, so g may be shifted by any of its entries first, which keeps the
digits of gradients that differ little from each other.

Every operator is linear in g with coefficients that are functions of theta at the fixed draw, so second
derivatives are those of the estimate at that draw.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from reinmax_core import categorical, conditional
from reinmax_core.categorical import apply
from reinmax_core.gradients import two_classes
from reinmax_core.gradients.functions import Draw, TemperedDraw, constant


def straight_through(logits: Tensor, drawn: Tensor, soft: Tensor, tau: float | Tensor) -> Tensor:
    """One-hot `drawn` whose backward pass is J(soft) g / tau, as if it were `soft` = softmax(. / tau).

    Args:
        logits: rows [..., n].
        drawn: classes [...].
        soft: probabilities, broadcastable to `logits`.
        tau: the temperature of `soft`; one for each row as for `categorical.probabilities`.
    """
    if isinstance(tau, Tensor):
        return straight_through(logits / tau, drawn, soft, 1)
    if logits.shape[-1] == 2:
        return apply(two_classes.StraightThrough, logits, drawn, soft, tau)
    return apply(_StraightThrough, logits, drawn, soft, tau)


def reinmax(logits: Tensor, drawn: Tensor, probs: Tensor, tau: float | Tensor, second_weight: float = 0.5) -> Tensor:
    """One-hot `drawn` whose backward pass is ReinMax, 2 J((q + D) / 2) g - J(p) g / 2 for q = softmax(logits / tau).

    With another weight w of the second stage than 1/2 it is J(q) g + w (D - q) (D - q) . g - w J(p) g, of
    which that is a case.

    Args:
        logits: rows [..., n].
        drawn: classes [...].
        probs: p = softmax(logits), broadcastable to `logits`.
        tau: the temperature; one for each row as for `categorical.probabilities`.
        second_weight: w.
    """
    # None where it is p: compilation refuses the same tensor twice.
    tempered = None if categorical.is_one(tau) else categorical.probabilities(logits, tau)
    if logits.shape[-1] == 2:
        return apply(two_classes.ReinMax, logits, drawn, probs, tempered, second_weight)
    if tempered is None and second_weight == 0.5:
        return apply(_ReinMax, logits, drawn, probs)
    return apply(_TemperedReinMax, logits, drawn, probs, tempered, second_weight)


def reinmax_from_the_mean(
    logits: Tensor, drawn: Tensor, probs: Tensor, tau: float | Tensor, most: float | None = None
) -> Tensor:
    """One-hot `drawn` with ReinMax for the mean cost of all classes as its baseline as backward pass.

    With the mean m of g over the n classes that can be drawn it is
    ((g_d - m) (D - p) + J(q) g / (n q_d)) / 2, where q = softmax(logits / tau).

    Args:
        logits: rows [..., n].
        drawn: classes [...].
        probs: p = softmax(logits), broadcastable to `logits`.
        tau: the temperature; one for each row as for `categorical.probabilities`.
        most: the largest value of the weight 1 / (n q_d); None for no limit.
    """
    probs = probs.expand(logits.shape)
    tempered = None if categorical.is_one(tau) else categorical.probabilities(logits, tau).expand(logits.shape)
    at_drawn = (probs if tempered is None else tempered).gather(-1, drawn.long().unsqueeze(-1))
    weight = 1 / ((probs > 0).sum(-1, keepdim=True) * at_drawn)
    return apply(_FromTheMean, logits, drawn, probs, tempered, weight if most is None else weight.clamp(max=most))


def averaged(
    logits: Tensor, drawn: Tensor, probs: Tensor, tau: float, samples: int, generator: Generator | None
) -> Tensor:
    """One-hot `drawn` whose backward pass is the mean of J(y) g / tau over soft samples y given the draw.

    None of them is kept. They are drawn in the backward pass; for two classes, on accelerators and inside
    transforms at once, and reduced to their second moments. `torch.export`, whose programs pass no gradient
    back, gets the draw alone.

    Args:
        logits: rows [..., n].
        drawn: classes [...].
        probs: the probabilities [..., n] of which the soft samples are made, broadcastable to `logits`.
        tau: the temperature of the soft samples.
        samples: their number K.
        generator: the source of randomness; torch's global one if None.

    Raises:
        RuntimeError: differentiated twice, for which nothing is kept.
    """
    if _is_exporting():
        return categorical.one_hot(drawn, logits.shape[-1], logits.dtype)
    remedy = "its soft samples are not kept; use an estimator with a single soft sample, such as 'gumbel_softmax'"
    if logits.shape[-1] > 2 and categorical.has_checked_values(logits):
        kept = constant(logits, probs.detach(), remedy)
        return apply(_AveragedLater, logits, drawn, kept, tau, samples, conditional.seed(generator))
    moments = constant(logits, conditional.moments(probs, drawn, tau, samples, generator), remedy)
    return apply(two_classes.Coefficient if logits.shape[-1] == 2 else _Averaged, logits, drawn, moments, tau)


def _is_exporting() -> bool:
    # Not torch.compiler.is_exporting(), which torch 2.6 lacks and later versions say yes to in torch.compile, too.
    if torch.compiler.is_dynamo_compiling():
        return getattr(torch.compiler, "_is_exporting_flag", False)
    return torch.compiler.is_compiling()


class _StraightThrough(TemperedDraw):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (soft,) = ctx.saved_tensors
        # J(q) g / tau
        weighted = categorical.times(g - categorical.wide(g[..., :1]), soft)
        product = categorical.less_product(weighted, soft, categorical.row_sums(weighted))
        return (product if ctx.tau == 1 else product / ctx.tau).to(g.dtype), None, None, None


class _ReinMax(Draw):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1].unsqueeze(-1), inputs[2])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        drawn, probs = ctx.saved_tensors
        # a = p * (g - g_d) / 2, which is 0 at d;  a - e_d sum(a)
        half = torch.add(categorical.wide(g.gather(-1, drawn)) * -0.5, g, alpha=0.5)
        half = categorical.times(half, probs)
        return categorical.put(half, -1, drawn, -categorical.row_sums(half)).to(g.dtype), None, None


class _TemperedReinMax(Draw):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1].unsqueeze(-1), inputs[2], inputs[3])
        ctx.weight = inputs[4]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        drawn, probs, tempered = ctx.saved_tensors
        tempered = probs if tempered is None else tempered
        # With g' = g - g_d and s = q . g':  q (g' - (1 - w) s) - w p (g' - p . g') - w s e_d
        shifted = g - categorical.wide(g.gather(-1, drawn))
        second = probs * shifted
        first = categorical.times(shifted, tempered)
        total = categorical.row_sums(first)
        first = categorical.less_product(first, tempered, (1 - ctx.weight) * total)
        second = categorical.less_product(second, probs, categorical.row_sums(second))
        product = categorical.less(first, second, ctx.weight)
        return categorical.subtract_at(product, drawn, ctx.weight * total).to(g.dtype), None, None, None, None


class _FromTheMean(Draw):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1].long().unsqueeze(-1), *inputs[2:])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        drawn, probs, tempered, weight = ctx.saved_tensors
        # With g' = g - g_d:  (mean(g') (p - D) + J(q) g' / (n q_d)) / 2
        shifted = (g - categorical.wide(g.gather(-1, drawn))) / 2
        possible = probs > 0
        mean = torch.where(possible, shifted, 0).sum(-1, keepdim=True) / possible.sum(-1, keepdim=True)
        product = mean * probs + weight * categorical.jacobian_product(probs if tempered is None else tempered, shifted)
        return categorical.subtract_at(product, drawn, mean).to(g.dtype), None, None, None, None


class _AveragedLater(Draw):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:3])
        ctx.tau, ctx.samples, ctx.seed = inputs[3:]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        drawn, probs = ctx.saved_tensors
        generator = torch.Generator(probs.device).manual_seed(ctx.seed)
        product = conditional.mean_product(probs, drawn, ctx.tau, ctx.samples, generator, g)
        return (product / ctx.tau).to(g.dtype), None, None, None, None, None


class _Averaged(TemperedDraw):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (moments,) = ctx.saved_tensors
        # With S the mean of y y^T, whose rows sum to the mean of y:  (S 1) * g - S g
        shifted = (g - categorical.wide(g[..., :1])).unsqueeze(-1)
        columns = torch.cat((torch.ones_like(shifted), shifted), -1)
        if moments.shape[-1] == g.shape[-1]:
            sums = categorical.matrix_product(moments, columns)
        else:
            each = categorical.matrix_product(moments.mT, columns)
            sums = categorical.matrix_product(moments, each) / moments.shape[-1]
        mean, product = sums.unbind(-1)
        return ((mean * shifted.squeeze(-1) - product) / ctx.tau).to(g.dtype), None, None, None
