"""Gumbel-softmax draws given the class that was drawn, reduced to what their mean Jacobian needs.

Given the drawn class d, with E_j independent Exp(1) numbers and p the probabilities, the perturbed
normalised logits are -log E_d for the class d and -log(E_j / p_j + E_d) for the others (Paulus, Maddison
and Krause, 2021, https://arxiv.org/abs/2010.04838). Relative to class d their exponentials are

    r_d = 1    and    r_j = E_d p_j / (E_j + E_d p_j),

which lie in [0, 1] and are 0 for a class of probability 0, so no logarithm is needed and nothing
overflows; the soft sample is r^(1/tau) divided by its sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Generator, Tensor

from reinmax_core import categorical

WORKING_SET = 2**18
"""Numbers worked on at a time: about as many as a processor's cache holds."""


def moments(probs: Tensor, drawn: Tensor, tau: float, samples: int, generator: Generator | None = None) -> Tensor:
    """What `gradients.averaged` needs of `samples` soft samples y given the drawn classes.

    Args:
        probs: probabilities [..., n], broadcastable to the rows.
        drawn: classes [...].
        tau: temperature of the soft samples.
        samples: their number K.
        generator: the source of randomness; torch's global one if None.

    Returns:
        For n = 2 the mean of y_0 y_1, [...]; else the mean of y y^T, [..., n, n], or, if K < n, all y,
        [..., n, K].
    """
    probs = probs.detach().expand(*drawn.shape, probs.shape[-1])
    classes = probs.shape[-1]
    if classes == 2:
        return _mean_of_products(probs, drawn, tau, samples, generator)
    if samples < classes:
        return soft_samples(probs, drawn, tau, samples, generator)
    total = probs.new_zeros(())
    for size in _chunks(samples, probs.numel()):
        soft = soft_samples(probs, drawn, tau, size, generator)
        total = total + categorical.matrix_product(soft, soft.mT)
    return total / samples


def soft_samples(probs: Tensor, drawn: Tensor, tau: float, samples: int, generator: Generator | None = None) -> Tensor:
    """Soft samples [..., n, K] whose largest entry is at the drawn class [...]."""
    ringing = categorical.exponential((*probs.shape, samples), probs, generator)
    at_drawn = drawn[..., None, None].expand(*drawn.shape, 1, samples)
    # E_d p_j / (E_j + E_d p_j)
    reached = ringing.gather(-2, at_drawn) * probs.unsqueeze(-1)
    weights = _tempered(categorical.put(reached / (ringing + reached), -2, at_drawn, 1), tau)
    return weights / weights.sum(-2, keepdim=True)


def seed(generator: Generator | None = None) -> int:
    """The seed of a generator for soft samples that are drawn later."""
    return int(torch.randint(2**62, (), generator=generator, device="cpu"))


def mean_product(probs: Tensor, drawn: Tensor, tau: float, samples: int, generator: Generator, g: Tensor) -> Tensor:
    """The mean over soft samples y, drawn here and now, of J(y) g, [..., n]: as many at a time as memory should hold.

    Args and errors as for `moments`; g is [..., n].
    """
    probs = probs.expand(*drawn.shape, probs.shape[-1])
    g = (g - categorical.wide(g[..., :1])).unsqueeze(-1)
    total = torch.zeros_like(g)
    for size in _chunks(samples, probs.numel()):
        soft = _outside_transforms(g, soft_samples, probs, drawn, tau, size, generator)
        # y * g - y (y . g), summed over the samples
        along = categorical.matrix_product(soft.mT, g)
        total += soft.sum(-1, keepdim=True) * g - categorical.matrix_product(soft, along)
    return total.squeeze(-1) / samples


def _outside_transforms(g: Tensor, sample: Callable[..., Tensor], *arguments: object) -> Tensor:
    """What `sample` gives, also where many gradients are taken at once: the same samples for them all."""
    if not torch._C._functorch.is_legacy_batchedtensor(g) and not torch._C._are_functorch_transforms_active():
        return sample(*arguments)
    # Inside a vmap over g nothing may be random. It is one of this thread only, as is whether derivatives are taken.
    with ThreadPoolExecutor(1, initializer=torch.set_grad_enabled, initargs=(torch.is_grad_enabled(),)) as outside:
        return outside.submit(sample, *arguments).result()


def _mean_of_products(probs: Tensor, drawn: Tensor, tau: float, samples: int, generator: Generator | None) -> Tensor:
    other = categorical.at_drawn(drawn, probs[..., 1], probs[..., 0]).unsqueeze(-1)
    total = probs.new_zeros(())
    for size in _chunks(samples, drawn.numel()):
        total = total + _products(other, tau, size, generator).sum(-1)
    return total / samples


def _products(other: Tensor, tau: float, samples: int, generator: Generator | None) -> Tensor:
    u = categorical.inner_uniform((*other.shape[:-1], samples), other, generator)
    # E_j / E_d has the law of u / (1 - u), so r_j = p_j (1 - u) / (u + p_j (1 - u)), and y_0 y_1 = r / (1 + r)^2.
    reached = other * (1 - u)
    ratio = _tempered(reached / (u + reached), tau)
    return ratio / (1 + ratio).square()


def _tempered(ratios: Tensor, tau: float) -> Tensor:
    if tau == 1:
        return ratios
    # Compiled code takes another tau as it comes in a tensor, but is compiled anew for each number in a power.
    return ratios.pow_(ratios.new_ones(()) / tau if torch.compiler.is_compiling() else 1 / tau)


def _chunks(samples: int, numbers_each: int) -> Iterator[int]:
    """Sizes that add up to `samples`, each with a working set of bounded size."""
    # By comparisons, so that what is compiled for any number of rows holds for all that share a size.
    largest = samples
    while largest > 1 and largest * numbers_each > WORKING_SET:
        largest = (largest + 1) // 2
    for start in range(0, samples, largest):
        yield min(largest, samples - start)
