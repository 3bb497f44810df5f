"""A sentence encoder that builds a binary tree over its tokens by drawing which neighbours to merge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from reinmax_core.estimators.base import Estimator
from reinmax_core.models.leaf_lstm import memory
from reinmax_core.models.tree_merges import Cell, merged

EMBEDDING_DEVIATION, QUERY_DEVIATION, OUTPUT_BOUND = 0.01, 0.01, 0.002


@final
class GumbelTreeLstm(nn.Module):
    """Classifies token sequences by the root of a tree whose merges are drawn through an estimator.

    A long short-term memory reads the embedded tokens; its states are the leaves. Then neighbours are merged
    until one node is left: each pair is composed to a node (h, c), h is scored with a query, and one pair is
    drawn from the softmax of the scores. A classifier with one hidden layer reads the root.

    Args:
        vocabulary: number of tokens.
        classes: number of labels.
        embedding: length of a token's vector.
        hidden: length of h and of c.
        dropout: share of entries of token vectors and classifier inputs that training leaves out.

    Source: Choi, Yoo and Lee, "Learning to Compose Task-Specific Tree Structures", 2018,
    https://arxiv.org/abs/1707.02786; initial values as in the scripts of Liu, Dong, Liu, Yu and Gao,
    "Bridging Discrete and Backpropagation: Straight-Through and Beyond", 2023,
    https://arxiv.org/abs/2304.08612.
    """

    def __init__(self, vocabulary: int, classes: int, *, embedding: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.leaf = nn.Linear(embedding, 4 * hidden)
        self.recurrent = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.composition = nn.Linear(2 * hidden, 5 * hidden)
        self.query = nn.Parameter(torch.empty(hidden))
        self.hidden = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, classes)
        self._initialise(hidden)

    @torch.no_grad()
    def _initialise(self, hidden: int) -> None:
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_DEVIATION)
        nn.init.kaiming_normal_(self.leaf.weight)
        nn.init.orthogonal_(self.recurrent)
        nn.init.orthogonal_(self.composition.weight)
        nn.init.normal_(self.query, std=QUERY_DEVIATION)
        nn.init.kaiming_normal_(self.hidden.weight)
        nn.init.uniform_(self.output.weight, -OUTPUT_BOUND, OUTPUT_BOUND)
        for layer in (self.leaf, self.composition, self.hidden, self.output):
            nn.init.zeros_(layer.bias)
        self.leaf.bias[hidden : 2 * hidden] = 1  # an open forget gate

    def forward(self, tokens: Tensor, lengths: Sequence[int], estimator: Estimator, generator: Generator) -> Tensor:
        """Logits [trees, classes] of training: merges are drawn, and entries dropped.

        Args:
            tokens: their numbers, [trees, places]; those beyond a tree's length are not read.
            lengths: tokens of each tree, in falling order.
            estimator: how the gradient passes the merges that are drawn.
            generator: the source of randomness.
        """
        leaves = self.leaves(self._dropped(self.embedding(tokens.t()), generator))
        roots = merged(
            leaves, lengths, self.cell, lambda scores, mask: estimator.sample(scores, mask=mask, generator=generator)
        )
        hidden = self.hidden(self._dropped(roots, generator)).relu()
        logits: Tensor = self.output(self._dropped(hidden, generator))
        return logits

    def likeliest(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """Logits [trees, classes] of evaluation: the merge of the best score is taken, and nothing dropped."""
        roots = merged(self.leaves(self.embedding(tokens.t())), lengths, self.cell, best)
        logits: Tensor = self.output(self.hidden(roots).relu())
        return logits

    @property
    def cell(self) -> Cell:
        """The parameters of merges."""
        return Cell(self.composition.weight, self.composition.bias, self.query)

    def leaves(self, embedded: Tensor) -> Tensor:
        """Hidden and cell states [places, trees, 2 hidden] of embedded tokens [places, trees, embedding]."""
        return memory(linear(embedded, self.leaf.weight, self.leaf.bias), self.recurrent)

    def _dropped(self, entries: Tensor, generator: Generator) -> Tensor:
        if self.dropout == 0:
            return entries
        kept = torch.empty_like(entries).bernoulli_(1 - self.dropout, generator=generator)
        return entries * kept.div_(1 - self.dropout)


def best(scores: Tensor, mask: Tensor) -> Tensor:
    """One-hot rows of the largest scores where the mask is True, the first among equals."""
    chosen = scores.masked_fill(~mask, -math.inf).argmax(-1, keepdim=True)
    return torch.zeros_like(scores).scatter_(-1, chosen, 1)
