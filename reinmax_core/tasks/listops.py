"""Values of nested expressions, read off trees that the model draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from reinmax_core.data.base import DataSet, DataSource
from reinmax_core.data.expressions import MOST_WORDS, Reading, encoded, plain, vocabulary
from reinmax_core.data.file import sha256_of
from reinmax_core.data.listops import Expressions
from reinmax_core.data.listops import Listops as ListopsDataSet
from reinmax_core.estimators.base import Estimator
from reinmax_core.schedules import Plateau
from reinmax_core.tasks.base import Batches, Recommendation, Task
from reinmax_core.tasks.size import too_large

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, nn

    from reinmax_core.buckets import Sequences
    from reinmax_core.models.gumbel_tree_lstm import GumbelTreeLstm

TRAINING_EXPRESSIONS = 77_477
"""Short enough ones of the training set drawn anew; of the published file, about as many."""

EPOCHS = 20
"""Of the published runs."""

LABELS = 11
"""The digits, after a symbol for unknown labels, which the published classifier has and nothing asks for."""

LEAVES: dict[Reading, int] = {"characters": 234, "words": MOST_WORDS - 1}
"""Of the longest training expression."""
GATES, MERGES_A_LEAF = 5, 3
"""Of a merge that is weighed; and how many are weighed a leaf: one at first, and two a merge that is made."""

EVALUATION_ENTRIES = 2**21
"""Entries of hidden states of the leaves whose trees are built at a time in an evaluation, about."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of the data set as numbers, on their device."""

    train: Sequences
    valid: Sequences
    test: Sequences
    origin: str
    """Where the training expressions come from, in words."""


class Listops(Task):
    """Classify expressions such as `[MAX 2 9 [MIN 4 7 ] 0 ]` by their value, with a Gumbel Tree-LSTM.

    The model is not told the structure: at every step it draws which two neighbouring nodes to merge. An
    epoch has 77,477 training expressions, those of less than 100 words; so have the validation (857 of
    1,000) and test sets (8,689 of 10,000). The training set is the published `listops/train_d20s.tsv` where a
    data folder has it, and otherwise drawn anew from the published process; the notes of a result say which.

    Source: Liu, Dong, Liu, Yu and Gao, "Bridging Discrete and Backpropagation: Straight-Through and
    Beyond", 2023, arXiv 2304.08612, table 1; settings from the authors' scripts; data: Nangia and Bowman,
    "ListOps: A Diagnostic Dataset for Latent Tree Learning", 2018, arXiv 1804.06028.
    """

    name: Literal["listops"] = "listops"
    tokens: Reading = Field(
        default="characters",
        description="What a leaf of the tree is: a character, spaces included, as in the published results, or a word.",
    )
    embedding: int = Field(default=300, ge=1, le=4096, description="Length of a token's vector.")
    hidden: int = Field(
        default=300, ge=1, le=4096, description="Length of a node's hidden state and of its cell state."
    )
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="Share of entries left out in training, in token vectors and classifier."
    )
    batch: int = Field(default=16, ge=1, le=10000, description="Expressions a step, of similar lengths.")

    needs_pathwise: ClassVar[bool] = True
    objective: ClassVar[str] = "valid_accuracy"
    direction: ClassVar[Literal["min", "max"]] = "max"

    @property
    def steps_per_epoch(self) -> int:
        return TRAINING_EXPRESSIONS // self.batch

    @property
    def default_steps(self) -> int:
        return EPOCHS * self.steps_per_epoch

    @property
    def draws_shape(self) -> None:
        return None

    def datasets(self) -> tuple[DataSet, ...]:
        return (ListopsDataSet(),)

    def recommended(self, estimator: str) -> Recommendation:
        """Temperatures other than that of ReinMax are not published; theirs stay as they are."""
        return Recommendation(
            tau=1.1 if estimator == "reinmax" else None,
            optimizer="radam",
            lr=7e-4,
            clip_norm=5.0,
            schedule=Plateau(factor=0.5, patience=4),
            evaluate_every=max(1, self.steps_per_epoch // 2),
        )

    def refusal(self, estimator: Estimator) -> str | None:
        trees = {"batch": self.batch, "hidden": self.hidden}
        return too_large("the gates of a batch's merges", trees, each=GATES * MERGES_A_LEAF * LEAVES[self.tokens])

    def model(self) -> GumbelTreeLstm:
        from reinmax_core.models.gumbel_tree_lstm import GumbelTreeLstm

        return GumbelTreeLstm(
            len(vocabulary(self.tokens)), LABELS, embedding=self.embedding, hidden=self.hidden, dropout=self.dropout
        )

    def data(self, device: device, source: DataSource) -> Splits:
        from reinmax_core.buckets import Sequences

        parts, origin = _parts(source, self.tokens, _own_training_file(source))
        train, valid, test = (Sequences(part.tokens.to(device), part.lengths, part.labels.to(device)) for part in parts)
        return Splits(train, valid, test, origin)

    def batches(self, data: Splits, seed: int) -> Batches:
        from reinmax_core.buckets import Bucketed

        return Bucketed(data.train, self.batch, seed)

    def loss(self, model: nn.Module, batch: Sequences, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        from torch.nn.functional import cross_entropy

        logits = model(batch.tokens.long(), batch.lengths.tolist(), estimator, generator)
        accuracy = (logits.detach().argmax(-1) == batch.labels).float().mean()
        return {"loss": cross_entropy(logits, batch.labels), "accuracy": accuracy}

    def evaluate(self, model: nn.Module, data: Splits, estimator: Estimator, generator: Generator) -> dict[str, float]:
        """Accuracies and cross-entropies in nats of the validation and the test set, for the likeliest merges."""
        metrics: dict[str, float] = {}
        for name, part in (("valid", data.valid), ("test", data.test)):
            accuracy, loss = _judged(model, part, EVALUATION_ENTRIES // self.hidden)
            metrics |= {f"{name}_accuracy": accuracy, f"{name}_loss": loss}
        return metrics

    def notes(self, model: nn.Module, data: Splits) -> dict[str, str]:
        """`training_set`: whether the published file was trained on or expressions drawn anew."""
        return {"training_set": data.origin}


def _judged(model: nn.Module, sequences: Sequences, most_tokens: int) -> tuple[float, float]:
    """Accuracy, and mean cross-entropy in nats, from so many tokens at a time."""
    from torch.nn.functional import cross_entropy

    right = loss = 0.0
    for part in sequences.parts(most_tokens):
        logits = model.likeliest(part.tokens.long(), part.lengths.tolist())  # type: ignore[operator]
        right += (logits.argmax(-1) == part.labels).sum().item()
        loss += cross_entropy(logits, part.labels, reduction="sum").item()
    return right / len(sequences), loss / len(sequences)


def _own_training_file(source: DataSource) -> str | None:
    """The SHA-256 of a user's training file, if a folder has one."""
    data_set = ListopsDataSet()
    own = data_set.own(data_set.files[0], source)
    return sha256_of(Path(own.path)) if own else None


@lru_cache(maxsize=2)
def _parts(source: DataSource, reading: Reading, own: str | None) -> tuple[tuple[Sequences, ...], str]:
    """Training, validation and test set on the CPU, to which nobody may write, and where the first comes from.

    `own` tells contents of a user's training file apart, which may come, change or go while a process lives.
    """
    data = ListopsDataSet().load(source)
    return tuple(_sequences(part, reading) for part in (data.train, data.valid, data.test)), data.origin


def _sequences(expressions: Expressions, reading: Reading) -> Sequences:
    import torch

    from reinmax_core.buckets import Sequences

    plainly = zip(map(plain, expressions.texts), expressions.labels, strict=True)
    texts, labels = zip(*((text, label) for text, label in plainly if len(text.split()) < MOST_WORDS), strict=True)
    tokens, lengths = (torch.from_numpy(array) for array in encoded(texts, reading))
    return Sequences(tokens, lengths, torch.tensor(labels) + 1)
