"""Logits as rows of distributions, their classes on the last axis: checked, in one type, and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import Parameter

_ORDINARY = (Tensor, Parameter)


class NoDistribution(ValueError):
    """A row of logits holds NaN or +inf, or -inf alone, as after a step that made the parameters so."""


def rows(logits: Tensor, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """Logits with the classes on the last axis and masked classes at -inf.

    On accelerators, where reading values takes waiting, and inside `torch.compile`, the transforms of
    `torch.func`, fake tensors and `make_fx`, where they cannot be read, rows are not checked for values;
    `unrowed` then turns the draws of impossible rows into NaN.

    Raises:
        ValueError: `logits` has no floating-point type, no axis `dim` or no class on it, the mask does not
            fit, or a row holds NaN or +inf or has every class masked or at -inf.
    """
    _check_form(logits, dim)
    if mask is not None:
        logits = logits.masked_fill(~_fitting(mask, logits), float("-inf"))
    by_class = logits if dim in (-1, logits.ndim - 1) else logits.movedim(dim, -1)
    if has_checked_values(by_class):
        _check_values(distinct(by_class.detach()))
    return by_class


def unrowed(draws: Tensor, checked: Tensor, logits: Tensor, dim: int = -1) -> Tensor:
    """One-hot draws [..., n] with axis and dtype of `logits`; `checked` are their rows.

    Draws may have leading axes that `logits` lacks.
    """
    if not has_checked_values(checked):
        draws = draws + 0 * distinct(checked.detach()).amax(-1, keepdim=True)
    return placed(draws, logits, dim)


def placed(draws: Tensor, logits: Tensor, dim: int = -1) -> Tensor:
    """Draws [..., n] with axis and dtype of `logits`."""
    axis = dim - logits.ndim if dim >= 0 else dim
    return (draws if axis == -1 else draws.movedim(-1, axis)).to(logits.dtype)


def readable() -> bool:
    """Whether the values of tensors may be looked at: not while torch compiles or transforms the code."""
    return not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def has_checked_values(tensor: Tensor) -> bool:
    """Whether the values of a tensor are looked at: where there are some, and reading them takes no waiting."""
    # To read a value off an accelerator would make the program wait for it at every draw.
    return readable() and tensor.device.type == "cpu" and not _is_fake(tensor)


def _is_fake(tensor: Tensor) -> bool:
    # Asked at every draw, so first what is quick and nearly always says no.
    if torch._C._len_torch_dispatch_stack() == 0 and type(tensor) in _ORDINARY:
        return False
    from torch._guards import detect_fake_mode
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    return detect_fake_mode(tensor) is not None or get_proxy_mode() is not None


def distinct(by_class: Tensor) -> Tensor:
    """The rows without the repetitions that `expand` made: axes of stride 0 are cut to length 1.

    A derivative that passes through here reaches a repeated row as one sum at its first copy, which is the
    same once the repetitions are added up. Only second derivatives of draws do; what takes first ones
    through its probabilities makes the rows contiguous before.
    """
    # Arithmetic gives empty tensors strides of 0, too.
    if readable() and by_class.numel() > 0:
        for axis, stride in enumerate(by_class.stride()[:-1]):
            if stride == 0 and by_class.shape[axis] > 1:
                by_class = by_class.narrow(axis, 0, 1)
    return by_class


def wide(by_class: Tensor) -> Tensor:
    """Rows in the type in which they are computed with: float32 for half precision, otherwise their own."""
    return by_class.float() if by_class.dtype in (torch.float16, torch.bfloat16) else by_class


def row_temperatures(tau: float | Tensor, logits: Tensor, dim: int, least: float) -> float | Tensor:
    """A temperature, or one for each row [..., 1] with the classes' axis last.

    Raises:
        ValueError: one is below `least` or infinite (looked for as values are by `rows`), or the tensor
            requires a gradient, which no temperature gets, or has another shape than the rows of the logits;
            or for a tensor, the logits are none as for `rows`.
    """
    if not isinstance(tau, torch.Tensor):
        return _at_least(tau, least)
    _check_form(logits, dim)
    if tau.requires_grad:
        raise ValueError("tau requires a gradient, but no gradient passes to a temperature; pass tau.detach()")
    if tau.ndim and not _is_one_a_row(tau, logits, dim):
        raise ValueError(
            f"tau must be a number, or a tensor that can be broadcast to logits of shape {tuple(logits.shape)} with "
            f"length 1 on axis {dim}, got shape {tuple(tau.shape)}; use tau.unsqueeze({dim})"
        )
    if has_checked_values(tau):
        refused = tau[~((tau >= least) & tau.isfinite())]
        _at_least(float(refused[0]) if refused.numel() else least, least)
    # In the type that rows are computed in, as a tensor in a wider one would widen them.
    tau = tau.to(torch.promote_types(logits.dtype, torch.float32))
    return tau.movedim(dim, -1) if tau.ndim else tau


def _is_one_a_row(tau: Tensor, logits: Tensor, dim: int) -> bool:
    return (
        tau.ndim == logits.ndim
        and tau.shape[dim] == 1
        and all(length in (1, whole) for length, whole in zip(tau.shape, logits.shape, strict=True))
    )


def _at_least(tau: float, least: float) -> float:
    if not least <= tau < math.inf:
        raise ValueError(
            f"ReinMax needs a finite temperature (tau) of at least {least}, got {tau}; "
            f"pass tau=1.0, which has the least bias"
        )
    return tau


def _check_form(logits: Tensor, dim: int) -> None:
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating-point numbers, got {logits.dtype}; convert them, as with .float()")
    if not -logits.ndim <= dim < logits.ndim:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} have no axis {dim} for the classes; "
            f"pass dim= as the axis that holds them"
        )
    if logits.shape[dim] == 0:
        raise ValueError(
            f"logits must have at least one class, but axis {dim} of shape {tuple(logits.shape)} is empty; "
            f"pass dim= as the axis that holds the classes"
        )


def _fitting(mask: Tensor, logits: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, True where a class may be drawn, got {mask.dtype}; compare it with 0")
    try:
        return mask.expand(logits.shape)
    except RuntimeError as error:
        raise ValueError(
            f"mask must be broadcastable to logits of shape {tuple(logits.shape)}, got {tuple(mask.shape)}; "
            f"give it an axis of length 1 where it is the same for all"
        ) from error


def _check_values(by_class: Tensor) -> None:
    # A finite sum shows in one pass that every entry is finite; only otherwise each row is looked at.
    if not math.isfinite(by_class.sum()):
        peaks = by_class.amax(-1)
        if not bool(peaks.isfinite().all()):
            place = tuple(int(axis) for axis in peaks.isfinite().logical_not().nonzero()[0])
            raise _complaint(float(peaks[place]), place)


def _complaint(peak: float, place: tuple[int, ...]) -> NoDistribution:
    if peak == float("-inf"):
        return NoDistribution(
            f"every row of logits needs a class that can be drawn, but row {place} has all of them masked or at -inf; "
            f"leave at least one unmasked, or drop the row"
        )
    return NoDistribution(
        f"logits must be finite, or -inf for a class that is never drawn, but row {place} holds {peak}; "
        f"look for a diverged loss or too high a learning rate"
    )
