"""The optimisers of the papers' experiments, as values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from reinmax_core.schedules import Plateau
from reinmax_core.value import Value

if TYPE_CHECKING:
    from torch import nn, optim

LearningRate = Annotated[float, Field(gt=0, le=100, description="Learning rate.")]
WeightDecay = Annotated[float, Field(ge=0, le=1, description="L2 penalty added to the gradient, times the parameter.")]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Value, ABC):
    """How parameters follow their gradients."""

    name: str
    lr: LearningRate
    clip_norm: float | None = Field(
        default=None, gt=0, le=1e6, description="Norm to which larger gradients of the model are scaled down, if any."
    )
    schedule: Plateau | None = Field(
        default=None, description="How the learning rate changes with the task's objective; constant by default."
    )

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
        """A new torch optimiser over `parameters`, with the fields as its settings."""


class Adam(Optimizer):
    """Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, arXiv 1412.6980)."""

    name: Literal["adam"] = "adam"
    lr: LearningRate = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the running mean of the gradient and of its square, a step."""
    eps: float = Field(default=1e-8, gt=0, le=1)
    """Added to the denominator."""
    weight_decay: WeightDecay = 0.0

    def build(self, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
        from torch import optim

        return optim.Adam(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True
        )


class RAdam(Optimizer):
    """Rectified Adam (Liu et al., "On the Variance of the Adaptive Learning Rate", 2020, arXiv 1908.03265)."""

    name: Literal["radam"] = "radam"
    lr: LearningRate = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the running mean of the gradient and of its square, a step."""
    eps: float = Field(default=1e-8, gt=0, le=1)
    """Added to the denominator."""
    weight_decay: WeightDecay = 0.0

    def build(self, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
        from reinmax_core.rectified_adam import RectifiedAdam

        return RectifiedAdam(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


class Sgd(Optimizer):
    """Stochastic gradient descent, with momentum if asked for."""

    name: Literal["sgd"] = "sgd"
    lr: LearningRate = 1e-2
    momentum: Decay = 0.0
    """Share of the last update that is kept in the next one."""
    nesterov: bool = False
    """Look ahead along the momentum; needs a momentum above 0."""
    weight_decay: WeightDecay = 0.0

    @model_validator(mode="after")
    def _looks_ahead_with_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is true but momentum is 0; give a momentum above 0, such as 0.9")
        return self

    def build(self, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
        from torch import optim

        return optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )


OPTIMIZERS: tuple[type[Optimizer], ...] = (Adam, RAdam, Sgd)
