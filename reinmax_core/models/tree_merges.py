"""Merging of sequences into trees, neighbour by neighbour, at a price that does not grow with what stays as it is.

The plain algorithm composes and scores all adjacent pairs at every step, merges the drawn one, and moves the
rest of the sequence along. Here every composition is computed once, when its pair becomes adjacent: two a step.
The same holds of its derivative. The gradient of a score with respect to the two nodes beneath it is one
fixed vector, however often the pair stands for election, so what reaches a node from scores is a sum of such
vectors, whose coefficients are all that a step changes. The gradient of a choice needs the products of those
sums with the node's surroundings; the products of the vectors are kept, and only those near a merge change.
Losses and gradients are those of the plain algorithm up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reinmax_core.models.forest import Cell, Choose, Forest, Step, gates


class Descent:
    """The gradient of trees on its way from the roots to the leaves and to the parameters.

    What arrives at the node at place x is base_x + c_x v_left(pair that begins at x) + c_y v_right(pair that
    ends there, and begins at y), with v the derivatives of scores and c sums of the scores' gradients since.

    Args:
        forest: the finished trees; taken apart on the way.
        roots: gradient of their hidden states, [trees, size].
    """

    def __init__(self, forest: Forest, roots: Tensor) -> None:
        self.forest, self.size = forest, forest.size
        count, trees = forest.count, forest.trees
        self.parts = forest.at(forest.nodes, forest.beneath)
        query = forest.scaled_query
        compositions = forest.nodes[count + 1 :]
        self.inward, left, right = self._through(forest.gates, compositions, self.parts[..., self.size :], query, None)
        hidden = self.inward @ forest.weight
        self.from_left = torch.cat((hidden[..., : self.size], left), -1)
        self.from_right = torch.cat((hidden[..., self.size :], right), -1)
        self.base = roots.new_zeros(count + 1, trees, 2 * self.size)
        self.base[0, :, : self.size] = roots
        self.coefficients = roots.new_zeros(trees, count + 1)
        self.products = roots.new_zeros(trees, count + 1, 3, 5)
        self.totals = roots.new_zeros(forest.pairs, trees)
        self.merged: list[tuple[Tensor, Tensor]] = []
        self.selection = torch.tensor(SELECTION, device=roots.device)

    def _through(
        self, gated: Tensor, node: Tensor, states: Tensor, hidden: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From gradients of a composition to those of its gates before their nonlinearities and of the cell states."""
        i, f_left, f_right, o, u = gates(gated)
        tanh = node[..., self.size :].tanh()
        through = hidden * o * (1 - tanh * tanh)
        if state is not None:
            through = through + state
        i_gradient = through * u * i * (1 - i)
        left, right = through * f_left, through * f_right
        inward = (
            i_gradient,
            left * states[0] * (1 - f_left),
            right * states[1] * (1 - f_right),
            hidden * tanh * o * (1 - o),
            through * i * (1 - u * u),
        )
        return torch.cat(inward, -1), left, right

    def unmerge(self, step: int, done: Step) -> None:
        """Takes one merge back."""
        forest, row = self.forest, self.forest.row[: done.node.shape[0]]
        arrived = self._arrived(step, done)
        pair = done.pairs[1]
        parts = forest.at(forest.nodes, self.forest.beneath[:, pair, row])
        inward, left, right = self._through(
            forest.at(forest.gates, pair),
            forest.at(forest.nodes, pair + forest.count + 1),
            parts[..., self.size :],
            *arrived.chunk(2, -1),
        )
        self.merged.append((pair * forest.trees + row, inward))
        hidden = inward @ forest.weight
        self.base[done.places[1], row] = torch.cat((hidden[:, : self.size], left), -1)
        self.base[done.places[2], row] = torch.cat((hidden[:, self.size :], right), -1)
        forest.undo(done)
        at_merge = self._multiply(done, arrived)
        if done.draws is not None and done.draws.requires_grad:
            self._choose(done, at_merge)

    def _arrived(self, step: int, done: Step) -> Tensor:
        """What arrived at the merged node, and, through pairs that end here, at its neighbours."""
        previous, left, _, following = done.places
        forest, trees = self.forest, left.shape[0]
        row, pair = forest.row[:trees], forest.count + 2 * step
        if not forest.choosing[step]:
            return self.base[left, row]
        to_left, to_right = self.coefficients[row, previous], self.coefficients[row, left]
        self.totals[pair, :trees], self.totals[pair + 1, :trees] = to_left, to_right
        self.coefficients[row, previous] = 0
        self.coefficients[row, left] = 0
        to_left, to_right = to_left.unsqueeze(-1), to_right.unsqueeze(-1)
        self.base[previous, row] += to_left * self.from_left[pair, :trees]
        self.base[following, row] += to_right * self.from_right[pair + 1, :trees]
        own: Tensor = self.base[left, row]
        return own.addcmul_(to_left, self.from_right[pair, :trees]).addcmul_(to_right, self.from_left[pair + 1, :trees])

    def _multiply(self, done: Step, arrived: Tensor) -> Tensor:
        """Renews the products of the four nodes near a merge; those of what arrived at it, [trees, 3]."""
        previous, _, _, following = done.places
        forest, row = self.forest, self.forest.row[: arrived.shape[0]]
        outer = forest.before[row, previous].unsqueeze(0), forest.after[row, following].unsqueeze(0)
        places = torch.cat((outer[0], done.places, outer[1]))
        pairs = forest.place(forest.pair_at, places[:5])
        nodes = torch.cat((forest.place(forest.node_at, places), pairs + forest.count + 1))
        directions = (
            self.base[done.places, row],
            forest.at(self.from_left, pairs[1:]),
            forest.at(self.from_right, pairs[:4]),
            arrived.unsqueeze(0),
        )
        around = forest.at(forest.nodes, nodes)
        found = torch.bmm(torch.cat(directions).transpose(0, 1), around.permute(1, 2, 0))
        found = found.flatten(1)[:, self.selection]
        self.products[row.unsqueeze(1), done.places.t()] = found[:, :60].view(-1, 4, 3, 5)
        return found[:, 60:]

    def _choose(self, done: Step, at_merge: Tensor) -> None:
        """Passes the gradient of a choice to its scores."""
        assert done.scores is not None and done.draws is not None
        forest, choosing = self.forest, len(done.scores)
        row, left, places = forest.row[:choosing], done.places[1, :choosing], forest.count
        c, before, after = self.coefficients[:choosing], forest.before[:choosing], forest.after[:choosing, :places]
        weights = torch.stack((torch.ones_like(c), c, c.gather(1, before)), -1)
        products = (weights.unsqueeze(-1) * self.products[:choosing]).sum(-2)
        # With s the nodes, n the compositions and g what arrived at the sequence that the merge at k left,
        # to the left of it g_i s_i, g_i s_{i+1}, g_i n_i, and to its right, where s_{i+1} became the i-th, the same.
        moved = products[row.unsqueeze(1), after][..., list(MOVED)]
        is_left = (torch.arange(places, device=left.device) < left.unsqueeze(1)).unsqueeze(-1)
        terms = torch.where(is_left, products[:, :places, :3], moved)
        terms[row, left] = at_merge[:choosing]
        stay, move, compose = terms.mul_(forest.open[:choosing, :places].unsqueeze(-1)).unbind(-1)
        # dL/dD_j = g_j n_j + sum_{i<j} g_i s_i + sum_{i>j} g_i s_{i+1}
        gradient = compose + stay.cumsum(1) - stay + move.sum(1, keepdim=True) - move.cumsum(1)
        (to_scores,) = torch.autograd.grad(done.draws, done.scores, gradient)
        c[:, :places] += to_scores

    def leaves(self) -> Tensor:
        """The gradient of the leaves, [places, trees, 2 size], once all merges are taken back."""
        count = self.forest.count
        c = self.coefficients[:, : count - 1].t()
        self.totals[: count - 1] = c
        gradient = self.base[:count]
        gradient[: count - 1].addcmul_(c.unsqueeze(-1), self.from_left[: count - 1])
        gradient[1:].addcmul_(c.unsqueeze(-1), self.from_right[: count - 1])
        return gradient

    def parameters(self) -> Cell:
        """The gradient of the parameters, once that of the leaves is known."""
        forest = self.forest
        inward = self.inward.mul_(self.totals.unsqueeze(-1)).flatten(0, 1)
        if self.merged:
            numbers, gradients = zip(*self.merged, strict=True)
            inward.index_add_(0, torch.cat(numbers), torch.cat(gradients))
        hidden = torch.cat(self.parts[..., : self.size].unbind(), -1).flatten(0, 1)
        compositions = forest.nodes[forest.count + 1 :, :, : self.size].flatten(0, 1)
        query = (self.totals.flatten() @ compositions) / math.sqrt(self.size)
        return Cell(inward.t() @ hidden, inward.sum(0), query)


MOVED = (3, 0, 4)
"""What of a node's products stands for staying, moving and composing, where it is the right one of a pair."""


def _selection() -> list[int]:
    """Which of 13 x 11 products are wanted: for four nodes 3 x 5, and three of what arrived at the merged node.

    Rows: what arrives at the four nodes, derivatives of scores with respect to the left nodes of the pairs that
    they begin and the right nodes of those that they end, what arrived at the merge. Columns: six nodes, the
    four in their midst, and the compositions of their five pairs.
    """
    wanted = []
    for node in range(4):
        # itself, the next one, both composed, the previous one, both composed
        columns = (node + 1, node + 2, 6 + node + 1, node, 6 + node)
        wanted += [11 * row + column for row in (node, 4 + node, 8 + node) for column in columns]
    return wanted + [11 * 12 + column for column in (2, 3, 8)]


SELECTION = _selection()


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, leaves: Tensor, weight: Tensor, bias: Tensor, query: Tensor, lengths: Sequence[int], choose: Choose
    ) -> Tensor:
        forest = Forest(leaves, lengths, Cell(weight, bias, query), learning=True)
        ctx.steps = [forest.merge(step, choose) for step in range(len(forest.merging))]
        ctx.forest = forest
        return forest.roots()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, roots: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.forest is None:
            raise RuntimeError("the gradient of trees can be taken once; build them once more to take it again")
        descent = Descent(ctx.forest, roots)
        for step in reversed(range(len(ctx.steps))):
            descent.unmerge(step, ctx.steps[step])
        ctx.forest = ctx.steps = None
        return descent.leaves(), *descent.parameters(), None, None


def merged(leaves: Tensor, lengths: Sequence[int], cell: Cell, choose: Choose) -> Tensor:
    """Hidden states of the roots, [trees, size], of trees over the leaves, [places, trees, 2 size].

    At each step every tree composes all pairs of neighbours, scores them with query . h / sqrt(size), and
    merges the pair that `choose` picks, until one node is left. The last merge is no choice. The gradient
    passes through the choices as if the new sequence were the sum of what stays, what is composed and what
    moves up, weighted by the one-hot choice and its cumulative sums. It may be taken once.

    Args:
        leaves: hidden and cell states; what stands beyond a tree's length is not read.
        lengths: leaves of each tree, in falling order.
        cell: the composition.
        choose: draws the pairs; asked for the trees that have a choice, with scores and a mask [trees, places].
            No gradient passes through draws that need none.

    Raises:
        ValueError: the lengths are not in falling order, or one is below 1.
    """
    # Many small steps, whose rounding errors add up: not in half precision.
    with torch.autocast(leaves.device.type, enabled=False):
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (leaves, *cell)):
            roots: Tensor = _Merged.apply(leaves, *cell, lengths, choose)  # type: ignore[no-untyped-call]
            return roots
        forest = Forest(leaves, lengths, cell, learning=False)
        for step in range(len(forest.merging)):
            forest.merge(step, choose)
        return forest.roots()


__all__ = ["Cell", "Choose", "merged"]
