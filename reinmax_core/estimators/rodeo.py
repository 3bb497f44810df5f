"""RODEO: leave-one-out, helped by learned functions that a Stein operator gives the mean 0."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.from_costs import Learned

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn, optim

    from reinmax_core.estimators.base import Cost

HIDDEN = 100
"""Width of the network's hidden layer."""


@final
class Rodeo(Learned):
    """`Rloo` with two control variates: one lowers the baseline's variance, one that of the whole gradient.

    A small network predicts a draw's cost from the costs of the other draws and their derivatives there,
    `alpha` times for the baseline and `beta` times for the gradient. A Stein operator, the mean effect of
    drawing one latent anew, makes its predictions vary about 0. So it is unbiased for every cost, whatever
    alpha, beta and the network are; all of them are learned beside the model, and before that, with
    alpha = beta = 0, it is `Rloo`. The published operator for two classes is meant for any number here.

    Not for a cost without a derivative, nor for many draws of many classes: the network's hidden layer is
    kept for every pair of draws, row, latent and other class, K (K - 1) x rows x latents x classes x 100
    numbers (half as many for two classes).

    Settings:
        samples (int): K, draws of each row, 2 to 10000; default 2.
        parts_lr (float): learning rate of alpha, beta and the network, above 0 and at most 100; default 0.001.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import Rodeo
        >>> estimator, logits = Rodeo(samples=3), torch.zeros(5, 8, 2, requires_grad=True)
        >>> parts = estimator.parts(latents=8, classes=2)
        >>> costs = estimator.using(parts).expectation(logits, lambda z: (z[..., 1].mean(-1) - 0.45) ** 2)
        >>> costs.mean().backward()
        >>> costs.shape, parts["shares"]["alpha"].grad.shape
        (torch.Size([5]), torch.Size([]))

    Source: Shi, Zhou, Hwang, Titsias and Mackey, "Gradient Estimation with Discrete Stein Operators", 2022,
    https://arxiv.org/abs/2202.09497.
    """

    name: Literal["rodeo"] = "rodeo"
    samples: int = Field(default=2, ge=2, le=10_000)
    """K, draws of each row."""
    parts_lr: float = Field(default=1e-3, gt=0, le=100)
    """Learning rate of alpha, beta and the network."""

    @property
    def evaluations(self) -> int:
        return self.samples

    def parts(self, latents: int, classes: int) -> nn.Module:
        """The scalars alpha and beta, 0 at first, and a network of two scalar inputs and two outputs."""
        import torch
        from torch.nn import Linear, ModuleDict, ParameterDict

        del latents, classes
        shares = ParameterDict({name: torch.zeros(()) for name in ("alpha", "beta")})
        network = {
            "difference": Linear(1, HIDDEN, bias=False),  # as the layer of the value has one
            "value": Linear(1, HIDDEN),
            "outputs": Linear(HIDDEN, 2),
        }
        for parameter in (parameter for layer in network.values() for parameter in layer.parameters()):
            torch.nn.init.xavier_uniform_(parameter) if parameter.ndim == 2 else torch.nn.init.zeros_(parameter)
        return ModuleDict({"shares": shares, **network})

    def optimizer(self, parts: nn.Module) -> optim.Optimizer:
        """Adam."""
        from torch import optim

        return optim.Adam(parts.parameters(), lr=self.parts_lr)

    def measure(self, logits: Tensor, cost: Cost, generator: Generator | None) -> tuple[Tensor, Tensor]:
        from reinmax_core import categorical, gradients

        probs = categorical.probabilities(logits).expand(logits.shape)
        draws = categorical.one_hot_draws(probs, self.samples, generator)
        if self._parts is None:
            values = cost(draws)
            return values.mean(0), self._leave_one_out(values.detach(), draws - probs)
        values, slopes = gradients.values_and_slopes(cost, draws)
        return values.mean(0), self._gradient(values.detach(), slopes, draws, probs)

    def _leave_one_out(self, values: Tensor, scores: Tensor) -> Tensor:
        from reinmax_core import categorical

        return (categorical.above(values - categorical.mean_of_others(values), scores) * scores).mean(0)

    def _gradient(self, values: Tensor, slopes: Tensor, draws: Tensor, probs: Tensor) -> Tensor:
        from reinmax_core import categorical, stein

        shares, shape = self._parts["shares"], probs.shape
        by_latent = (*values.shape, math.prod(categorical.beneath(values.shape, draws.shape)), shape[-1])
        slopes, draws, probs = slopes.reshape(by_latent), draws.reshape(by_latent), probs.reshape(by_latent[1:])
        scores, (here, changes) = draws - probs, self._predictions(values, slopes, draws)
        # [f_k - mean over others j of f_j + alpha (A h_j)(x_j)] s(x_k) + beta (A h~_k)(x_k)
        corrected = values + shares["alpha"] * stein.of_function(changes[0], probs)
        advantages = categorical.above(values - categorical.mean_of_others(corrected), scores)
        variate = stein.of_function_times_score(changes[1], here[1], scores, probs)
        mean: Tensor = (advantages * scores + shares["beta"] * variate).mean(0)
        return mean.reshape(shape)

    def _predictions(self, values: Tensor, slopes: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """h and h~ at each draw, [2, K, ...], and by how much they change with one latent, [2, K, ..., L, n].

        Means over the networks of the other draws, each of which has every draw as its neighbour once.
        """
        pairs = [
            self._predicted(values.roll(shift, 0), slopes.roll(shift, 0), draws, draws.roll(shift, 0))
            for shift in range(1, self.samples)
        ]
        here, changes = (sum(parts) / len(pairs) for parts in zip(*pairs, strict=True))
        return here.movedim(-1, 0), changes.movedim(-1, 0)

    def _predicted(self, values: Tensor, slopes: Tensor, draws: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """As `_predictions`, [..., 2], of each draw from one other, the source, with its cost and slopes there."""
        # grad f(x_j) . (x - x_j), at the draw x itself and with one of its latents moved
        difference = (slopes * (draws - sources)).sum((-2, -1))
        if draws.shape[-1] == 2:
            moves = (slopes * (1 - 2 * draws)).sum(-1, keepdim=True)
        else:
            moves = slopes - (slopes * draws).sum(-1, keepdim=True)
        here = self._network(difference, values)
        moved = self._network(difference[..., None, None] + moves, values[..., None, None])
        # 0 where the latent is already, which rounding would not keep.
        return here, (1 - draws).unsqueeze(-1) * (moved - here[..., None, None, :])

    def _network(self, difference: Tensor, value: Tensor) -> Tensor:
        """Outputs [..., 2] from scalar inputs [...]: a layer of each, added, and a layer of both."""
        from torch.nn.functional import leaky_relu

        dtype = self._parts["outputs"].weight.dtype
        first = self._parts["difference"](difference.unsqueeze(-1).to(dtype))
        # In place, as these are the largest tensors by far; two small products are faster than one of both inputs.
        hidden = first.add_(self._parts["value"](value.unsqueeze(-1).to(dtype)))
        predicted: Tensor = self._parts["outputs"](leaky_relu(hidden, 0.3, inplace=True))
        return predicted
