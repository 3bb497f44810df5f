"""ReinMax and straight-through on a GPU in two kernels: one for a draw and its probabilities, one for the gradient.

The forward kernel reads logits and writes draws, probabilities if wanted, and one integer a row; the
backward kernel reads logits and the arriving gradient and writes the gradient. Nothing else of the size of
the logits is read, written or kept, so that moving them should bound the speed. A row needs one random
number, of 64 bits, made inside the kernel from a seed that torch's generator draws.

What is kept for the backward pass are the logits, not the probabilities: their rounding to a half type,
and their underflow where a high tau brings rare classes back, would cost the gradient digits. So the
logits must not be changed in place before the backward pass; torch raises an error if they are.

A program's tile holds about 1024 entries, 8 for each thread of 4 warps: of few classes many rows, so that
the sums over a row stay within few threads and memory is read in whole lines; beyond 1024 classes one row
and more warps, up to 8192 entries at once. All arithmetic is in float32, whatever the type of the logits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from torch import Generator, Tensor
from torch.autograd import Function

from reinmax_core import categorical

if TYPE_CHECKING:
    from reinmax_core.estimators.base import Estimator
    from reinmax_core.estimators.reinmax import ReinMax
    from reinmax_core.estimators.straight_through import StraightThrough

enabled = True
"""Set to False to compare with the same operations in plain torch."""

MOST_CLASSES = 65536
"""So many integer weights of a row can be added up."""
WIDEST_TILE = 8192
TYPES = (torch.float32, torch.bfloat16, torch.float16)

_HAS_TRITON = find_spec("triton") is not None


def available(logits: Tensor, tau: float | Tensor = 1.0) -> bool:
    """Whether the functions of this module take logits [..., n]: on a GPU, with Triton, and with one tau for all."""
    return (
        enabled
        and _HAS_TRITON
        and logits.is_cuda
        and logits.dtype in TYPES
        and 1 <= logits.shape[-1] <= MOST_CLASSES
        and not isinstance(tau, Tensor)
        and not torch._C._are_functorch_transforms_active()
    )


def knows(estimator: Estimator) -> TypeGuard[ReinMax | StraightThrough]:
    """Whether there are kernels for an estimator with these settings."""
    from reinmax_core.estimators.reinmax import ReinMax
    from reinmax_core.estimators.straight_through import StraightThrough

    if isinstance(estimator, ReinMax):
        return estimator.baseline == "expected" and estimator.second_weight == 0.5
    return isinstance(estimator, StraightThrough)


def reinmax(logits: Tensor, tau: float = 1.0, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """One-hot draws [..., n] whose backward pass is ReinMax, and softmax(logits) with its ordinary one.

    Rows that hold NaN or +inf, or -inf alone, give NaN. The logits must not be changed in place before the
    backward pass, which raises RuntimeError if they were; in plain torch, as on a CPU, they may be.

    Args:
        logits: rows [..., n] for which `available` says yes.
        tau: the temperature of the first term, at least 1.
        generator: the source of randomness, of the device of `logits`; torch's global one if None.
    """
    return _drawn(logits, generator, True, tau, False)


def sample(estimator: ReinMax | StraightThrough, logits: Tensor, generator: Generator | None = None) -> Tensor:
    """One-hot draws [..., n] whose backward pass is an estimator that `knows` says yes to; else as `reinmax`."""
    return _drawn(logits, generator, False, estimator.tau, estimator.name == "straight_through")[0]


def _drawn(
    logits: Tensor, generator: Generator | None, with_probs: bool, tau: float, straight: bool
) -> tuple[Tensor, Tensor]:
    # The keyword is left out where it would be None: compilation with dynamic shapes refuses it.
    keywords: dict[str, Any] = {} if generator is None else {"generator": generator}
    seed = torch.randint(2**63 - 1, (1,), device=logits.device, **keywords)
    return cast(tuple[Tensor, Tensor], _Draw.apply(logits, seed, with_probs, tau, straight))  # type: ignore[no-untyped-call]


class _Draw(Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, seed: Tensor, with_probs: bool, tau: float, straight: bool
    ) -> tuple[Tensor, Tensor]:
        draws, probs, drawn = draw(logits, seed, with_probs)
        ctx.save_for_backward(logits, drawn)
        ctx.set_materialize_grads(False)
        ctx.with_probs, ctx.tau, ctx.straight = with_probs, tau, straight
        return draws, probs

    @staticmethod
    def backward(ctx: Any, at_draws: Tensor | None, at_probs: Tensor | None) -> tuple[Tensor | None, ...]:
        if not ctx.with_probs:
            at_probs = None  # Compiled code makes up zeros for it, as few as there are probabilities.
        if at_draws is None and at_probs is None:
            return None, None, None, None, None
        logits, drawn = ctx.saved_tensors
        formula = gradient if _once() else _gradient_in_torch
        return formula(logits, drawn, at_draws, at_probs, ctx.tau, ctx.straight), None, None, None, None


def _once() -> bool:
    # Compiled code is never differentiated twice; a transform that is active now, as for many gradients at
    # once, can look into plain torch only.
    if torch.compiler.is_compiling():
        return True
    return not torch.is_grad_enabled() and categorical.readable()


@torch.library.custom_op("reinmax::draw", mutates_args=())
def draw(logits: Tensor, seed: Tensor, with_probs: bool) -> tuple[Tensor, Tensor, Tensor]:
    """One-hot draws [..., n], softmax(logits) (or nothing, [0]), and the drawn classes [...] in int32."""
    from reinmax_core import kernels

    draws, probs, drawn = _outputs(logits, seed, with_probs)
    if logits.numel() > 0:
        source, period = _without_repetitions(logits)
        grid, tile = _launch(drawn.numel(), logits.shape[-1])
        with _device_of(logits):
            kernels.draw[grid](
                source,
                seed,
                draws,
                probs,
                drawn,
                drawn.numel(),
                period,
                logits.shape[-1],
                WITH_PROBS=with_probs,
                **tile,
            )
    return draws, probs, drawn


@torch.library.custom_op("reinmax::gradient", mutates_args=())
def gradient(
    logits: Tensor, drawn: Tensor, at_draws: Tensor | None, at_probs: Tensor | None, tau: float, straight: bool
) -> Tensor:
    """The gradient at the logits [..., n] from those at the draws, at the probabilities, or at both."""
    from reinmax_core import kernels

    result = logits.new_empty(logits.shape)
    if logits.numel() > 0:
        source, period = _without_repetitions(logits)
        grid, tile = _launch(drawn.numel(), logits.shape[-1])
        upstream = [source if g is None else g.contiguous() for g in (at_draws, at_probs)]
        with _device_of(logits):
            kernels.differentiate[grid](
                source, drawn, *upstream, result, tau, drawn.numel(), period, logits.shape[-1],
                STRAIGHT=straight, TEMPERED=tau != 1, WITH_DRAWS=at_draws is not None,
                WITH_PROBS=at_probs is not None, **tile,
            )  # fmt: skip
    return result


@draw.register_fake
def _outputs(logits: Tensor, seed: Tensor, with_probs: bool) -> tuple[Tensor, Tensor, Tensor]:
    draws = logits.new_empty(logits.shape)
    probs = logits.new_empty(logits.shape if with_probs else (0,))
    return draws, probs, logits.new_empty(logits.shape[:-1], dtype=torch.int32)


@gradient.register_fake
def _like_logits(
    logits: Tensor, drawn: Tensor, at_draws: Tensor | None, at_probs: Tensor | None, tau: float, straight: bool
) -> Tensor:
    return logits.new_empty(logits.shape)


def _without_repetitions(logits: Tensor) -> tuple[Tensor, int]:
    """Contiguous rows, and their number, of which those of `logits` are repetitions, as after `expand`."""
    rows = logits
    while rows.ndim > 1 and (rows.shape[0] == 1 or rows.stride(0) == 0):
        rows = rows[0]
    rows = rows.contiguous()
    return rows, rows.numel() // rows.shape[-1]


def _launch(rows: int, classes: int) -> tuple[tuple[int], dict[str, int | bool]]:
    """The number of programs, and the tile of each."""
    width = min(max(1 << (classes - 1).bit_length(), 2), WIDEST_TILE)
    steps = -(-classes // width)
    height = max(1, 1024 // width)
    warps = min(max(width // 512, 4), 16)
    tile = {"EXACT": classes == width * steps, "ROWS": height, "WIDTH": width, "STEPS": steps, "num_warps": warps}
    return (-(-rows // height),), tile


def _device_of(logits: Tensor) -> AbstractContextManager[object]:
    # Triton launches on the current device, which need not be the one of the tensors.
    return torch.cuda.device(logits.device) if logits.is_cuda else nullcontext()


def _gradient_in_torch(
    logits: Tensor, drawn: Tensor, at_draws: Tensor | None, at_probs: Tensor | None, tau: float, straight: bool
) -> Tensor:
    """As `gradient`, but differentiable."""
    theta, index = logits.float(), drawn.long().unsqueeze(-1)
    p = theta.softmax(-1)
    result = torch.zeros_like(p)
    if at_draws is not None:
        u = at_draws.float() - at_draws.float().gather(-1, index)
        q = p if tau == 1 else (theta / tau).softmax(-1)
        if straight:
            result = categorical.jacobian_product(q, u) / tau
        else:
            # 2 J((q + D)/2) u  with  D . u = 0  is  q u - (q + D) (q . u)/2
            half = (q * u).sum(-1, keepdim=True) / 2
            result = (q * u - q * half - categorical.jacobian_product(p, u) / 2).scatter_add(-1, index, -half)
    if at_probs is not None:
        result = result + categorical.jacobian_product(p, at_probs.float())
    return result.to(logits.dtype)
