"""The common part of a step of several trainers: forward pass, backward pass and optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Generator, Tensor

from reinmax_core.categorical import NoDistribution, Streams
from reinmax_core.models.stacked import stacked

if TYPE_CHECKING:
    from reinmax_core.estimators.base import Estimator
    from reinmax_core.tasks.base import Replicable
    from reinmax_core.trainer import Trainer


class Pack:
    """Trainers of one form whose parameters are moved into one stack, and which are then stepped in common.

    Args:
        trainers: on one device.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self._trainers = trainers
        self._task = cast("Replicable", trainers[0].spec.task)
        self._model = stacked([trainer.model for trainer in trainers])
        self._parts = [
            (whole, [trainer.model.get_parameter(name) for trainer in trainers])
            for name, whole in self._model.named_parameters()
        ]
        self._estimators = [trainer.estimator for trainer in trainers]
        self._generators = [trainer.generator for trainer in trainers]
        self._optimizers = [_Optimizer(alike) for alike in _groups(trainers)]

    def step(self) -> list[dict[str, Tensor]]:
        """Moves all parameters by a step. Returns the losses of each trainer, who are left to count the step.

        Raises:
            NoDistribution: the logits of one of them are not finite; nothing has changed.
        """
        losses = self._losses()
        self._backward([own["loss"] for own in losses])
        for trainer in self._trainers:
            trainer.clip()
        for optimizer in self._optimizers:
            optimizer.step()
        return losses

    def _losses(self) -> list[dict[str, Tensor]]:
        batches = [trainer.batches[trainer.step] for trainer in self._trainers]
        before = [generator.get_state() for generator in self._generators]
        try:
            return self._task.losses(self._model, batches, self._estimators, self._generators)
        except NoDistribution:
            for generator, state in zip(self._generators, before, strict=True):
                generator.set_state(state)
            raise

    def _backward(self, losses: list[Tensor]) -> None:
        """Leaves the gradient of each loss in the parameters of its model."""
        for whole, _ in self._parts:
            whole.grad = None
        torch.autograd.backward(losses)
        for whole, parts in self._parts:
            assert whole.grad is not None
            for part, gradient in zip(parts, whole.grad.unbind(), strict=True):
                part.grad = gradient


class _Optimizer:
    """One torch optimiser in the place of those of several trainers with equal settings at equal steps."""

    def __init__(self, trainers: list[Trainer]) -> None:
        parameters = [parameter for trainer in trainers for parameter in trainer.model.parameters()]
        self._whole = trainers[0].spec.optimizer.build(parameters)
        self._own = [trainer.optimizer for trainer in trainers]
        (self._group,) = self._whole.param_groups
        self._group.update(_settings(self._own[0]))
        for optimizer in self._own:
            for parameter in optimizer.param_groups[0]["params"]:
                # One and the same state, which torch changes in place.
                self._whole.state[parameter] = optimizer.state[parameter]

    def step(self) -> None:
        self._whole.step()
        if "steps" in self._group:  # which Rectified Adam counts for all parameters in common
            for optimizer in self._own:
                optimizer.param_groups[0]["steps"] = self._group["steps"]


def _settings(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    return {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}


def _groups(trainers: Sequence[Trainer]) -> list[list[Trainer]]:
    """The trainers, apart where settings of the optimiser or the step differ."""
    groups: dict[tuple[str, int], list[Trainer]] = {}
    for trainer in trainers:
        groups.setdefault((trainer.spec.optimizer.model_dump_json(), trainer.step), []).append(trainer)
    return list(groups.values())


def drawn_together(logits: Tensor, estimators: Sequence[Estimator], generators: Sequence[Generator]) -> Tensor:
    """Draws of every replica by its own estimator, at once where all have the same.

    Args:
        logits: [replicas, ..., n].
        estimators, generators: one a replica.
    """
    if all(estimator == estimators[0] for estimator in estimators):
        return estimators[0].sample(logits, generator=Streams(generators))
    each = zip(estimators, logits.unbind(), generators, strict=True)
    return torch.stack([estimator.sample(own, generator=generator) for estimator, own, generator in each])
