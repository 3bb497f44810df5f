"""REBAR: the score function, helped by the cost of a relaxed draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.from_costs import Learned

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn, optim

    from reinmax_core.estimators.base import Cost


@final
class Rebar(Learned):
    """`Reinforce` less what the cost of a relaxed draw foretells, which is put back through that draw.

    The control variate is `scale` times the cost at softmax(z / tau), where z are the Gumbel-perturbed
    logits, whose argmax is the draw. What it foretells is taken from other noise that gives the same draw,
    and put back by derivatives through both. Unbiased for every cost with a derivative between the one-hot
    draws, whatever the settings. Temperature and scale are learned beside the model, which matters: where
    they start, the gradient may vary more than that of `Reinforce`.

    Not for costs without a derivative, or with jumps between the one-hot draws, where a bias remains: `Rloo`
    needs none. Not for second derivatives, which raise RuntimeError; learning the temperature takes one of
    the cost.

    Settings:
        tau (float): temperature of the relaxed draws at the start of training, at least 1e-30, at most 1000;
            default 0.1.
        scale (float): weight of the control variate at the start of training, at most 100 from 0;
            default 1.0; with 0 it is `Reinforce` without a baseline.
        parts_lr (float): learning rate of temperature and scale, above 0 and at most 100; default 0.001.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import Rebar
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> loss = Rebar(tau=0.5).expectation(logits, lambda z: (z * torch.arange(3.0)).sum(-1) ** 3)
        >>> loss.shape
        torch.Size([5])

    Source: Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, "REBAR: Low-variance, unbiased gradient
    estimates for discrete latent variable models", 2017, https://arxiv.org/abs/1703.07370.
    """

    name: Literal["rebar"] = "rebar"
    tau: float = Field(default=0.1, ge=1e-30, le=1000)
    """Temperature of the relaxed draws at the start of training."""
    scale: float = Field(default=1.0, ge=-100, le=100)
    """Weight of the control variate at the start of training."""
    parts_lr: float = Field(default=1e-3, gt=0, le=100)
    """Learning rate of temperature and scale."""

    @property
    def evaluations(self) -> int:
        return 3

    def parts(self, latents: int, classes: int) -> nn.Module:
        """The parameters `log_temperature` and `scale`, scalars."""
        from reinmax_core import relaxation

        del latents, classes
        return relaxation.initial(self.tau, self.scale)

    def optimizer(self, parts: nn.Module) -> optim.Optimizer:
        """Adam with slow averages, as published."""
        from torch import optim

        return optim.Adam(parts.parameters(), lr=self.parts_lr, betas=(0.999, 0.999))

    def measure(self, logits: Tensor, cost: Cost, generator: Generator | None) -> tuple[Tensor, Tensor]:
        from reinmax_core.relaxation import ControlVariate

        fixed = self._parts is None
        variate = ControlVariate.fixed(self.tau, self.scale) if fixed else ControlVariate.of(self._parts)
        return variate.measured(logits, cost, generator)
