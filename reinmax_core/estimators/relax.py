"""RELAX: REBAR whose control variate is completed by a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.from_costs import Learned

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn, optim

    from reinmax_core.estimators.base import Cost


@final
class Relax(Learned):
    """`Rebar` whose control variate has a network added, which learns what the relaxed cost does not tell.

    The network reads the log-probabilities and the Gumbel-perturbed logits of all latents beneath a value
    of the cost, and has one hidden layer. It is 0 at first, so an estimator without parts is `Rebar`.
    Unbiased for every cost with a derivative between the one-hot draws, whatever the settings and the
    network. Temperature, scale and network are learned beside the model, which matters: where
    they start, the gradient may vary more than that of `Reinforce`.

    Not for costs without a derivative, or with jumps between the one-hot draws, where a bias remains: `Rloo`
    needs none. Not for second derivatives, which raise RuntimeError; learning the temperature takes one of
    the cost.

    Settings:
        tau (float): temperature of the relaxed draws at the start of training, at least 1e-30, at most 1000;
            default 0.1.
        scale (float): weight of the relaxed cost at the start of training, at most 100 from 0; default 1.0;
            with 0 the network is all of the control variate then.
        parts_lr (float): learning rate of temperature, scale and network, above 0 and at most 100; default 0.001.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import Relax
        >>> estimator, logits = Relax(parts_lr=0.01), torch.zeros(8, 6, 2, requires_grad=True)
        >>> parts = estimator.parts(latents=6, classes=2)
        >>> optimizer = estimator.optimizer(parts)
        >>> loss = estimator.using(parts).expectation(logits, lambda z: (z[..., 0] - 0.4).square().sum(-1)).mean()
        >>> loss.backward()
        >>> optimizer.step()
        >>> logits.grad.shape
        torch.Size([8, 6, 2])

    Source: Grathwohl, Choi, Wu, Roeder and Duvenaud, "Backpropagation through the Void: Optimizing control
    variates for black-box gradient estimation", 2018, https://arxiv.org/abs/1711.00123.
    """

    name: Literal["relax"] = "relax"
    tau: float = Field(default=0.1, ge=1e-30, le=1000)
    """Temperature of the relaxed draws at the start of training."""
    scale: float = Field(default=1.0, ge=-100, le=100)
    """Weight of the relaxed cost at the start of training."""
    parts_lr: float = Field(default=1e-3, gt=0, le=100)
    """Learning rate of temperature, scale and network."""

    @property
    def evaluations(self) -> int:
        return 3

    def parts(self, latents: int, classes: int) -> nn.Module:
        """`surrogate`, with the scalars `log_temperature` and `scale`, and `network`."""
        from torch import nn

        from reinmax_core import relaxation

        surrogate = relaxation.initial(self.tau, self.scale)
        return nn.ModuleDict({"surrogate": surrogate, "network": relaxation.network(latents, classes)})

    def optimizer(self, parts: nn.Module) -> optim.Optimizer:
        """Adam with slow averages, as published."""
        from torch import optim

        return optim.Adam(parts.parameters(), lr=self.parts_lr, betas=(0.999, 0.999))

    def measure(self, logits: Tensor, cost: Cost, generator: Generator | None) -> tuple[Tensor, Tensor]:
        from reinmax_core.relaxation import ControlVariate

        if self._parts is None:
            return ControlVariate.fixed(self.tau, self.scale).measured(logits, cost, generator)
        variate = ControlVariate.of(self._parts["surrogate"], self._parts["network"])
        return variate.measured(logits, cost, generator)
