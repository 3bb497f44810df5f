"""A variational auto-encoder of binary images whose latents are binary: two hundred of them as published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from reinmax_core.data.base import DataSource
from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.tasks import images
from reinmax_core.tasks.base import Batches, Recommendation, Replicable
from reinmax_core.tasks.images import BoundImages, BoundSamples, ImageAutoencoding, of_test_images
from reinmax_core.tasks.size import too_large

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, nn

    from reinmax_core.estimators.base import Cost
    from reinmax_core.models.bernoulli_autoencoder import BernoulliAutoencoder

LEAST_SAMPLES = 2

TRAIN = {"mnist": 50_000, "fashion_mnist": 50_000, "omniglot": 23_000}
"""Images that are trained on; the others of the training file are for validation."""
OWN_VALIDATION = 10
"""One in so many training images of a user's file is for validation."""

AT_ONCE = {"arms": 3, "double_cv": 2, "rloo": 2, "rodeo": 2}
"""Estimators that take any number of draws at once, from 2 on, with how many they take by default."""
LEARNING_AS_THE_ENCODER = ("rebar", "relax")
"""Estimators whose control variates were published with the encoder's learning rate."""

REINMAX = Recommendation(optimizer="radam", lr=3e-4, tau=1.1)
REINMAX_OMNIGLOT_3 = Recommendation(optimizer="radam", lr=5e-4, tau=1.2)


@dataclass(frozen=True, slots=True)
class Images(images.Images):
    """Images of all three parts; those with pixels that are drawn once have the levels 0 and 255 alone."""

    validation: Tensor


class BernoulliVae(ImageAutoencoding, Replicable):
    """Minimise the negative evidence lower bound of binary images under `latents` independent binary variables.

    Encoder 784-`hidden`-`hidden`-`latents` and the decoder the same way back, leaky rectifiers between
    layers. The defaults are those with which score-function estimators were compared: pixels drawn from
    the grey levels whenever an image is read, a uniform prior, and the whole bound, its Kullback-Leibler term
    included, estimated from `samples` draws. The published ReinMax runs are binarisation "static", prior
    "paper", kl "analytic", parameterisation "paper"; under them the training loss goes lower, so that the
    published rows of the two are not on one footing. Their script pairs prior and posterior of different
    latents, so that the divergence is too large once the prior is learned; prior "learned" pairs them rightly.

    With kl "sampled", log q(b|x) in the cost of a draw b is constant in the parameters of q: the mean of its
    derivative is 0, as probabilities add up to 1, so nothing is lost, whichever the estimator.

    Training images are the first 50,000 of MNIST and Fashion-MNIST, the first 23,000 of Omniglot and the first nine
    tenths of a user's; the rest of the training images is for validation.

    Source: Shi, Zhou, Hwang, Titsias and Mackey, "Gradient Estimation with Discrete Stein Operators", 2022,
    arXiv 2202.09497; Liu, Dong, Liu, Yu and Gao, "Bridging Discrete and Backpropagation: Straight-Through and
    Beyond", 2023, arXiv 2304.08612, table 6; settings from the authors' scripts.
    """

    name: Literal["bernoulli_vae"] = "bernoulli_vae"
    latents: int = Field(default=200, ge=1, le=65536, description="L, the number of latent variables.")
    hidden: int = Field(default=200, ge=1, le=65536, description="Width of the hidden layers.")
    batch: int = Field(default=100, ge=1, le=10000, description="Images a step.")
    samples: int | None = Field(
        default=None,
        ge=1,
        le=10000,
        description="K, cost evaluations an image and step: the draws that the estimator takes at once if it takes any "
        "number, or shared out among as many repeats of it as fit; by default the fewest published, 2 or else 3.",
    )
    binarisation: Literal["dynamic", "static"] = Field(
        default="dynamic",
        description="Pixels are drawn from grey levels whenever an image is read, or once, the same for every run.",
    )
    prior: Literal["fixed", "learned", "paper"] = Field(
        default="fixed",
        description="Uniform, or with logits that are learned beside the model: each latent its own, or paired with "
        "other latents and classes as in ReinMax's script, for which the divergence is none once they move.",
    )
    kl: Literal["sampled", "analytic"] = Field(
        default="sampled",
        description="The Kullback-Leibler term of the training loss: part of the cost of the draws, or in closed form.",
    )
    parameterisation: Literal["logit", "paper"] = Field(
        default="logit", description="Logits of a latent's two classes: (eta, 0), or (r, 1 - r) as in ReinMax's script."
    )
    bound_samples: BoundSamples = 100
    bound_images: BoundImages = 1000
    gradient_batches: int = Field(
        default=32, ge=2, le=10**6, description="Batches from which an evaluation estimates the gradient's variance."
    )

    objective: ClassVar[str] = "test_loss"

    @property
    def default_steps(self) -> int:
        """As many for every data set and batch, as published: the length is given in steps, not in epochs."""
        return 1_000_000

    @property
    def draws_shape(self) -> tuple[int, int]:
        return self.latents, 2

    def recommended(self, estimator: str) -> Recommendation:
        if estimator == "reinmax":
            return REINMAX_OMNIGLOT_3 if (self.dataset, self.samples) == ("omniglot", 3) else REINMAX
        lr = 3e-4 if self.dataset == "fashion_mnist" else 1e-3
        settings: dict[str, int | float] = {}
        if estimator in LEARNING_AS_THE_ENCODER:
            settings["parts_lr"] = lr
        if estimator in AT_ONCE:
            settings["samples"] = max(LEAST_SAMPLES, self.samples or AT_ONCE[estimator])
        return Recommendation(optimizer="adam", lr=lr, estimator=settings)

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
        return self._refusal_of_sizes(self.repeats(estimator) * taken)

    def _refusal_of_sizes(self, samples: int) -> str | None:
        """Why nothing can hold layers of this size, or so many draws of as many images; None if something can."""
        rows, hidden = {"batch": self.batch, "samples": samples}, {"hidden": self.hidden}
        pixels, code = {"pixels of image_shape": self.pixels}, {"latents": self.latents}
        return (
            too_large("a layer between hidden units", hidden, each=self.hidden)
            or too_large("the layer that images enter", pixels | hidden)
            or too_large("the layer that draws enter", code | hidden)
            or too_large("the draws of a step", rows | code, each=2)
            or too_large("the hidden units of a step", rows | hidden)
            or too_large("the images that a step decodes", rows | pixels)
        )

    def repeats(self, estimator: Estimator) -> int:
        """How many independent estimates of an image's gradient are averaged in a step."""
        return (self.samples or max(LEAST_SAMPLES, estimator.evaluations)) // estimator.evaluations

    def model(self) -> nn.Module:
        """A `BernoulliAutoencoder`."""
        from reinmax_core.models.bernoulli_autoencoder import BernoulliAutoencoder

        return BernoulliAutoencoder(
            self.pixels,
            self.hidden,
            self.latents,
            prior=self.prior,
            parameterisation=self.parameterisation,
        )

    def data(self, device: device, source: DataSource) -> Images:
        from reinmax_core.batches import binarised_once

        found = self.read(source)
        count, test = self._trained_on(len(found.train)), found.test
        train, validation = found.train[:count], found.train[count:]
        if self.binarisation == "static":
            # What is trained on is drawn of other random numbers than what the model is judged by.
            train, validation, test = binarised_once(train, 1), binarised_once(validation, 0), binarised_once(test, 0)
        return Images(train=train.to(device), validation=validation.to(device), test=test.to(device))

    def _trained_on(self, count: int) -> int:
        """How many of that many training images are trained on."""
        return TRAIN[self.dataset] if self.is_published else count - max(1, count // OWN_VALIDATION)

    def batches(self, data: Images, seed: int) -> Batches:
        from reinmax_core.batches import Binarised

        return Binarised(data.train, self.batch, seed, drawn=self.binarisation == "static")

    def seen(self, levels: Tensor, generator: Generator) -> Tensor:
        """Pixels of 0 and 1 that are drawn from the grey levels."""
        from reinmax_core.batches import binarised

        return binarised(levels, generator)

    def loss(self, model: nn.Module, batch: Tensor, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        parts = cast("BernoulliAutoencoder", model)
        logits = parts.logits(batch)
        cost = self.cost(parts, batch, logits)
        values = estimator.expectation(self._repeated(logits, estimator), cost, generator=generator)
        return self._loss(values, parts, logits)

    def _repeated(self, logits: Tensor, estimator: Estimator) -> Tensor:
        """Logits for each estimate of an image's gradient, [repeats, images, ...], or [images, ...] for one alone."""
        repeats = self.repeats(estimator)
        return logits.expand(repeats, *logits.shape) if repeats > 1 else logits

    def _loss(self, values: Tensor, model: BernoulliAutoencoder, logits: Tensor) -> dict[str, Tensor]:
        loss = values.mean()
        return {"loss": loss if self.kl == "sampled" else loss + model.divergence(logits).mean()}

    def packs(self, estimator: Estimator) -> bool:
        """With any estimator that passes a gradient through a draw, under a uniform prior."""
        return isinstance(estimator, Pathwise) and self.prior == "fixed"

    def losses(
        self,
        model: nn.Module,
        batches: Sequence[Tensor],
        estimators: Sequence[Estimator],
        generators: Sequence[Generator],
    ) -> list[dict[str, Tensor]]:
        import torch

        parts = cast("BernoulliAutoencoder", model)
        logits = parts.logits(torch.stack(tuple(batches))).unbind()
        each = zip(estimators, logits, generators, strict=True)
        draws = [estimator.sample(self._repeated(own, estimator), generator=source) for estimator, own, source in each]
        # Repeats of an image are rows of the products as images are.
        pixels = parts.decoded(torch.stack(draws).flatten(1, -3)).unbind()
        return [
            self._loss(self._values(parts, seen, drawn, shown, own), parts, own)
            for seen, drawn, shown, own in zip(batches, draws, pixels, logits, strict=True)
        ]

    def _values(
        self, model: BernoulliAutoencoder, seen: Tensor, draws: Tensor, pixels: Tensor, logits: Tensor
    ) -> Tensor:
        """What draws cost that were decoded to these logits of pixels, see `cost`."""
        reconstruction = model.cross_entropy(seen, pixels.view(*draws.shape[:-2], self.pixels))
        return reconstruction if self.kl == "analytic" else reconstruction + model.log_ratio(draws, logits.detach())

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
        `test_entropy` the entropy of q(b|x).
        `gradient_variance` is the mean, over the encoder's parameters, of the variance of the training
        loss's gradient at the model as it stands, over batches and draws.
        """
        parts = cast("BernoulliAutoencoder", model)
        terms = self.terms(parts, data.test, estimator, generator)
        validation = self.terms(parts, data.validation, estimator, generator)
        return of_test_images(terms) | {
            "validation_loss": validation["loss"],
            "gradient_variance": self._gradient_variance(parts, data.train, estimator, generator),
        }

    def conclusion(
        self, model: nn.Module, data: images.Images, estimator: Estimator, generator: Generator
    ) -> dict[str, float]:
        """`test_bound`, the negative bound from `bound_samples` draws by importance weighting, of `bound_images`."""
        return self.bound(model, data.test[: self.bound_images], self.bound_samples, generator)

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

        for _ in range(self.gradient_batches):
            rows = torch.randint(len(levels), (self.batch,), generator=generator, device=levels.device)
            with torch.enable_grad():
                loss = self.loss(model, self.seen(levels[rows], generator), estimator, generator)["loss"]
                slopes = torch.autograd.grad(loss, tuple(model.encoder.parameters()))
            yield torch.cat([slope.flatten() for slope in slopes])
