"""A variational auto-encoder of binary images whose latents are binary: two hundred of them as published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from reinmax_core.data.base import DataSet, DataSource
from reinmax_core.data.images import ImageDataSet
from reinmax_core.estimators.base import Estimator
from reinmax_core.tasks.base import Batches, Recommendation, Task
from reinmax_core.value import discover

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, nn

    from reinmax_core.estimators.base import Cost
    from reinmax_core.models.bernoulli_autoencoder import BernoulliAutoencoder

PIXELS = 28 * 28
EVALUATION_ROWS = 1000
BOUND_ROWS = 5000
LEAST_SAMPLES = 2

Name = Literal["mnist", "fashion_mnist", "omniglot"]

TRAIN: dict[Name, int] = {"mnist": 50_000, "fashion_mnist": 50_000, "omniglot": 23_000}
"""Images that are trained on; the others of the training file are for validation."""

BASELINES: dict[Name, Recommendation] = {
    "mnist": Recommendation(optimizer="adam", lr=1e-3),
    "fashion_mnist": Recommendation(optimizer="adam", lr=3e-4),
    "omniglot": Recommendation(optimizer="adam", lr=1e-3),
}
REINMAX = Recommendation(optimizer="radam", lr=3e-4, tau=1.1)
REINMAX_OMNIGLOT_3 = Recommendation(optimizer="radam", lr=5e-4, tau=1.2)


@dataclass(frozen=True, slots=True)
class Images:
    """A data set on its device: grey levels 0 to 255 as bytes, a flattened image a row."""

    train: Tensor
    validation: Tensor
    test: Tensor


class BernoulliVae(Task):
    """Minimise the negative evidence lower bound of binary images under `latents` independent binary variables.

    Encoder 784-`hidden`-`hidden`-`latents` and the decoder the same way back, leaky rectifiers between
    layers. The defaults are those with which score-function estimators were compared: pixels drawn from
    the grey levels whenever an image is read, a uniform prior, and the whole bound, its Kullback-Leibler term
    included, estimated from `samples` draws. The published ReinMax runs are binarisation "static", prior
    "learned", kl "analytic", parameterisation "paper"; under them the training loss goes lower, so that the
    published rows of the two are not on one footing. (Their script pairs prior and posterior of different
    latents; here they are paired as they should be.)

    With kl "sampled", log q(b|x) in the cost of a draw b is constant in the parameters of q: the mean of its
    derivative is 0, as probabilities add up to 1, so nothing is lost, whichever the estimator.

    Training images are the first 50,000 of MNIST and Fashion-MNIST and the first 23,000 of Omniglot, the rest
    of the training file is for validation.

    Source: Shi, Zhou, Hwang, Titsias and Mackey, "Gradient Estimation with Discrete Stein Operators", 2022,
    arXiv 2202.09497; Liu, Dong, Liu, Yu and Gao, "Bridging Discrete and Backpropagation: Straight-Through and
    Beyond", 2023, arXiv 2304.08612, table 6; settings from the authors' scripts.
    """

    name: Literal["bernoulli_vae"] = "bernoulli_vae"
    dataset: Name = Field(default="mnist", description="The images.")
    latents: int = Field(default=200, ge=1, le=65536, description="L, the number of latent variables.")
    hidden: int = Field(default=200, ge=1, le=65536, description="Width of the hidden layers.")
    batch: int = Field(default=100, ge=1, le=10000, description="Images a step.")
    samples: int | None = Field(
        default=None,
        ge=1,
        le=10000,
        description="K, cost evaluations an image and step, shared out among as many repeats of an estimator as fit; "
        "by default the fewest from 2 on that the estimator can take.",
    )
    binarisation: Literal["dynamic", "static"] = Field(
        default="dynamic",
        description="Pixels are drawn from grey levels whenever an image is read, or once: of the seed for training, "
        "the same for every run for validation and test.",
    )
    prior: Literal["fixed", "learned"] = Field(
        default="fixed", description="Uniform, or with logits that are learned beside the model."
    )
    kl: Literal["sampled", "analytic"] = Field(
        default="sampled",
        description="The Kullback-Leibler term of the training loss: part of the cost of the draws, or in closed form.",
    )
    parameterisation: Literal["logit", "paper"] = Field(
        default="logit", description="Logits of a latent's two classes: (eta, 0), or (r, 1 - r) as in ReinMax's script."
    )
    bound_samples: int = Field(
        default=100, ge=1, le=100_000, description="Draws of which the multi-sample test bound is made."
    )
    bound_images: int = Field(
        default=1000, ge=1, le=10**6, description="Test images, the first so many, that the multi-sample bound is of."
    )
    gradient_batches: int = Field(
        default=32, ge=2, le=10**6, description="Batches from which an evaluation estimates the gradient's variance."
    )

    default_steps: ClassVar[int] = 1_000_000
    objective: ClassVar[str] = "test_loss"

    @property
    def steps_per_epoch(self) -> int:
        return TRAIN[self.dataset] // self.batch

    @property
    def draws_shape(self) -> tuple[int, int]:
        return self.latents, 2

    def datasets(self) -> tuple[DataSet, ...]:
        return (discover(ImageDataSet)[self.dataset](),)

    def recommended(self, estimator: str) -> Recommendation:
        if estimator != "reinmax":
            return BASELINES[self.dataset]
        return REINMAX_OMNIGLOT_3 if (self.dataset, self.samples) == ("omniglot", 3) else REINMAX

    def refusal(self, estimator: Estimator) -> str | None:
        limit = getattr(estimator, "max_states", None)
        if limit is not None and 2**self.latents > limit:
            return (
                f"{estimator.name!r} would enumerate 2^{self.latents} states for every image, more than its "
                f"max_states of {limit}; choose fewer latents, or another estimator"
            )
        taken = estimator.evaluations
        if self.samples is not None and self.samples % taken:
            own = "; or give the estimator samples that divide the task's" if hasattr(estimator, "samples") else ""
            return (
                f"samples is {self.samples} cost evaluations an image, but {estimator.name!r} takes {taken} at a "
                f"time; choose samples {taken}, {2 * taken} or another multiple of {taken}, or leave them out{own}"
            )
        return None

    def repeats(self, estimator: Estimator) -> int:
        """How many independent estimates of an image's gradient are averaged in a step."""
        return (self.samples or max(LEAST_SAMPLES, estimator.evaluations)) // estimator.evaluations

    def model(self) -> nn.Module:
        """A `BernoulliAutoencoder`."""
        from reinmax_core.models.bernoulli_autoencoder import BernoulliAutoencoder

        return BernoulliAutoencoder(
            PIXELS,
            self.hidden,
            self.latents,
            learned_prior=self.prior == "learned",
            parameterisation=self.parameterisation,
        )

    def data(self, device: device, source: DataSource) -> Images:
        import torch

        from reinmax_core.batches import binarised_once

        images = discover(ImageDataSet)[self.dataset]().load(source)
        levels, test = (torch.tensor(part).flatten(1) for part in (images.train_images, images.test_images))
        train, validation = levels[: TRAIN[self.dataset]], levels[TRAIN[self.dataset] :]
        if self.binarisation == "static":
            validation, test = binarised_once(validation, 0), binarised_once(test, 0)
        return Images(train.to(device), validation.to(device), test.to(device))

    def batches(self, data: Images, seed: int) -> Batches:
        from reinmax_core.batches import Binarised

        return Binarised(data.train, self.batch, seed, once=self.binarisation == "static")

    def loss(self, model: nn.Module, batch: Tensor, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        parts = cast("BernoulliAutoencoder", model)
        logits, repeats = parts.logits(batch), self.repeats(estimator)
        rows = logits.expand(repeats, *logits.shape) if repeats > 1 else logits
        loss = estimator.expectation(rows, self.cost(parts, batch, logits), generator=generator).mean()
        return {"loss": loss if self.kl == "sampled" else loss + parts.divergence(logits).mean()}

    def cost(self, model: BernoulliAutoencoder, images: Tensor, logits: Tensor) -> Cost:
        """What a draw costs: the negative logarithm of p(x|b), and of p(b) / q(b|x) too if that is sampled."""
        if self.kl == "analytic":
            return lambda draws: model.reconstruction(images, draws)
        # d/dtheta E_q[f + log q] = E_q[(f + log q) d log q/dtheta] + E_q[d log q/dtheta], and the last term is 0
        constant = logits.detach()
        return lambda draws: model.reconstruction(images, draws) + model.log_ratio(draws, constant)

    def evaluate(self, model: nn.Module, data: Images, estimator: Estimator, generator: Generator) -> dict[str, float]:
        """Figures of the test and validation images in nats an image, and the variance of the training gradient.

        `test_loss` is the negative bound at one draw an image with its Kullback-Leibler term in closed form,
        `test_bound` the one from `bound_samples` draws by importance weighting, `test_entropy` that of q(b|x).
        `gradient_variance` is the mean, over the encoder's parameters, of the variance of the training
        loss's gradient at the model as it stands, over batches and draws.
        """
        parts = cast("BernoulliAutoencoder", model)
        reconstruction, divergence, entropy = self._terms(parts, data.test, estimator, generator)
        validation = self._terms(parts, data.validation, estimator, generator)
        return {
            "test_loss": reconstruction + divergence,
            "test_reconstruction": reconstruction,
            "test_kl": divergence,
            "test_entropy": entropy,
            "test_bound": self._bound(parts, data.test[: self.bound_images], estimator, generator),
            "validation_loss": validation[0] + validation[1],
            "gradient_variance": self._gradient_variance(parts, data.train, estimator, generator),
        }

    def _terms(
        self, model: BernoulliAutoencoder, levels: Tensor, estimator: Estimator, generator: Generator
    ) -> tuple[float, float, float]:
        """Means over images of reconstruction term, Kullback-Leibler term and entropy."""
        sums = [0.0, 0.0, 0.0]
        for images in _drawn(levels, EVALUATION_ROWS, generator):
            logits = model.logits(images)
            draws = estimator.sample(logits, generator=generator)
            found = (model.reconstruction(images, draws), model.divergence(logits), model.entropy(logits))
            sums = [total + values.sum().item() for total, values in zip(sums, found, strict=True)]
        reconstruction, divergence, entropy = (total / len(levels) for total in sums)
        return reconstruction, divergence, entropy

    def _bound(self, model: BernoulliAutoencoder, levels: Tensor, estimator: Estimator, generator: Generator) -> float:
        """Mean over images of the multi-sample bound."""
        total = 0.0
        for images in _drawn(levels, max(1, BOUND_ROWS // self.bound_samples), generator):
            logits = model.logits(images)
            draws = estimator.sample(logits.expand(self.bound_samples, *logits.shape), generator=generator)
            total += model.bound(images, draws, logits).sum().item()
        return total / len(levels)

    def _gradient_variance(
        self, model: BernoulliAutoencoder, levels: Tensor, estimator: Estimator, generator: Generator
    ) -> float:
        import torch

        gradients = self._gradients(model, levels, estimator, generator)
        mean = next(gradients)
        squares = torch.zeros_like(mean)
        for count, gradient in enumerate(gradients, start=2):
            deviation = gradient - mean
            mean += deviation / count
            squares += deviation * (gradient - mean)
        return squares.mean().item() / (self.gradient_batches - 1)

    def _gradients(
        self, model: BernoulliAutoencoder, levels: Tensor, estimator: Estimator, generator: Generator
    ) -> Iterator[Tensor]:
        """The gradient of the loss for the encoder's parameters, all in a row, for batches of images drawn anew."""
        import torch

        from reinmax_core.batches import binarised

        for _ in range(self.gradient_batches):
            rows = torch.randint(len(levels), (self.batch,), generator=generator, device=levels.device)
            with torch.enable_grad():
                loss = self.loss(model, binarised(levels[rows], generator), estimator, generator)["loss"]
                slopes = torch.autograd.grad(loss, tuple(model.encoder.parameters()))
            yield torch.cat([slope.flatten() for slope in slopes])


def _drawn(levels: Tensor, rows: int, generator: Generator) -> Iterator[Tensor]:
    """Images of 0 and 1, [rows, pixels] at a time, for grey levels as bytes."""
    from reinmax_core.batches import binarised

    for part in levels.split(rows):  # type: ignore[no-untyped-call]
        yield binarised(part, generator)
