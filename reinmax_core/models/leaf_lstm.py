"""A long short-term memory that gives its cell states, too, as the leaves of trees need them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Memory(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        length, rows, width = inputs.shape
        size = width // 4
        gates, states = inputs.clone(), inputs.new_zeros(length + 1, rows, 2 * size)
        for step in range(length):
            gated = gates[step].addmm_(states[step, :, :size], weight.t())
            gated[:, : 3 * size].sigmoid_()
            gated[:, 3 * size :].tanh_()
            i, f, o, g = gated.chunk(4, -1)
            # c = f c + i g;  h = o tanh(c)
            cell = (f * states[step, :, size:]).addcmul_(i, g)
            states[step + 1, :, size:] = cell
            torch.mul(o, cell.tanh_(), out=states[step + 1, :, :size])
        ctx.save_for_backward(gates, states, weight)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor, Tensor]:
        gates, states, weight = ctx.saved_tensors
        size = weight.shape[1]
        i, f, o, g = gates.chunk(4, -1)
        before, tanh = states[:-1, :, size:], states[1:, :, size:].tanh()
        # derivatives with respect to the gates before their nonlinearities, for a unit arriving at c or at h
        by_cell = torch.cat((g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)), -1)
        output, through = tanh * o * (1 - o), o * (1 - tanh * tanh)
        inward = torch.empty_like(gates)
        hidden = cell = arriving.new_zeros((*arriving.shape[1:2], size))
        for step in reversed(range(len(gates))):
            hidden = arriving[step, :, :size] + hidden
            cell = (arriving[step, :, size:] + cell).addcmul_(hidden, through[step])
            parts = by_cell[step] * cell.repeat(1, 3)
            inward[step, :, : 2 * size], inward[step, :, 3 * size :] = parts[:, : 2 * size], parts[:, 2 * size :]
            inward[step, :, 2 * size : 3 * size] = hidden * output[step]
            hidden, cell = inward[step] @ weight, cell * f[step]
        return inward, inward.flatten(0, 1).t() @ states[:-1, :, :size].flatten(0, 1)


def memory(inputs: Tensor, weight: Tensor) -> Tensor:
    """Hidden and cell states after each input, [length, rows, 2 size], from states of 0.

    i, f, o = sigmoid, g = tanh of inputs + W h;  c = f c + i g;  h = o tanh(c). Its gradient with respect to
    the weight is one product over all steps; it has no derivative of its own.

    Args:
        inputs: shares of the inputs in the gates i, f, o, g, biases included, [length, rows, 4 size].
        weight: W, [4 size, size].

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; Gers, Schmidhuber and Cummins,
    "Learning to Forget", 2000, https://doi.org/10.1162/089976600300015015.
    """
    # Many small steps, whose rounding errors add up: not in half precision.
    with torch.autocast(inputs.device.type, enabled=False):
        states: Tensor = _Memory.apply(inputs.to(weight.dtype), weight)  # type: ignore[no-untyped-call]
    return states
