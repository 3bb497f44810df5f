"""Sequences on their way to becoming trees, every composition of neighbours computed once.

Nodes stay at the place of their leftmost leaf; a merged pair's right place is given up. Trees are ordered by
falling length, so that at every step those that still have something to merge come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Choose = Callable[[Tensor, Tensor], Tensor]
"""One-hot choices [trees, places] for scores and a mask of that shape, differentiable in the scores."""


class Cell(NamedTuple):
    """Parameters of the composition of two nodes and of its score."""

    weight: Tensor
    """[5 size, 2 size]: rows of input gate, left and right forget gate, output gate, update; columns left, right."""
    bias: Tensor
    """[5 size]"""
    query: Tensor
    """[size]"""


class Step(NamedTuple):
    """What one merge looked at and changed, each [trees with a merge]."""

    places: Tensor
    """Places of the left neighbour, the two that merge and the right neighbour, [4, trees]."""
    pairs: Tensor
    """Numbers of the pairs that those of them begin which ended, [3, trees]."""
    node: Tensor
    """Number of the node that stood at the place of the merge."""
    scores: Tensor | None
    """Scores [trees with a choice, places] as leaves of a graph that ends in `draws`; None if nothing was drawn."""
    draws: Tensor | None


def gates(values: Tensor) -> tuple[Tensor, ...]:
    """Input gate, left and right forget gate, output gate and update, of [..., 5 size]."""
    return values.chunk(5, -1)


def plan(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """For each step the trees with a merge, and those with a choice, which the last merge of a tree is not.

    Raises:
        ValueError: the lengths are not in falling order, or one is below 1.
    """
    if list(lengths) != sorted(lengths, reverse=True) or (lengths and lengths[-1] < 1):
        raise ValueError(f"expected lengths of at least 1 in falling order, found {list(lengths)}; sort the trees")
    # at_least[k]: trees of k leaves or more, which are those that step k - 2 merges
    at_least = torch.tensor(lengths, dtype=torch.long).bincount().flip(0).cumsum(0).flip(0).tolist()
    return at_least[2:], [*at_least[3:], 0][: len(at_least[2:])]


class Forest:
    """Sequences of nodes on their way to becoming trees.

    Nodes and pairs are numbered: node 0 is an empty one beyond the ends, 1 to L are the leaves, L + 1 + p is
    the composition of pair p. The first L pairs begin at the places 0 to L - 1, pairs L + 2t and L + 2t + 1 are
    those to the left and the right of what step t merges.

    Args:
        leaves: hidden and cell states of the leaves, [places, trees, 2 size].
        lengths: leaves of each tree, in falling order.
        cell: the composition.
        learning: whether a `Descent` will follow, which needs the gates of all compositions.
    """

    def __init__(self, leaves: Tensor, lengths: Sequence[int], cell: Cell, *, learning: bool) -> None:
        self.merging, self.choosing = plan(lengths)
        self.count, self.trees, width = leaves.shape
        self.size, count, trees = width // 2, self.count, self.trees
        self.learning = learning
        self.pairs = count + 2 * sum(trees > 0 for trees in self.choosing)
        self.weight, self.bias, self.query = cell
        # [h_l, h_r] W^T = h_l W_l^T + h_r W_r^T, so that a node's two shares are computed once
        self.shares_weight = torch.cat(self.weight.chunk(2, 1)).t().contiguous()
        forget = self.bias.new_zeros(5, self.size)
        forget[1:3] = 1
        self.shares_bias = torch.cat((self.bias + forget.flatten(), torch.zeros_like(self.bias)))
        self.nodes = leaves.new_empty(1 + count + self.pairs, trees, width)
        self.nodes[0], self.nodes[1 : count + 1], self.nodes[2 * count] = 0, leaves, 0
        self.gates = leaves.new_empty(self.pairs if learning else count + 1, trees, 5 * self.size)
        self.gates[count - 1] = 0
        self.shares = leaves.new_empty(count + 1, trees, 10 * self.size)
        self.shares[count] = 0
        self._connect(torch.tensor(lengths, device=leaves.device))
        self._compose_leaves()

    def _connect(self, lengths: Tensor) -> None:
        """Places [trees, count + 1]; the last one stands for what is beyond either end."""
        count, trees = self.count, self.trees
        place = torch.arange(count + 1, device=lengths.device).expand(trees, -1)
        self.node_at = (place + 1).contiguous()
        self.node_at[:, count] = 0
        self.pair_at = place.clamp(max=count - 1).contiguous()
        last = lengths.unsqueeze(1) - 1
        self.after = torch.where(place < last, place + 1, count)
        self.before = torch.where(place > 0, place - 1, count)
        self.before[:, count] = count
        self.open = place < last
        self.beneath = torch.zeros(2, self.pairs, trees, dtype=torch.long, device=lengths.device)
        self.beneath[:, : count - 1] = torch.stack((self.node_at[:, : count - 1].t(), self.node_at[:, 1:count].t()))
        self.scores = self.nodes.new_zeros(trees, count + 1)
        self.row = torch.arange(trees, device=lengths.device)

    def _compose_leaves(self) -> None:
        count = self.count
        hidden = self.nodes[1 : count + 1, :, : self.size].reshape(-1, self.size)
        torch.addmm(self.shares_bias, hidden, self.shares_weight, out=self.shares[:count].view(-1, 10 * self.size))
        if count > 1:
            left, right = self.shares.chunk(2, -1)
            states = self.nodes[1 : count + 1, :, self.size :]
            self._compose(0, left[: count - 1], right[1:count], states[:-1], states[1:])
            found = self.nodes[count + 1 : 2 * count, :, : self.size]
            self.scores[:, : count - 1] = (found @ self.scaled_query).t()

    @property
    def scaled_query(self) -> Tensor:
        """What the product of a hidden state with is its score."""
        return self.query / math.sqrt(self.size)

    def _compose(self, first: int, left: Tensor, right: Tensor, left_state: Tensor, right_state: Tensor) -> Tensor:
        """Composes pairs from `first` on, from shares and cell states [pairs, trees, ...]; their scores."""
        pairs, trees = left.shape[:2]
        gates_from = first if self.learning else 0
        gates_of_all = self.gates[gates_from : gates_from + pairs]
        nodes_of_all = self.nodes[1 + self.count + first : 1 + self.count + first + pairs]
        if trees < self.trees:
            gates_of_all[:, trees:], nodes_of_all[:, trees:] = 0, 0
        gated, node = torch.add(left, right, out=gates_of_all[:, :trees]), nodes_of_all[:, :trees]
        gated[..., : 4 * self.size].sigmoid_()
        gated[..., 4 * self.size :].tanh_()
        i, f_left, f_right, o, u = gates(gated)
        # c = c_l f_l + c_r f_r + u i;  h = o tanh(c)
        state = (left_state * f_left).addcmul_(right_state, f_right).addcmul_(u, i)
        node[..., self.size :] = state
        torch.mul(o, state.tanh_(), out=node[..., : self.size])
        return node[..., : self.size] @ self.scaled_query

    def at(self, pool: Tensor, number: Tensor) -> Tensor:
        """Rows of a pool [numbers, trees, ...], a number for each of the first trees, [..., trees]."""
        trees = number.shape[-1]
        flat = (number * self.trees + self.row[:trees]).flatten()
        return pool.flatten(0, 1).index_select(0, flat).view(*number.shape, pool.shape[-1])

    def place(self, table: Tensor, places: Tensor) -> Tensor:
        """Entries of a table [trees, places] at places [..., trees]."""
        return table[self.row[: places.shape[-1]], places]

    def merge(self, step: int, choose: Choose) -> Step:
        """Merges a pair of every tree that has one left; what it drew can be differentiated if `learning`."""
        trees, choosing, row = self.merging[step], self.choosing[step], self.row[: self.merging[step]]
        scores = draws = None
        # The leftmost place is never given up, so the last pair of a tree begins there.
        left = row.new_zeros(trees)
        if choosing:
            scores = self.scores[:choosing, : self.count].clone().requires_grad_(self.learning)
            with torch.set_grad_enabled(self.learning):
                draws = choose(scores, self.open[:choosing, : self.count])
            left[:choosing] = draws.detach().argmax(-1)
        right, previous = self.after[row, left], self.before[row, left]
        following = self.after[row, right]
        places = torch.stack((previous, left, right, following))
        done = Step(places, self.place(self.pair_at, places[:3]), self.node_at[row, left], scores, draws)
        self._put(step, done)
        return done

    def _put(self, step: int, done: Step) -> None:
        """Puts the chosen composition where its left part was, and composes it with its two neighbours."""
        previous, left, right, following = done.places
        trees, pair = left.shape[0], self.count + 2 * step
        row = self.row[:trees]
        node = done.pairs[1] + self.count + 1
        self.node_at[row, left] = node
        self.after[row, left] = following
        self.before[row, following] = left
        self.open[row, left] = self.open[row, right]
        self.open[row, right] = False
        if self.choosing[step] == 0:
            return
        self.pair_at[row, previous], self.pair_at[row, left] = pair, pair + 1
        state = self.at(self.nodes, node)
        shares = torch.addmm(self.shares_bias, state[:, : self.size], self.shares_weight)
        self.shares[left, row] = shares
        own_left, own_right = shares.chunk(2, -1)
        neighbours = self.at(self.shares, done.places[::3])
        lefts = torch.stack((neighbours[0, :, : 5 * self.size], own_left))
        rights = torch.stack((own_right, neighbours[1, :, 5 * self.size :]))
        outer = self.place(self.node_at, done.places[::3])
        self.beneath[0, pair : pair + 2, :trees] = torch.stack((outer[0], node))
        self.beneath[1, pair : pair + 2, :trees] = torch.stack((node, outer[1]))
        around, own = self.at(self.nodes, outer)[..., self.size :], state[:, self.size :]
        scores = self._compose(pair, lefts, rights, torch.stack((around[0], own)), torch.stack((own, around[1])))
        self.scores[row, previous], self.scores[row, left] = scores.unbind()

    def undo(self, done: Step) -> None:
        """Brings what is where to what it was before a merge."""
        previous, left, right, following = done.places
        row = self.row[: left.shape[0]]
        self.node_at[row, left] = done.node
        self.pair_at[row, previous], self.pair_at[row, left] = done.pairs[0], done.pairs[1]
        self.after[row, left] = right
        self.before[row, following] = right
        self.open[row, left] = True
        self.open[row, right] = following < self.count

    def roots(self) -> Tensor:
        """Hidden states of the nodes at the leftmost places, [trees, size]."""
        return self.at(self.nodes, self.node_at[:, 0])[:, : self.size]
