"""Merging of sequences into trees, neighbour by neighbour, at a price that does not grow with what stays as it is.

The plain algorithm composes and scores all adjacent pairs at every step, merges the drawn one, and moves the
rest of the sequence along. Here every composition is computed once, when its pair becomes adjacent: two a step.
The same holds of its derivative. The gradient of a score with respect to the two nodes beneath it is one
fixed vector, however often the pair stands for election, so what reaches a node from scores is a sum of such
vectors, whose coefficients are all that a step changes. The gradient of a choice needs the products of those
sums with the node's surroundings; the products of the vectors are kept, and only those near a merge change.
Losses and gradients are those of the plain algorithm up to rounding.

Nodes stay at the place of their leftmost leaf; a merged pair's right place is given up. Trees are ordered by
falling length, so that at every step those that still have something to merge come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    steps = range(lengths[0] - 1 if lengths else 0)
    merging = [sum(length > step + 1 for length in lengths) for step in steps]
    return merging, [sum(length > step + 2 for length in lengths) for step in steps]


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
            self.scores[:, : count - 1] = (found @ self._scaled_query).t()

    @property
    def _scaled_query(self) -> Tensor:
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
        return node[..., : self.size] @ self._scaled_query

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
        query = forest._scaled_query
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
