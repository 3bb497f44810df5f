"""Probabilities of rows of logits, and the derivative of a softmax."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function

from reinmax_core.categorical.arithmetic import pair
from reinmax_core.categorical.functions import apply
from reinmax_core.categorical.rows import distinct, wide

FEW_CLASSES = 32
"""Up to so many classes, a CPU is faster at a softmax over the first axis than over the last one."""


def is_one(tau: float | Tensor) -> bool:
    """Whether a temperature changes nothing; one that is a tensor may."""
    return not isinstance(tau, Tensor) and tau == 1


def probabilities(by_class: Tensor, tau: float | Tensor = 1.0) -> Tensor:
    """softmax(logits / tau), broadcastable to the logits: rows that `expand` repeated are computed once.

    A tau for each row is a tensor that can be broadcast to the logits and has a single entry on the last axis.
    """
    by_class = wide(distinct(by_class))
    if isinstance(tau, Tensor) or tau < 1:
        # Differences from the largest logit stay finite or go to -inf, however small tau is.
        by_class = by_class - by_class.detach().amax(-1, keepdim=True)
    if not is_one(tau):
        by_class = by_class / tau
    if by_class.shape[-1] == 2 or (by_class.shape[-1] <= FEW_CLASSES and by_class.device.type == "cpu"):
        return apply(_SoftmaxOfFew, by_class)
    return by_class.softmax(-1)


class _SoftmaxOfFew(Function):
    """A softmax taken over the first axis, of which the result alone is kept, in the layout of the rows."""

    generate_vmap_rule = True

    @staticmethod
    def forward(by_class: Tensor) -> Tensor:
        if by_class.shape[-1] == 2:
            difference = by_class[..., 0] - by_class[..., 1]
            return pair(difference, -difference).sigmoid()
        return by_class.movedim(-1, 0).softmax(0).movedim(0, -1).contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # Mostly nothing arrives, as operators of `gradients` only have derivatives with respect to probabilities
        # where they are differentiated twice.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> Tensor | None:
        return None if g is None else jacobian_product(ctx.saved_tensors[0], g)


def log_probabilities(by_class: Tensor) -> Tensor:
    """log softmax(logits), with its ordinary gradient."""
    by_class = wide(by_class)
    if by_class.shape[-1] <= FEW_CLASSES and by_class.device.type == "cpu":
        return by_class.movedim(-1, 0).log_softmax(0).movedim(0, -1)
    return by_class.log_softmax(-1)


def jacobian_product(probs: Tensor, vectors: Tensor) -> Tensor:
    """J(p) v = p * (v - p . v), the derivative of a softmax at probabilities p times v, [..., n]."""
    weighted = probs * (vectors - vectors[..., :1])
    return weighted - probs * weighted.sum(-1, keepdim=True)
