"""Steps a second of the trainer beside the same loops written by hand around the PyPI package `reinmax`.

    python -m tests.benchmarks.bench_training [--rounds 7]

Both sides run in turns in one process with two threads; the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import torch
from reinmax import reinmax as published_reinmax

from reinmax_core import RunSpec, Trainer
from reinmax_core.data import DataSource
from reinmax_core.data.mnist import Mnist
from reinmax_core.tasks.listops import Listops


@dataclass(frozen=True)
class Comparison:
    """Two ways to take the same training steps, and how many to take at a time."""

    name: str
    wanted: float
    steps: int
    ours: Callable[[], Iterator[object]]
    theirs: Callable[[], Iterator[object]]


def polynomial_by_hand(batch: int = 256, latents: int = 128, c: float = 0.45, p: float = 2.0) -> Iterator[float]:
    theta = torch.nn.Parameter(torch.empty(latents, 2).uniform_(-0.01, 0.01))
    optimizer = torch.optim.Adam([theta], lr=1e-3)
    while True:
        logits = theta.expand(batch, latents, 2).contiguous()
        draws, _ = published_reinmax(logits, 1.0)
        loss = (draws[..., 0] - c).abs().pow(p).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def vae_by_hand(
    categories: int, latents: int, tau: float, optimizer_class: type[torch.optim.Optimizer]
) -> Iterator[float]:
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    code = categories * latents
    encoder = torch.nn.Sequential(linear(784, 512), relu(), linear(512, 256), relu(), linear(256, code))
    layers = (linear(code, 256), relu(), linear(256, 512), relu(), linear(512, 784), torch.nn.Sigmoid())
    decoder = torch.nn.Sequential(*layers)
    optimizer = optimizer_class([*encoder.parameters(), *decoder.parameters()], lr=5e-4)
    images = torch.tensor(Mnist().load(DataSource.from_environment()).train_images).flatten(1).float() / 255
    while True:
        for rows in torch.randperm(len(images)).split(100):
            x = images[rows]
            draws, q = published_reinmax(encoder(x).view(100, latents, categories), tau)
            pixels = decoder(draws.view(100, code))
            reconstruction = torch.nn.functional.binary_cross_entropy(pixels, x, reduction="sum") / 100
            kl = (q * (q * categories + 1e-10).log()).sum((-2, -1)).mean()
            loss = reconstruction + kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()


def bernoulli_vae_by_hand(latents: int = 200, hidden: int = 200, samples: int = 2) -> Iterator[float]:
    linear, leaky = torch.nn.Linear, torch.nn.LeakyReLU
    encoder = torch.nn.Sequential(
        linear(784, hidden), leaky(0.3), linear(hidden, hidden), leaky(0.3), linear(hidden, latents)
    )
    layers = (linear(latents, hidden), leaky(0.3), linear(hidden, hidden), leaky(0.3), linear(hidden, 784))
    decoder = torch.nn.Sequential(*layers, torch.nn.Sigmoid())
    optimizer = torch.optim.RAdam([*encoder.parameters(), *decoder.parameters()], lr=3e-4)
    images = torch.tensor(Mnist().load(DataSource.from_environment()).train_images).flatten(1).float() / 255
    while True:
        for rows in torch.randperm(50_000).split(100):
            x = torch.bernoulli(images[rows])
            r = encoder(x)
            logits = torch.stack((r, 1 - r), -1).repeat(samples, 1, 1)
            draws, q = published_reinmax(logits, 1.1)
            pixels = decoder(draws[..., 0])
            target = x.repeat(samples, 1)
            cross_entropy = torch.nn.functional.binary_cross_entropy(pixels, target, reduction="sum")
            kl = (q * (q * 2 + 1e-10).log()).sum((-2, -1)).mean()
            loss = cross_entropy / len(target) + kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()


class TreeByHand(torch.nn.Module):
    """A Gumbel tree-LSTM as the published scripts have it: every pair is composed anew at every step."""

    def __init__(self, size: int = 300) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(23, size)
        self.leaf = torch.nn.LSTMCell(size, size)
        self.composition = torch.nn.Linear(2 * size, 5 * size)
        self.query = torch.nn.Parameter(torch.randn(size) / 100)
        self.classifier = torch.nn.Sequential(
            torch.nn.Dropout(), torch.nn.Linear(size, size), torch.nn.ReLU(), torch.nn.Dropout()
        )
        self.output = torch.nn.Linear(size, 11)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        h, c = self.leaves(torch.nn.functional.dropout(self.embedding(tokens)))
        longest = tokens.shape[1]
        valid = torch.arange(longest) < lengths.unsqueeze(1)
        for step in range(longest - 1):
            new_h, new_c = self.composed(h, c)
            if step < longest - 2:
                scores = (new_h @ self.query / len(self.query) ** 0.5).masked_fill(~valid[:, step + 1 :], -torch.inf)
                scores = torch.where(valid[:, step + 1 : step + 2], scores, 0)
                draws, _ = published_reinmax(scores, 1.1)
                draws = draws.unsqueeze(-1)
                so_far = draws.cumsum(1)
                new_h = (1 - so_far) * h[:, :-1] + draws * new_h + (so_far - draws) * h[:, 1:]
                new_c = (1 - so_far) * c[:, :-1] + draws * new_c + (so_far - draws) * c[:, 1:]
            done = valid[:, step + 1, None, None]
            h, c = torch.where(done, new_h, h[:, :-1]), torch.where(done, new_c, c[:, :-1])
        logits: torch.Tensor = self.output(self.classifier(h[:, 0]))
        return logits

    def leaves(self, embedded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = []
        state = (embedded.new_zeros(len(embedded), len(self.query)),) * 2
        for inputs in embedded.unbind(1):
            state = self.leaf(inputs, state)
            states.append(state)
        h, c = (torch.stack(parts, 1) for parts in zip(*states, strict=True))
        return h, c

    def composed(self, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        i, left, right, u, o = self.composition(torch.cat((h[:, :-1], h[:, 1:]), -1)).chunk(5, -1)
        state = c[:, :-1] * (left + 1).sigmoid() + c[:, 1:] * (right + 1).sigmoid() + u.tanh() * i.sigmoid()
        return o.sigmoid() * state.tanh(), state


def listops_by_hand() -> Iterator[float]:
    task = Listops()
    batches = task.batches(task.data(torch.device("cpu"), DataSource.from_environment()), seed=0)
    model = TreeByHand()
    optimizer = torch.optim.RAdam(model.parameters(), lr=7e-4)
    for step in count():
        batch = batches[step]
        loss = torch.nn.functional.cross_entropy(model(batch.tokens.long(), batch.lengths), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        yield loss.item()


def trainer(**spec: object) -> Iterator[object]:
    known = {"estimator": "reinmax", "steps": 10**8, "evaluate_every": 10**9}
    return iter(Trainer(RunSpec.model_validate(known | spec)))


def comparisons() -> Iterator[Comparison]:
    polynomial = {"name": "polynomial", "batch": 256}
    vae = {"name": "categorical_vae", "categories": 10, "latents": 30}
    yield Comparison(
        "polynomial, L = 128, batch 256, Adam",
        5.0,
        400,
        lambda: trainer(task=polynomial, optimizer="adam", log_every=100),
        polynomial_by_hand,
    )
    yield Comparison(
        "categorical_vae 10x30, batch 100, RAdam",
        1.4,
        60,
        lambda: trainer(task=vae, log_every=100),
        lambda: vae_by_hand(10, 30, 1.3, torch.optim.RAdam),
    )
    yield Comparison(
        "bernoulli_vae 2x200, K = 2, batch 100, RAdam",
        1.5,
        60,
        lambda: trainer(task={"name": "bernoulli_vae", "samples": 2, "kl": "analytic"}, log_every=100),
        bernoulli_vae_by_hand,
    )
    yield Comparison(
        "listops, characters, batch 16, RAdam",
        4.0,
        8,
        lambda: trainer(task="listops", log_every=100),
        listops_by_hand,
    )


def rate(steps: Iterator[object], many: int) -> float:
    started = time.perf_counter()
    for _ in islice(steps, many):
        pass
    return many / (time.perf_counter() - started)


def measure(comparison: Comparison, rounds: int) -> str:
    ours, theirs = comparison.ours(), comparison.theirs()
    rate(ours, comparison.steps), rate(theirs, comparison.steps)
    pairs = [(rate(ours, comparison.steps), rate(theirs, comparison.steps)) for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    return f"| {comparison.name} | {a:.3g} | {b:.3g} | {ratio:.2f} | {comparison.wanted} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(2)
    print("| task | trainer, steps/s | by hand, steps/s | ratio, median of rounds | wanted |")
    print("|---|---:|---:|---:|---:|")
    for comparison in comparisons():
        print(measure(comparison, rounds), flush=True)


if __name__ == "__main__":
    main()
