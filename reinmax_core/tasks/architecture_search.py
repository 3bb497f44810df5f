"""Search for the cell of an image classifier, by gradients through draws of its operations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from reinmax_core.data.base import DataSource, Readable
from reinmax_core.data.cifar import CLASSES
from reinmax_core.data.colour_image_file import ColourImageFile
from reinmax_core.data.nats_bench import EDGES, CellTable, NatsBench, written
from reinmax_core.estimators.base import Estimator
from reinmax_core.tasks import searched_images
from reinmax_core.tasks.base import Batches, Bilevel, Recommendation
from reinmax_core.tasks.searched_images import ColourImageName, published

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, nn, optim

    from reinmax_core.halves import BatchPair, Halves, Labelled
    from reinmax_core.models.cell_search_network import CellSearchNetwork

MEAN = (125.3, 123.0, 113.9)
DEVIATION = (63.0, 62.1, 66.7)
"""Of red, green and blue in CIFAR-10's training images, 0 to 255."""

EPOCHS = 200
USUAL_IMAGES = 50_000
LEAST_WEIGHTS_LR = 0.001
PUBLISHED_TAU = {"gumbel_softmax": 10.0}
PUBLISHED_TAU_END = {"gumbel_softmax": 0.1}


@dataclass(frozen=True, slots=True)
class SearchData:
    """The training images in two halves, and the table that scores a cell."""

    images: Halves
    table: CellTable


class ArchitectureSearch(Bilevel):
    """Maximise the accuracy of the cell that a search on CIFAR-10 comes to, among 15,625 cells trained in full.

    A network holds five operations on each of the six edges of a cell, and every pass through it draws one of
    them an edge, the same in all cells and for all images. A step moves the network's weights on a batch of
    the first half of the training images, by stochastic gradient descent with Nesterov momentum 0.9, weight
    decay 5e-4 and a learning rate that falls along a cosine to 0.001; then, on a batch of the second half and
    for a new draw, the logits of the operations, by the run's optimiser. The published code halves the images
    by a list, and moves learning rate and temperature with every epoch; here they move with every step, over
    the steps of the run.

    Evaluation takes the likeliest operation of every edge and looks the cell up: its accuracies in percent
    after full training in NATS-Bench, its `_rank` among all cells (1 is best), its number there (`cell`), its
    operations (`edge_0_1` and so on, numbers into none, skip_connect, nor_conv_1x1, nor_conv_3x3,
    avg_pool_3x3), the mean `entropy` of the edges in nats and the number of images that the weights are
    trained on. A search on `cifar10_prefix` exercises all of this and is no published result. Images of one's own
    are searched on exactly as those of CIFAR-10, and the table then tells what their cell is worth there.

    Source: Liu, Dong, Liu, Yu and Gao, "Bridging Discrete and Backpropagation: Straight-Through and Beyond",
    2023, arXiv 2304.08612, table 4; Dong, Liu, Musial and Gabrys, "NATS-Bench: Benchmarking NAS Algorithms for
    Architecture Topology and Size", 2021, arXiv 2009.00437; Dong and Yang, "Searching for a Robust Neural
    Architecture in Four GPU Hours", 2019, arXiv 1910.04465.
    """

    name: Literal["architecture_search"] = "architecture_search"
    dataset: ColourImageName = Field(
        default="cifar10",
        description="The images: all of CIFAR-10, the first 2,500 training images alone, or those of a file in the "
        "data folder, such as own/birds.npz with train_images [N, 3, 32, 32] or [N, 32, 32, 3] and train_labels [N].",
    )
    classes: int = Field(
        default=CLASSES, ge=2, le=1000, description="Classes of the images, labels from 0 on; others for own files."
    )
    cells: int = Field(default=5, ge=1, le=20, description="N, the cells of each of the three stages.")
    channels: int = Field(default=16, ge=1, le=256, description="Channels of the first stage; each next has twice.")
    batch: int = Field(default=64, ge=2, le=10000, description="Images for the weights, and for the architecture.")
    evaluation: Literal["full", "sparse"] = Field(
        default="full",
        description="Operations evaluated for the architecture's gradient: all; or only the one drawn, as if the "
        "others gave ones (GDAS).",
    )
    weights_lr: float = Field(default=0.025, gt=0, le=100, description="First learning rate of the weights.")
    tau_end: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Temperature at the end, reached linearly from the estimator's; by default 0.1 for "
        "gumbel_softmax, as published, and for others the same throughout.",
    )

    needs_pathwise: ClassVar[bool] = True
    objective: ClassVar[str] = "cifar10_valid"
    direction: ClassVar[Literal["min", "max"]] = "max"

    @property
    def default_steps(self) -> int:
        """200 epochs; a user's file is not read for this, but counted as if it were as large as CIFAR-10."""
        images = published(self.dataset)
        half = (images.training_images if images else USUAL_IMAGES) // 2
        return EPOCHS * max(1, half // self.batch)

    @property
    def draws_shape(self) -> None:
        return None

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        if published(self.dataset) and self.classes != CLASSES:
            message = "classes should be {expected} for '{dataset}', but is {classes}; leave it out"
            found = {"expected": CLASSES, "dataset": self.dataset, "classes": self.classes}
            raise PydanticCustomError("inconsistent", message, {"pointer": "classes", **found})
        return self

    def datasets(self) -> tuple[Readable, ...]:
        return published(self.dataset) or ColourImageFile(name=self.dataset), NatsBench()

    def recommended(self, estimator: str) -> Recommendation:
        """The published settings, which are those of GDAS for all estimators; of them only its own tau is known."""
        tau = PUBLISHED_TAU.get(estimator)
        return Recommendation(tau=tau, optimizer="adam", lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def refusal(self, estimator: Estimator) -> str | None:
        images = published(self.dataset)
        if images and self.batch > (half := images.training_images // 2):
            return (
                f"a batch of {self.batch} cannot be taken from the {half} images of a half of {self.dataset!r}; "
                f"choose a smaller batch"
            )
        if self.tau_end is None:
            return None
        if not hasattr(estimator, "tau"):
            return f"tau_end is {self.tau_end}, but estimator {estimator.name!r} has no temperature; leave tau_end out"
        try:
            type(estimator).model_validate(estimator.model_dump() | {"tau": self.tau_end})
        except ValidationError as error:
            return f"tau_end of {self.tau_end} is no temperature of {estimator.name!r}: {error.errors()[0]['msg']}"
        return None

    def model(self) -> nn.Module:
        """A `CellSearchNetwork`."""
        from reinmax_core.models.cell_search_network import CellSearchNetwork

        return CellSearchNetwork(self.channels, self.cells, self.classes, self.evaluation)

    def data(self, device: device, source: DataSource) -> SearchData:
        halves = searched_images.load(self.dataset, self.classes, self.batch, device, source)
        return SearchData(halves, NatsBench().load(source))

    def batches(self, data: SearchData, seed: int) -> Batches:
        from reinmax_core.halves import PairedBatches

        return PairedBatches(data.images, self.batch, seed)

    def outer_parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """The logits of the operations."""
        return [cast("CellSearchNetwork", model).architecture]

    def inner_optimizer(self, model: nn.Module) -> optim.Optimizer:
        """The published one of the network's weights."""
        from reinmax_core.optimizers import Sgd

        sgd = Sgd(lr=self.weights_lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
        return sgd.build(cast("CellSearchNetwork", model).weights())

    def inner_lr(self, done: float) -> float:
        # lr_end + (lr - lr_end) (1 + cos(pi t)) / 2
        end = min(LEAST_WEIGHTS_LR, self.weights_lr)
        return end + (self.weights_lr - end) * (1 + math.cos(math.pi * done)) / 2

    def tempered(self, estimator: Estimator, done: float) -> Estimator:
        end = PUBLISHED_TAU_END.get(estimator.name) if self.tau_end is None else self.tau_end
        if end is None:
            return estimator
        start: float = getattr(estimator, "tau")  # noqa: B009  (only some have it)
        return estimator.model_copy(update={"tau": start + (end - start) * done})

    def inner_loss(
        self, model: nn.Module, batch: BatchPair, estimator: Estimator, generator: Generator
    ) -> dict[str, Tensor]:
        """Cross-entropy in nats and accuracy on the batch for the weights, for a draw without a gradient."""
        network = cast("CellSearchNetwork", model)
        draws = estimator.sample(network.architecture.detach(), generator=generator)
        loss, accuracy = self._scores(network, batch.first, draws, generator)
        return {"inner_loss": loss, "inner_accuracy": accuracy}

    def loss(self, model: nn.Module, batch: BatchPair, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        """Cross-entropy in nats and accuracy on the batch for the architecture, for a draw that passes a gradient."""
        network = cast("CellSearchNetwork", model)
        draws = estimator.sample(network.architecture, generator=generator)
        with _fixed(network.weights()):
            loss, accuracy = self._scores(network, batch.second, draws, generator)
        return {"loss": loss, "accuracy": accuracy}

    def _scores(
        self, network: CellSearchNetwork, batch: Labelled, draws: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        from torch.nn.functional import cross_entropy

        from reinmax_core.augmentation import flipped_and_shifted

        changed = flipped_and_shifted(batch.images, generator).float()
        mean, deviation = (changed.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
        logits = network((changed - mean) / deviation, draws)
        accuracy = (logits.argmax(-1) == batch.labels).to(logits).mean()
        return cross_entropy(logits, batch.labels), accuracy

    def evaluate(
        self, model: nn.Module, data: SearchData, estimator: Estimator, generator: Generator
    ) -> dict[str, float]:
        """What the table says of the likeliest cell, and which cell that is."""
        from torch.distributions import Categorical

        architecture = cast("CellSearchNetwork", model).architecture
        cell = _likeliest(model)
        index = data.table.index(cell)
        entropy = Categorical(logits=architecture).entropy().mean().item()  # type: ignore[no-untyped-call]
        return {
            **data.table.accuracy(index),
            **{f"{column}_rank": float(rank) for column, rank in data.table.rank(index).items()},
            "cell": float(index),
            **{f"edge_{source}_{target}": float(k) for (source, target), k in zip(EDGES, cell, strict=True)},
            "entropy": entropy,
            "images": float(len(data.images.first.labels)),
        }

    def notes(self, model: nn.Module, data: SearchData) -> dict[str, str]:
        """`cell`: the likeliest one in the benchmark's notation; `images`: those that were searched on."""
        return {"cell": written(_likeliest(model)), "images": searched_images.described(self.dataset, data.images)}


def _likeliest(model: nn.Module) -> list[int]:
    """The number of the likeliest operation of every edge."""
    cell: list[int] = cast("CellSearchNetwork", model).architecture.argmax(-1).tolist()
    return cell


@contextmanager
def _fixed(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """What is computed inside passes no gradient to the parameters, and takes no time for one."""
    parameters = list(parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
