"""The vector quantiser: its terms against plain formulas, its gradient against enumeration, and real images."""

from __future__ import annotations

import copy
import math
from operator import attrgetter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from reinmax_core.data import DataSource
from reinmax_core.data.mnist import Mnist
from reinmax_core.models.vector_quantizer import VectorQuantizer, perplexity, usage


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quantizer(codes: int = 5, **settings: Any) -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(codes, 3, **settings).double()


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def squared_distances(module: VectorQuantizer, inputs: Tensor) -> Tensor:
    return (inputs.unsqueeze(-2) - module.codebook).square().sum(-1)


def posterior(module: VectorQuantizer, inputs: Tensor, scale: float) -> Tensor:
    """q(k | x), [..., codes], as the formula says."""
    weights = (-squared_distances(module, inputs) / (2 * scale**2)).exp()
    return weights / weights.sum(-1, keepdim=True)


@pytest.mark.parametrize(("settings", "scale"), [({"scale": 0.7}, 0.7), ({}, 3**0.25)])
def test_terms_are_those_of_the_formulas(settings: dict[str, Any], scale: float) -> None:
    module, inputs = quantizer(**settings), numbers(4, 6, 3)
    found, q = module(inputs, seeded()), posterior(module, inputs, scale)
    assert found.indices.shape == (4, 6)
    assert torch.equal(found.outputs, module.codebook[found.indices])
    torch.testing.assert_close(found.divergence, (q * (q * 5).log()).sum(-1))
    torch.testing.assert_close(found.distance, (q * squared_distances(module, inputs)).sum(-1))


@pytest.mark.parametrize("term", ["divergence", "distance"])
def test_terms_have_their_ordinary_gradients(term: str) -> None:
    """Against central differences."""
    module, inputs = quantizer(learn_scale=True), numbers(2, 3).requires_grad_()

    def value(inputs: Tensor, codebook: Tensor, log_scale: Tensor) -> Tensor:
        parameters = {"codebook": codebook, "log_scale": log_scale}
        total: Tensor = attrgetter(term)(torch.func.functional_call(module, parameters, (inputs,)))
        return total.sum()

    assert torch.autograd.gradcheck(value, (inputs, module.codebook, module.log_scale))


@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_codes_are_drawn_from_q_whatever_the_temperature(tau: float) -> None:
    module, inputs, count = quantizer(tau=tau), numbers(3), 20_000
    drawn = usage(module(inputs.expand(count, 3), seeded()).indices, 5)
    q = posterior(module, inputs, 3**0.25).detach()
    z = (drawn - q) / (q * (1 - q) / count).sqrt()
    assert z.abs().max() < 4


@pytest.mark.parametrize("codes", [2, 3])
def test_the_gradient_is_exact_for_a_linear_decoder_and_squared_error(codes: int) -> None:
    """Two positions, decoded together; the mean over all joint draws, each weighted by its probability."""
    module, inputs = quantizer(codes, learn_scale=True), numbers(2, 3).requires_grad_()
    decoder, target = numbers(6, 4, seed=1), numbers(4, seed=2)
    leaves = (inputs, module.codebook, module.log_scale)

    def loss(outputs: Tensor) -> Tensor:
        return (outputs.flatten(-2) @ decoder - target).square().sum(-1)

    quantized = module(inputs.expand(500, 2, 3), seeded())
    log_weights = -squared_distances(module, inputs) / (2 * (2 * module.log_scale).exp())
    first, second = log_weights.softmax(-1)
    joint = (first.unsqueeze(-1) * second).flatten()

    number = quantized.indices[:, 0] * codes + quantized.indices[:, 1]
    rows = [int((number == state).nonzero()[0]) for state in range(codes**2)]
    estimate = (joint.detach() * loss(quantized.outputs[rows])).sum()
    exact = (joint * loss(module.lookup(quantized.indices[rows]))).sum()
    assert estimate.item() == pytest.approx(exact.item())
    found, expected = torch.autograd.grad(estimate, leaves), torch.autograd.grad(exact, leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        assert other.abs().max() > 1e-2


def test_images_keep_their_layout() -> None:
    images = numbers(2, 3, 4, 5)
    first, last = quantizer(dim=1)(images, seeded()), quantizer()(images.movedim(1, -1), seeded())
    assert first.indices.shape == first.divergence.shape == first.distance.shape == (2, 4, 5)
    assert torch.equal(first.outputs, last.outputs.movedim(-1, 1))
    assert torch.equal(quantizer(dim=1).lookup(first.indices), first.outputs)
    assert torch.equal(quantizer(dim=-3)(images, seeded()).outputs, first.outputs)


def test_in_evaluation_the_nearest_code_is_chosen() -> None:
    module, inputs = quantizer().eval(), numbers(50, 3)
    nearest = squared_distances(module, inputs).argmin(-1)
    assert torch.equal(module(inputs).indices, nearest)
    drawing = quantizer(sample_in_eval=True).eval()
    assert not torch.equal(drawing(inputs, seeded()).indices, nearest)


def test_half_precision_is_that_of_the_inputs_alone() -> None:
    module = quantizer().float()
    inputs = numbers(50, 3).bfloat16()
    expected = module(inputs.float(), seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(inputs, seeded())
    assert found.outputs.dtype == torch.bfloat16
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.divergence, expected.divergence)
    assert torch.equal(found.outputs, expected.outputs.bfloat16())


@pytest.mark.parametrize(
    ("codes", "width", "settings", "message"),
    [
        (0, 3, {}, "found codes=0, width=3"),
        (4, 0, {}, "found codes=4, width=0"),
        (4, 3, {"scale": 0.0}, r"scale above 0 and finite, found 0\.0"),
        (4, 3, {"scale": math.nan}, "found nan"),
        (4, 3, {"estimator": "rloo"}, "draws of 'rloo'"),
    ],
)
def test_settings_that_make_no_quantiser_are_refused(
    codes: int, width: int, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        VectorQuantizer(codes, width, **settings)


@pytest.mark.parametrize(("dim", "shape"), [(-1, (2, 3, 4)), (2, (2, 3)), (1, (2, 4, 3))])
def test_inputs_of_another_width_are_refused(dim: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"axis {dim} of length 3, found shape \({shape[0]}, .*pass dim="):
        quantizer(dim=dim)(numbers(*shape))


def test_usage_counts_and_perplexity_measures() -> None:
    shares = usage(torch.tensor([[0, 2], [2, 0]]), 4)
    assert shares.tolist() == [0.5, 0, 0.5, 0]
    assert perplexity(shares).item() == pytest.approx(2)
    assert perplexity(torch.full((2, 7), 1 / 7)).tolist() == pytest.approx([7, 7])
    assert usage(torch.tensor([], dtype=torch.int64), 3).tolist() == [0, 0, 0]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_it_compiles_whole_and_copies() -> None:
    torch._dynamo.reset()
    module, inputs = quantizer(), numbers(6, 3)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for other in (compiled, copy.deepcopy(module)):
        outcomes = []
        for run in (module, other):
            leaf = inputs.clone().requires_grad_()
            torch.manual_seed(1)
            found = run(leaf)
            total = found.outputs.square().sum() + found.divergence.sum() + found.distance.sum()
            outcomes.append((*found, torch.autograd.grad(total, leaf)[0]))
        for one, two in zip(*outcomes, strict=True):
            torch.testing.assert_close(one, two)


class Autoencoder(nn.Module):
    """Digits [batch, 1, 28, 28] through 7 x 7 codes and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 32, 4, stride=4), nn.ReLU(), nn.Conv2d(32, 8, 1))
        self.quantizer = VectorQuantizer(codes=32, width=8, dim=1)
        self.decoder = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, stride=4))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quantized = self.quantizer(self.encoder(images))
        return self.decoder(quantized.outputs), quantized.divergence.mean(), quantized.indices


def test_an_autoencoder_of_digits_learns_its_codes() -> None:
    digits = Mnist().load(DataSource.from_environment())
    train, test = (torch.tensor(part[:3200]).unsqueeze(1) / 255 for part in (digits.train_images, digits.test_images))
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for batch in train.split(32) * 3:  # type: ignore[no-untyped-call]
        images, divergence, _ = model(batch)
        loss = mse_loss(images, batch) + 3e-3 * divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        images, _, indices = model.eval()(test)
    mean_digit = (test - train.mean(0)).square().mean()
    assert mse_loss(images, test) < mean_digit / 2.5, "codes should tell much of which digit it is, and where"
    shares = usage(indices, 32)
    assert (shares > 1e-3).sum() > 5, "most codes fell out of use"
    assert perplexity(shares) > 2.5, "most of a digit's image is black, and needs one code"
