"""What tasks on images have in common: the images by name, figures of an autoencoder of them, and its pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Self, cast, final

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from reinmax_core.data.base import DataSource, Readable
from reinmax_core.data.image_file import PATTERN, ImageFile, checked_name
from reinmax_core.data.image_names import known_among, schema_of_names
from reinmax_core.data.images import ImageDataSet
from reinmax_core.estimators.base import Estimator
from reinmax_core.tasks.base import Task
from reinmax_core.value import discover

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from reinmax_core.models.autoencoder import Autoencoder

PUBLISHED_SHAPE: Final = (28, 28)
EVALUATION_ROWS: Final = 1000
BOUND_ROWS: Final = 5000
COLUMNS, RECONSTRUCTED_ROWS, SAMPLED_ROWS = 16, 4, 8


ImageName = Annotated[
    str,
    AfterValidator(known_among(ImageDataSet, checked_name)),
    WithJsonSchema(schema_of_names(ImageDataSet, PATTERN)),
]
Side = Annotated[int, Field(ge=1, le=1024)]
BoundSamples = Annotated[
    int,
    Field(ge=0, le=100_000, description="Draws of which the multi-sample test bound at the end is made; 0 for none."),
]
BoundImages = Annotated[
    int, Field(ge=1, le=10**6, description="Test images, the first so many, that the multi-sample bound is of.")
]


@dataclass(frozen=True, slots=True)
class Images:
    """Images on their device: grey levels 0 to 255 as bytes, a flattened image a row."""

    train: Tensor
    test: Tensor


class ImageTask(Task, ABC):
    """A task that learns a model of images, published ones or a user's own."""

    dataset: ImageName = Field(
        default="mnist",
        description="The images: a data set's name, or that of a file in the data folder, such as own/letters.npz "
        "with train_images and, unless a tenth is to be held out, test_images.",
    )
    image_shape: tuple[Side, Side] = Field(
        default=PUBLISHED_SHAPE,
        description="Height and width of an image in pixels; others than 28 x 28 for own files.",
    )

    @abstractmethod
    def pictures(self, model: nn.Module, data: Images, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        """What the model makes of images and of nothing: grey levels as bytes, [height, width], by name."""

    @abstractmethod
    def conclusion(
        self, model: nn.Module, data: Images, estimator: Estimator, generator: Generator
    ) -> dict[str, float]:
        """Metrics that take long, of the model that a run ends with; called without gradients."""

    @model_validator(mode="after")
    def _shape_fits(self) -> Self:
        if self.is_published and self.image_shape != PUBLISHED_SHAPE:
            height, width = self.image_shape
            message = "image_shape should be [28, 28] for '{dataset}', but is [{height}, {width}]; leave it out"
            found = {"pointer": "image_shape", "dataset": self.dataset, "height": height, "width": width}
            raise PydanticCustomError("inconsistent", message, found)
        return self

    @final
    @property
    def is_published(self) -> bool:
        """Whether the images are a published data set, not a user's file."""
        return self.dataset in discover(ImageDataSet)

    @final
    @property
    def pixels(self) -> int:
        """Of an image."""
        return self.image_shape[0] * self.image_shape[1]

    @final
    def datasets(self) -> tuple[Readable, ...]:
        return (discover(ImageDataSet)[self.dataset]() if self.is_published else ImageFile(name=self.dataset),)

    @final
    def notes(self, model: nn.Module, data: Images) -> dict[str, str]:
        """`images`: that they are a user's, and how many of them are for tests; nothing for published ones."""
        if self.is_published:
            return {}
        return {"images": f"the user's own file {self.dataset}, tested on {len(data.test):,} images"}

    @final
    def read(self, source: DataSource) -> Images:
        """The images on the CPU, in the order of the files.

        Raises:
            DataCorrupt: a published file is not the published one.
            DataUnavailable: a file is neither at hand nor to be had.
            ImagesUnfit: a user's file does not hold images of this shape.
        """
        import torch

        if self.is_published:
            found = discover(ImageDataSet)[self.dataset]().load(source)
            parts = found.train_images, found.test_images
        else:
            own = ImageFile(name=self.dataset).load(source, self.image_shape)
            parts = own.train, own.test
        train, test = (torch.tensor(part).flatten(1) for part in parts)
        return Images(train, test)


class ImageAutoencoding(ImageTask, ABC):
    """A variational auto-encoder of images: an `ImageTask` whose model is an `Autoencoder`."""

    @abstractmethod
    def seen(self, levels: Tensor, generator: Generator) -> Tensor:
        """What the model is shown, [images, pixels] in [0, 1], of grey levels as bytes."""

    @final
    def pictures(self, model: nn.Module, data: Images, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        """`reconstructions`: the first test images, rows of them over rows of their means given one draw each;
        `samples`: the means of images given draws from the prior.
        """
        parts = cast("Autoencoder", model)
        return {
            "reconstructions": self._reconstructions(parts, data, estimator, generator),
            "samples": self._samples(parts, generator),
        }

    def _reconstructions(self, model: Autoencoder, data: Images, estimator: Estimator, generator: Generator) -> Tensor:
        import torch

        images = self.seen(data.test[: RECONSTRUCTED_ROWS * COLUMNS], generator)
        draws = _drawn(model.logits(images), estimator, generator)
        pairs = zip(images.split(COLUMNS), model.decoded(draws).sigmoid().split(COLUMNS), strict=True)  # type: ignore[no-untyped-call]
        return self._picture([row for pair in pairs for row in pair], torch.zeros_like(images[:1]))

    def _samples(self, model: Autoencoder, generator: Generator) -> Tensor:
        from reinmax_core.categorical import one_hot_draws

        draws = one_hot_draws(model.prior_logits().softmax(-1), SAMPLED_ROWS * COLUMNS, generator)
        means = model.decoded(draws).sigmoid()
        return self._picture(list(means.split(COLUMNS)), means[:1] * 0)  # type: ignore[no-untyped-call]

    def _picture(self, rows: list[Tensor], empty: Tensor) -> Tensor:
        """Rows [up to COLUMNS, pixels] of values in [0, 1] as one picture of grey levels."""
        import torch

        whole = [torch.cat((row, *[empty] * (COLUMNS - len(row)))).view(-1, *self.image_shape) for row in rows]
        return torch.cat([torch.cat(list(row), 1) for row in whole]).mul(255).round().byte().cpu()

    @final
    def terms(self, model: Autoencoder, levels: Tensor, estimator: Estimator, generator: Generator) -> dict[str, float]:
        """Means over images in nats, at one draw of q each: `loss`, the negative lower bound, its terms
        `reconstruction` and `kl`, and `entropy`, that of q.
        """
        names, sums = ("reconstruction", "kl", "entropy"), [0.0, 0.0, 0.0]
        for images in self._seen(levels, EVALUATION_ROWS, generator):
            logits = model.logits(images)
            draws = _drawn(logits, estimator, generator)
            found = (model.reconstruction(images, draws), model.divergence(logits), model.entropy(logits))
            sums = [total + values.sum().item() for total, values in zip(sums, found, strict=True)]
        means = {name: total / len(levels) for name, total in zip(names, sums, strict=True)}
        return {"loss": means["reconstruction"] + means["kl"]} | means

    @final
    def bound(self, model: nn.Module, levels: Tensor, samples: int, generator: Generator) -> dict[str, float]:
        """`test_bound`: the mean over images of the negative bound from so many draws of q each; nothing for none."""
        from reinmax_core.categorical import one_hot_draws, probabilities

        if not samples:
            return {}
        parts, total = cast("Autoencoder", model), 0.0
        for images in self._seen(levels, max(1, BOUND_ROWS // samples), generator):
            logits = parts.logits(images)
            total += parts.bound(images, one_hot_draws(probabilities(logits), samples, generator), logits).sum().item()
        return {"test_bound": total / len(levels)}

    def _seen(self, levels: Tensor, rows: int, generator: Generator) -> Iterator[Tensor]:
        for part in levels.split(rows):  # type: ignore[no-untyped-call]
            yield self.seen(part, generator)


def _drawn(logits: Tensor, estimator: Estimator, generator: Generator) -> Tensor:
    """A draw of q for every image: the estimator's, unless it makes none; at the likeliest code there is no bound."""
    from reinmax_core import categorical

    if estimator.is_random:
        return estimator.sample(logits, generator=generator)
    return categorical.sample(logits, generator)


def of_test_images(found: dict[str, float]) -> dict[str, float]:
    """The figures under the names that those of test images have."""
    return {f"test_{name}": value for name, value in found.items()}
