"""The study of gradients at a model in training: how far an estimator is from the exact gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from pydantic import AfterValidator, Field, ValidationError

from reinmax_core.data.base import DataSource
from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.estimators.from_costs import Learned
from reinmax_core.tasks.base import Batches, Recommendation
from reinmax_core.tasks.categorical_vae import CategoricalVae
from reinmax_core.tasks.images import Images, ImageTask
from reinmax_core.tasks.size import too_large
from reinmax_core.value import one_of

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, nn

    from reinmax_core.diagnostics import Figure, Quality
    from reinmax_core.models.autoencoder import Autoencoder

EPOCHS = 50
MAX_STATES = 16384
FIGURES_BY_TEMPERATURE = ("relative_bias", "relative_bias_corrected", "relative_std", "cosine")


def _distinct(temperatures: tuple[float, ...]) -> tuple[float, ...]:
    repeated = next((tau for tau in temperatures if temperatures.count(tau) > 1), None)
    if repeated is not None:
        raise ValueError(f"each temperature should stand there once, but {repeated} is repeated; leave one out")
    return temperatures


Temperatures = Annotated[tuple[Annotated[float, Field(gt=0, le=1000)], ...], AfterValidator(_distinct)]


class GradientQuality(ImageTask):
    """Bias, spread and cosine of an estimator's gradient at snapshots of a categorical VAE in training.

    The VAE is trained with `trained_with`, so its snapshots depend on the seed alone, whichever estimator is
    examined. At every evaluation the examined one's gradient of the reconstruction term with respect to
    the encoder's logits, on the first `images` training images, is compared with the sum over all states:
    of the whole gradient, and image by image as the mean over images (`image_`). An estimator that is a
    function of the draw is enumerated where there are no more states than `draws`; other figures have
    standard errors (`_error`), see `reinmax_core.diagnostics.quality`. Learned parts of the examined
    estimator learn beside the model.

    The study of temperatures: at every snapshot the estimator is examined again with each of `temperatures`
    for its tau, all else equal, so that one training gives curves over tau: `relative_bias_tau_0.5` and so on,
    for `relative_bias`, `relative_bias_corrected` (without what noise adds, which is most where tau is small),
    `relative_std`, `cosine` and the same by image. All are given the random numbers that the examination at
    the estimator's own tau has, whose figures stay what they are, and each takes as long. An estimator that
    learns its temperature is refused. How the final loss depends on tau is for runs of `categorical_vae`.

    Source: the studies of bias and variance and of the temperature in Liu, Dong, Liu, Yu and Gao, "Bridging
    Discrete and Backpropagation: Straight-Through and Beyond", 2023, arXiv 2304.08612; settings from the code of
    "Beyond ReinMax", 2026, arXiv 2603.08257, which takes 512 draws.
    """

    name: Literal["gradient_quality"] = "gradient_quality"
    categories: int = Field(default=8, ge=2, le=MAX_STATES, description="C, the classes of a latent variable.")
    latents: int = Field(default=4, ge=1, le=14, description="L, the number of latent variables.")
    batch: int = Field(default=100, ge=1, le=10000, description="Images a training step.")
    images: int = Field(default=100, ge=1, le=1000, description="Images on which gradients are compared.")
    draws: int = Field(
        default=1024,
        ge=4,
        le=10**6,
        description="Draws that an estimator's mean and spread are estimated from, or states that may be enumerated.",
    )
    trained_with: Annotated[
        one_of(Pathwise),  # type: ignore[valid-type]
        Field(description="The estimator that the model is trained with, whichever one is examined."),
    ] = "reinmax"
    temperatures: Temperatures = Field(
        default=(),
        max_length=50,
        description="Further temperatures at which the estimator is examined at every snapshot.",
    )

    objective: ClassVar[str] = "relative_bias"

    @property
    def vae(self) -> CategoricalVae:
        """The task that the snapshots are taken of."""
        return CategoricalVae(
            dataset=self.dataset,
            image_shape=self.image_shape,
            categories=self.categories,
            latents=self.latents,
            batch=self.batch,
            bound_samples=0,
        )

    @property
    def default_steps(self) -> int:
        return self.vae.steps_of(EPOCHS)

    @property
    def draws_shape(self) -> tuple[int, int]:
        return self.latents, self.categories

    def recommended(self, estimator: str) -> Recommendation:
        return Recommendation(tau=1.0, optimizer="adam", lr=5e-4)

    def refusal(self, estimator: Estimator) -> str | None:
        if self.categories**self.latents > MAX_STATES:
            return (
                f"the exact gradient is a sum over all states of the latents, here {self.categories}^{self.latents}, "
                f"and at most {MAX_STATES} are summed; choose fewer categories or latents"
            )
        if self.temperatures and (objection := self._refusal_of_temperatures(estimator)):
            return objection
        # of the exact gradient, in double precision
        states = {"categories^latents": self.categories**self.latents, "pixels of image_shape": self.pixels}
        return self.vae.refusal(self.trained_with) or too_large("the images of all states", states, each=2)

    def _refusal_of_temperatures(self, estimator: Estimator) -> str | None:
        if not hasattr(estimator, "tau"):
            return f"temperatures are given, but estimator {estimator.name!r} has none; leave temperatures out"
        if isinstance(estimator, Learned):
            return (
                f"temperatures are given, but estimator {estimator.name!r} learns its own, which its tau is but the "
                f"start of; leave temperatures out"
            )
        for tau in self.temperatures:
            try:
                _at(tau, estimator)
            except ValidationError as error:
                return f"{tau} in temperatures is no temperature of {estimator.name!r}: {error.errors()[0]['msg']}"
        return None

    def model(self) -> nn.Module:
        """That of a `CategoricalVae`."""
        return self.vae.model()

    def data(self, device: device, source: DataSource) -> Images:
        return self.vae.data(device, source)

    def batches(self, data: Images, seed: int) -> Batches:
        return self.vae.batches(data, seed)

    def loss(self, model: nn.Module, batch: Tensor, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        idle = self._learning(model, batch, estimator, generator) if isinstance(estimator, Learned) else 0.0
        losses = self.vae.loss(model, batch, self.trained_with, generator)
        return losses | {"loss": losses["loss"] + idle}

    def _learning(self, model: nn.Module, batch: Tensor, estimator: Learned, generator: Generator) -> Tensor:
        """Zero, whose derivative leaves in the estimator's parts what they learn from, and nothing in the model.

        Draws are made from a copy of the generator, so that those that train the model stay what they are.
        """
        return 0 * self.vae.loss(model, batch, estimator, _copy(generator))["loss"]

    def evaluate(self, model: nn.Module, data: Images, estimator: Estimator, generator: Generator) -> dict[str, float]:
        """Figures of the estimator's gradient, and the loss of the test images as a `CategoricalVae` has it."""
        test = self.vae.evaluate(model, data, self.trained_with, generator)
        examined = (estimator, *(_at(tau, estimator) for tau in self.temperatures))
        found, *others = self.qualities(model, data.train[: self.images], examined, generator)
        metrics = _with_errors(found)
        for tau, other in zip(self.temperatures, others, strict=True):
            metrics |= _at_temperature(other, tau)
        # Where the whole gradient is 0 nothing can be relative to it; that is no fault of the training.
        return {name: value for name, value in metrics.items() if value == value} | test

    def conclusion(
        self, model: nn.Module, data: Images, estimator: Estimator, generator: Generator
    ) -> dict[str, float]:
        """Nothing: what is studied are gradients."""
        return {}

    def pictures(self, model: nn.Module, data: Images, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        """Those of a `CategoricalVae`."""
        return self.vae.pictures(model, data, self.trained_with, generator)

    def qualities(
        self, model: nn.Module, images: Tensor, estimators: Sequence[Estimator], generator: Generator
    ) -> tuple[Quality, ...]:
        """What each estimator's gradient is worth at the logits of images [images, pixels], levels 0 to 255.

        The first estimator takes random numbers from the generator, and the others the same ones: what differs
        between them is not luck, and what the generator gives later does not depend on how many they are.
        """
        from reinmax_core import diagnostics

        parts, pixels = cast("Autoencoder", model), images.float() / 255
        logits = parts.logits(pixels).detach()
        exact = self.exact_gradient(model, pixels, logits)
        sources = [generator, *(_copy(generator) for _ in estimators[1:])]
        return tuple(
            diagnostics.quality(
                estimator,
                logits,
                lambda draws: parts.reconstruction(pixels, draws),
                exact=exact,
                draws=self.draws,
                generator=source,
                max_states=self.draws,
            )
            for estimator, source in zip(estimators, sources, strict=True)
        )

    def exact_gradient(self, model: nn.Module, images: Tensor, logits: Tensor) -> Tensor:
        """The gradient [images, latents, categories] of the sum over images of E[-log p(x|z)].

        The decoder sees every state once for all images, so this takes a small part of the time of `Exact`.

        Args:
            model: the VAE.
            images: [images, pixels], in [0, 1], of the type of the model's parameters.
            logits: those of q(z|x), [images, latents, categories].
        """
        import torch

        leaf = logits.detach().cpu().double().requires_grad_()
        table = self._costs(model, images).unflatten(-1, [self.categories] * self.latents)  # type: ignore[no-untyped-call]
        with torch.enable_grad():
            expected = table
            for probs in leaf.softmax(-1).unbind(-2):
                # sum_c p_c f(c, ...): the first of the latents that are left is summed out
                expected = torch.einsum("ic...,ic->i...", expected, probs)
            gradient: Tensor = torch.autograd.grad(expected.sum(), leaf)[0]
        return gradient

    def _costs(self, model: nn.Module, images: Tensor) -> Tensor:
        """-log p(x|z) of every image under every state, [images, states], in double precision on the CPU."""
        import torch
        from torch.nn.functional import softplus

        numbers = torch.cartesian_prod(*[torch.arange(self.categories)] * self.latents).view(-1, self.latents)
        states = torch.eye(self.categories)[numbers].flatten(-2).to(images)
        with torch.no_grad():
            pixels = model.get_submodule("decoder")(states).cpu().double()
        # -log p(x|z) = sum over pixels of log(1 + exp a) - x a, where the decoder gives a
        costs: Tensor = softplus(pixels, threshold=40).sum(-1) - images.cpu().double() @ pixels.T
        return costs


def _at(tau: float, estimator: Estimator) -> Estimator:
    """The estimator with that temperature.

    Raises:
        ValidationError: it has no such temperature.
    """
    return type(estimator).model_validate(estimator.model_dump() | {"tau": tau})


def _copy(generator: Generator) -> Generator:
    import torch

    copy = torch.Generator(generator.device)
    copy.set_state(generator.get_state())
    return copy


def _figures(found: Quality) -> dict[str, Figure]:
    """Every figure by name."""
    return {
        f"{prefix}{field.name}": getattr(figures, field.name)
        for prefix, figures in (("", found.whole), ("image_", found.rows))
        for field in fields(figures)
    }


def _with_errors(found: Quality) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, figure in _figures(found).items():
        metrics |= {name: figure.value, f"{name}_error": figure.error}
    return metrics


def _at_temperature(found: Quality, tau: float) -> dict[str, float]:
    """The main figures alone, as there may be many temperatures."""
    return {
        f"{name}_tau_{tau}": figure.value
        for name, figure in _figures(found).items()
        if name.removeprefix("image_") in FIGURES_BY_TEMPERATURE
    }
