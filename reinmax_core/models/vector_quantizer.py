"""Vector quantisation with random codes, learned through an estimator's gradient."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import embedding, linear

from reinmax_core.categorical import log_probabilities
from reinmax_core.estimators.base import Estimator
from reinmax_core.modules import CategoricalSample


class Quantized(NamedTuple):
    """What a `VectorQuantizer` makes of its inputs; [...] is their shape without the axis of their entries."""

    outputs: Tensor
    """The chosen codes' vectors, in the shape and dtype of the inputs; the gradient passes back through them."""
    indices: Tensor
    """The numbers of the chosen codes, int64, [...]."""
    divergence: Tensor
    """Kullback-Leibler divergence of q(code | input) from the uniform distribution in nats, 0 to log(codes), [...]."""
    distance: Tensor
    """Mean of the squared distance between an input and its code over q(code | input), [...]."""


@final
class VectorQuantizer(nn.Module):
    """Replaces each input vector by one of `codes` learned vectors, drawn with a probability that falls with distance.

    q(k | x) = softmax_k(-|x - e_k|^2 / (2 scale^2)) for an input x and code vectors e_k; one code is drawn
    from it for each input, and the output is that code's vector. The estimator carries the output's
    gradient to x and to all the e_k through q. In evaluation mode the nearest code is chosen, the
    quantiser of a VQ-VAE, unless `sample_in_eval` is set.

    A loss is what you want of the outputs plus, for instance, 0.001 times the mean `divergence` beside a mean
    squared error of pixels: the rate of the variational bound under a uniform prior, which keeps codes from
    falling out of use. A small share of the mean `distance` pulls inputs and codes towards each other, as
    commitment and codebook losses do where the gradient is copied past the choice; here neither is needed
    for learning. Both terms have their ordinary, exact gradient.

    With `ReinMax` and tau = 1 the gradient is unbiased for a squared error behind a linear decoder, and
    second-order accurate behind any other. A tau of the estimator shapes the gradient alone: codes are
    drawn from q whatever it is, as the theory of ReinMax demands, where a draw from softmax(logits / tau)
    would not fit the gradient. How random draws are is the matter of `scale`.

    Example:
        >>> import torch
        >>> from reinmax_core.models.vector_quantizer import VectorQuantizer
        >>> quantizer = VectorQuantizer(codes=64, width=16, dim=1)
        >>> features = torch.randn(8, 16, 7, 7, requires_grad=True)  # an encoder's, channels first
        >>> quantized = quantizer(features)
        >>> loss = quantized.outputs.square().mean() + 0.001 * quantized.divergence.mean()
        >>> loss.backward()
        >>> quantized.outputs.shape, quantized.indices.shape, features.grad.shape
        (torch.Size([8, 16, 7, 7]), torch.Size([8, 7, 7]), torch.Size([8, 16, 7, 7]))

    Args:
        codes: the number of code vectors.
        width: the length of a vector.
        estimator: how the gradient passes the choice; see `CategoricalSample`, which stands here as `sample`
            (`quantizer.sample.tau = 1.2` changes the temperature).
        tau: the estimator's temperature, instead of what the estimator has.
        scale: standard deviation of the Gaussian around a code, above 0. By default width^(1/4), at which
            logits of inputs of unit variance differ by about 1, whatever the width.
        learn_scale: whether `scale` is trained with the code vectors; give `divergence` a weight then, as nothing
            else may keep it from 0, where the choice is no longer random.
        dim: the axis of the vectors' entries: -1 for [..., width], 1 for images [batch, width, rows, columns].
        sample_in_eval: whether to draw in evaluation mode, too.

    Raises:
        ValueError: codes or width below 1, a scale not above 0, or an estimator that does not fit.

    Source: van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017,
    https://arxiv.org/abs/1711.00937; random codes with a uniform prior: Ramesh, Pavlov, Goh, Gray, Voss,
    Radford, Chen and Sutskever, "Zero-Shot Text-to-Image Generation", 2021, https://arxiv.org/abs/2102.12092;
    probabilities from distances: Takida, Shibuya, Liao, Lai, Ohmura, Uesaka, Murata, Takahashi, Kumakura and
    Mitsufuji, "SQ-VAE: Variational Bayes on Discrete Representation with Self-annealed Stochastic
    Quantization", 2022, https://arxiv.org/abs/2205.07547.
    """

    def __init__(
        self,
        codes: int,
        width: int,
        estimator: str | Estimator = "reinmax",
        *,
        tau: float | None = None,
        scale: float | None = None,
        learn_scale: bool = False,
        dim: int = -1,
        sample_in_eval: bool = False,
    ) -> None:
        super().__init__()
        scale = width**0.25 if scale is None else scale
        _check_settings(codes, width, scale)
        self.dim = dim
        self.codebook = nn.Parameter(torch.randn(codes, width))
        log_scale = torch.tensor(float(scale)).log()
        self.log_scale: Tensor
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)
        self.sample = CategoricalSample(estimator, tau=tau, sample_in_eval=sample_in_eval)

    def forward(self, inputs: Tensor, generator: Generator | None = None) -> Quantized:
        """A code for each vector of `inputs`, whose axis `dim` has length `width`.

        Computed in float32 at least, under autocast too: differences of distances need its digits.

        Args:
            inputs: floating-point numbers of any layout.
            generator: the source of randomness; torch's global one if None.

        Raises:
            ValueError: axis `dim` has another length, or the inputs are not finite.
        """
        vectors = self._vectors(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            codebook = self.codebook.to(vectors.dtype)
            # x . e - |e|^2 / 2 = (|x|^2 - |x - e|^2) / 2, and a softmax does not see |x|^2
            closeness = linear(vectors, codebook, codebook.square().sum(-1) / -2)
            logits = closeness / (2 * self.log_scale.to(vectors.dtype)).exp()
            draws = self.sample(logits, generator=generator)
            outputs = draws @ codebook
        log_q = log_probabilities(logits)
        q = log_q.exp()
        return Quantized(
            outputs=outputs.to(inputs.dtype).movedim(-1, self.dim),
            indices=draws.detach().argmax(-1),
            # sum_k q_k log q_k + log K
            divergence=(q * log_q).sum(-1) + math.log(len(codebook)),
            # sum_k q_k |x - e_k|^2
            distance=vectors.square().sum(-1) - 2 * (q * closeness).sum(-1),
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """The vectors of given codes [...], laid out as `outputs` are: what a decoder gets for codes from a prior."""
        vectors: Tensor = embedding(indices, self.codebook)
        return vectors.movedim(-1, self.dim)

    def extra_repr(self) -> str:
        """The settings that the parameters do not show."""
        codes, width = self.codebook.shape
        return f"codes={codes}, width={width}, dim={self.dim}, learn_scale={isinstance(self.log_scale, nn.Parameter)}"

    def _vectors(self, inputs: Tensor) -> Tensor:
        width = self.codebook.shape[1]
        if not -inputs.ndim <= self.dim < inputs.ndim or inputs.shape[self.dim] != width:
            raise ValueError(
                f"expected inputs with axis {self.dim} of length {width}, found shape {tuple(inputs.shape)}; "
                f"pass dim= as the axis of the vectors' entries, or width= as its length"
            )
        wide = torch.promote_types(torch.promote_types(inputs.dtype, self.codebook.dtype), torch.float32)
        return inputs.movedim(self.dim, -1).to(wide)


def usage(indices: Tensor, codes: int) -> Tensor:
    """The share of each of `codes` codes among `indices` of any shape: [codes], with sum 1; zeros if there are none."""
    return torch.bincount(indices.flatten(), minlength=codes) / max(indices.numel(), 1)


def perplexity(shares: Tensor) -> Tensor:
    """How many codes in equal use would be as diverse, exp(entropy): from 1 to the number of codes, [...].

    Args:
        shares: probabilities [..., codes], such as `usage` gives.
    """
    entropy: Tensor = torch.special.entr(shares).sum(-1)
    return entropy.exp()


def _check_settings(codes: int, width: int, scale: float) -> None:
    if codes < 1 or width < 1:
        raise ValueError(f"expected at least one code of at least one entry, found codes={codes}, width={width}")
    if not 0 < scale < math.inf:
        raise ValueError(f"expected a scale above 0 and finite, found {scale}; leave it out for width^(1/4)")
