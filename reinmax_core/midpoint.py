"""Gumbel-softmax at the midpoint of a draw and its distribution, where ReinMax takes its Jacobian.

Symbols as in `gradients`; m = (p + D) / 2 is the midpoint, which as a distribution has the logits log m.
Only m itself is ever needed, so a class of probability 0 stays one, without a logarithm of it.

The draws returned here are equal in value. So a sum of them whose weights add up to 1 is again the exact
one-hot draw, and its backward pass is the same sum of their backward passes.
"""

from __future__ import annotations

from torch import Generator, Tensor

from reinmax_core import categorical, gradients


def averaged(
    logits: Tensor, drawn: Tensor, probs: Tensor, tau: float, samples: int, generator: Generator | None = None
) -> Tensor:
    """One-hot `drawn` whose backward pass is that of Gumbel-Rao with the logits log m in place of theta.

    That is the mean of J(y) g / tau over `samples` soft samples y = softmax((log m + G) / tau), where the
    noise G is such that the largest entry of log m + G is at the drawn class.

    Args:
        logits: rows [..., n].
        drawn: classes [...].
        probs: softmax(logits), broadcastable to `logits`.
        tau: temperature of the soft samples.
        samples: their number; with 1 it is a single Gumbel-softmax sample of the same law.
        generator: the source of randomness; torch's global one if None.

    Raises:
        RuntimeError: differentiated twice, as `gradients.averaged`.
    """
    return gradients.averaged(logits, drawn, _midpoint(probs, drawn), tau, samples, generator)


def pulled(logits: Tensor, drawn: Tensor, probs: Tensor, soft: Tensor, tau: float) -> Tensor:
    """One-hot `drawn` whose backward pass is J(softmax(log m + soft)) g / tau.

    The authors of ReinMax-CV compute this where a soft sample at log m is meant: they add `soft`, a soft
    sample at theta, in the place of noise, and divide by its temperature only outside of the softmax.

    Args:
        logits: rows [..., n].
        drawn: classes [...].
        probs: softmax(logits), broadcastable to `logits`.
        soft: the soft sample softmax((theta + G) / tau), a constant, [..., n].
        tau: its temperature.
    """
    # softmax(log m + s) = m exp(s) / (m . exp(s)),  0 <= s <= 1
    weights = _midpoint(probs, drawn) * soft.exp()
    return gradients.straight_through(logits, drawn, weights / weights.sum(-1, keepdim=True), tau)


def _midpoint(probs: Tensor, drawn: Tensor) -> Tensor:
    return (probs.detach() + categorical.one_hot(drawn, probs.shape[-1], probs.dtype)) / 2
