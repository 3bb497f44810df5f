"""A discrete Stein operator: it turns any function of several latents into one whose mean is exactly 0.

For x drawn from independent categorical variables with probabilities p_l, l = 1 to L, and x_{l->c} the same
with latent l moved to class c,

    (A h)(x) = 1/L sum_l sum_c p_lc [h(x_{l->c}) - h(x)]    and    E[(A h)(x)] = 0    for every h:

each latent is drawn anew from its own distribution, which changes no mean. With two classes this is the
Barker operator of Shi, Zhou, Hwang, Titsias and Mackey, "Gradient Estimation with Discrete Stein
Operators", 2022, https://arxiv.org/abs/2202.09497.
"""

from __future__ import annotations

from torch import Tensor

from reinmax_core import categorical


def of_function(changes: Tensor, probs: Tensor) -> Tensor:
    """(A h)(x), [...], from the changes h(x_{l->c}) - h(x), [..., L, n], and probabilities [..., L, n]."""
    return _mean_changes(changes, probs).mean(-1)


def of_function_times_score(changes: Tensor, here: Tensor, scores: Tensor, probs: Tensor) -> Tensor:
    """(A (h s))(x) for the score s(x) = x - p, [..., L, n].

    Args:
        changes: h(x_{l->c}) - h(x), [..., L, n].
        here: h(x), [...].
        scores: s(x), [..., L, n].
        probs: probabilities [..., L, n].
    """
    # A move of another latent d leaves s_l as it is and adds T_d s_l, where T_d = sum_c p_dc [h(x_{d->c}) - h(x)].
    # One of latent l itself adds sum_c p_lc h(x_{l->c}) (e_c - p_l) - h(x) s_l = J(p_l) changes_l - h(x) s_l.
    moves = _mean_changes(changes, probs)
    others = moves.sum(-1, keepdim=True) - moves - here.unsqueeze(-1)
    return (others.unsqueeze(-1) * scores + categorical.jacobian_product(probs, changes)) / probs.shape[-2]


def _mean_changes(changes: Tensor, probs: Tensor) -> Tensor:
    return (probs * changes).sum(-1)
