"""Several models of one form as a single one, whose parameters and activations have a leading axis of models."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import Function


class StackedLinear(nn.Module):
    """A linear layer for each model, in one batched product.

    Args:
        layers: one of each model, of equal sizes.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [models, rows, outputs] of inputs [models, rows, inputs]."""
        outputs: Tensor = _Linear.apply(inputs, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return outputs


class _Linear(Function):
    """Linear layers whose products, forwards and backwards, are rounded as those of each layer alone would be."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _products(inputs, weight.mT, bias.unsqueeze(1))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        back = _products(g, weight) if ctx.needs_input_grad[0] else None
        return back, _products(g.mT, inputs), g.sum(1)


def _products(first: Tensor, second: Tensor, bias: Tensor | None = None) -> Tensor:
    """bias + first @ second for each model, [models, rows, columns]."""
    if first.device.type == "cpu" and not _are_rounded_alike(_form(first), _form(second), torch.get_num_threads()):
        return _one_by_one(first, second, bias)
    return first.bmm(second) if bias is None else torch.baddbmm(bias, first, second)


def _one_by_one(first: Tensor, second: Tensor, bias: Tensor | None) -> Tensor:
    pairs = zip(first.unbind(), second.unbind(), strict=True)
    if bias is None:
        return torch.stack([one.mm(other) for one, other in pairs])
    return torch.stack([torch.addmm(own, *pair) for own, pair in zip(bias.unbind(), pairs, strict=True)])


Form: TypeAlias = tuple[tuple[int, ...], bool, torch.dtype]
"""Shape, whether rows are not what lies side by side in memory, and type of a stack of matrices."""


def _form(matrices: Tensor) -> Form:
    return tuple(matrices.shape), matrices.stride(-1) != 1, matrices.dtype


@cache
def _are_rounded_alike(first: Form, second: Form, threads: int) -> bool:
    """Whether a CPU's batched product of such matrices has the very digits of one after the other, found by trial.

    Libraries choose their kernels by sizes, for single and batched products by rules of their own.
    """
    del threads  # which they divide the work among
    generator = torch.Generator().manual_seed(0)
    one, other = (_random(form, generator) for form in (first, second))
    bias = _random(((len(one), 1, other.shape[-1]), False, one.dtype), generator)
    return torch.equal(one.bmm(other), _one_by_one(one, other, None)) and torch.equal(
        torch.baddbmm(bias, one, other), _one_by_one(one, other, bias)
    )


def _random(form: Form, generator: torch.Generator) -> Tensor:
    (models, rows, columns), is_transposed, dtype = form
    if is_transposed:
        return torch.randn(models, columns, rows, generator=generator, dtype=dtype).mT
    return torch.randn(models, rows, columns, generator=generator, dtype=dtype)


def stacked(models: Sequence[nn.Module]) -> nn.Module:
    """One model in the place of several that differ in nothing but their parameters.

    From here on the parameters of each of them lie in memory within those of the one, so that a step of either
    is a step of both.

    Args:
        models: with parameters in linear layers and of their own; a model that computes along other axes than
            the last ones of what it is given does for a stack what it does for each.

    Raises:
        TypeError: a layer with parameters that cannot be stacked.
    """
    whole = copy.deepcopy(models[0])
    for path, module in list(whole.named_modules()):
        _stack(whole, path, module, [model.get_submodule(path) for model in models])
    for name, parameter in whole.named_parameters():
        for model, part in zip(models, parameter.detach().unbind(), strict=True):
            model.get_parameter(name).data = part
    return whole


def _stack(whole: nn.Module, path: str, module: nn.Module, parts: list[nn.Module]) -> None:
    if isinstance(module, nn.Linear):
        parent, _, name = path.rpartition(".")
        setattr(
            whole.get_submodule(parent), name, StackedLinear([part for part in parts if isinstance(part, nn.Linear)])
        )
        return
    own = dict(module.named_parameters(recurse=False))
    if own and not isinstance(module, nn.ParameterDict):
        raise TypeError(f"parameters of {type(module).__name__} cannot be stacked; train such models one by one")
    for name in own:
        leaves = [part.get_parameter(name).detach() for part in parts]
        module.register_parameter(name, nn.Parameter(torch.stack(leaves)))
