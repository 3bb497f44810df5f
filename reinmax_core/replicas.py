"""Several runs of one form trained side by side in one program."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from reinmax_core.categorical import NoDistribution
from reinmax_core.data.base import DataSource
from reinmax_core.forms import form, packable
from reinmax_core.pack import Pack
from reinmax_core.run import Progress, RunSpec
from reinmax_core.trainer import Diverged, Trainer

if TYPE_CHECKING:
    from torch import Tensor


class Replicas:
    """Trains several runs step by step in common: `for trainer, progress in Replicas(trainers): ...`.

    Each replica is a whole `Trainer`, with its own parameters, order of the data, draws, optimiser state and
    metrics, which is evaluated, saved and restored as if it ran alone; forward and backward pass and the update
    alone are common, over parameters stacked along a leading axis. On a CPU a replica's numbers are those of its
    run alone, to the last bit, whatever it is trained beside. Elsewhere products of matrices may be rounded
    otherwise for another number of replicas.

    An iterator of every step of every replica. One that ends, or whose loss is no longer finite, drops out, and
    the others go on. Trainers at different steps, as after restoring them, are each continued from their own.

    Args:
        trainers: of runs that have one `form` and are `packable`, on one device; `trainers_of` makes new ones.

    Raises:
        ValueError: the runs cannot be trained side by side.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        _check([trainer.spec for trainer in trainers])
        self.trainers = tuple(trainers)
        self.diverged: dict[Trainer, Diverged] = {}
        """Those whose loss is no longer finite, and what is to be said of it."""
        self._dropped: set[Trainer] = set()

    def drop(self, trainer: Trainer) -> None:
        """Ends a run before its time, between two steps; what it has reached stays."""
        self._dropped.add(trainer)

    def __iter__(self) -> Iterator[tuple[Trainer, Progress]]:
        while training := [trainer for trainer in self.trainers if self._goes_on(trainer)]:
            yield from self._together(training)

    def _goes_on(self, trainer: Trainer) -> bool:
        return trainer.step < trainer.spec.steps and trainer not in self.diverged and trainer not in self._dropped

    def _together(self, training: list[Trainer]) -> Iterator[tuple[Trainer, Progress]]:
        """Steps of these replicas until one of them drops out."""
        pack = Pack(training)
        while all(map(self._goes_on, training)):
            started = time.perf_counter()
            try:
                losses = pack.step()
            except NoDistribution:
                if not self._find_diverged(training):
                    raise
                return
            share_s = (time.perf_counter() - started) / len(training)
            for trainer, own in zip(training, losses, strict=True):
                yield from self._advanced(trainer, own, share_s)

    def _advanced(
        self, trainer: Trainer, losses: dict[str, Tensor], share_s: float
    ) -> Iterator[tuple[Trainer, Progress]]:
        started = time.perf_counter()
        try:
            progress = trainer.advanced(losses)
        except Diverged as error:
            self.diverged[trainer] = error
            return
        trainer.wall_time_s += share_s + time.perf_counter() - started
        yield trainer, progress

    def _find_diverged(self, training: list[Trainer]) -> bool:
        """Finds those without finite logits, by the losses of each alone; the others' draws will be made again.

        Returns whether there are any: where products are rounded otherwise in common, each alone may be finite.
        """
        for trainer in training:
            before = trainer.generator.get_state()
            try:
                trainer.losses()
            except NoDistribution as error:
                self.diverged[trainer] = trainer.without_distribution(error)
            trainer.generator.set_state(before)
        return any(trainer in self.diverged for trainer in training)


def trainers_of(
    specs: Sequence[RunSpec], *, device: str = "cpu", source: DataSource | None = None
) -> tuple[Trainer, ...]:
    """New trainers that share their data.

    Args:
        specs: runs of one `form`.
        device: where to train, such as "cpu" or "cuda:0".
        source: where data sets are looked for; by default as the environment says.

    Raises:
        DataUnavailable: a data set of the task is not to be had.
    """
    first = Trainer(specs[0], device=device, source=source)
    return first, *(Trainer(spec, device=device, source=source, data=first.data) for spec in specs[1:])


def _check(specs: Sequence[RunSpec]) -> None:
    for spec in specs:
        if not packable(spec):
            raise ValueError(
                f"{spec.task.name!r} with {spec.estimator.name!r} in {spec.precision}, as it is set up here, cannot be "
                f"trained side by side; train such runs one by one"
            )
        if form(spec) != form(specs[0]):
            raise ValueError(
                f"runs that are trained side by side may differ in seed, learning rate and tau alone, but "
                f"{form(spec).model_dump_json()} is not {form(specs[0]).model_dump_json()}; train them apart"
            )


__all__ = ["Replicas", "form", "packable", "trainers_of"]
