"""Memory of one draw and its backward pass, counted in tensors of the size of the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

Draws = Callable[[Tensor], tuple[Tensor, ...]]


def saved(draws: Draws, logits: Tensor) -> float:
    """What is kept for the backward pass beyond the logits and what is returned."""
    kept: list[Tensor] = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        outputs = draws(logits)
    return (_bytes((*kept, *outputs, logits)) - _bytes((*outputs, logits))) / _bytes([logits])


def peak(draws: Draws, logits: Tensor, upstream: tuple[Tensor, ...]) -> float:
    """The most that is alive at a time from the call to the gradient, outputs and gradient included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        torch.autograd.grad(draws(logits)[: len(upstream)], logits, upstream)
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    alive = most = 0
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most / _bytes([logits])


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
