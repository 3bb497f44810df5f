"""The two Triton kernels of `reinmax_core.fused`, the only module that imports this one, where there is Triton.

A program computes `ROWS` rows. It passes over them in `STEPS` tiles of `WIDTH` classes: for the largest
logits, for sums, and for results. With one step the compiler sees that every pass loads the same, and
keeps the tile in registers; with more, later passes find in the cache what the first one fetched.
No sum depends on which program comes first, so the same input and seed give the same bits.

Symbols as in `reinmax_core.gradients`; u = g - g_d and v are the gradients that arrive at the draw and at
the probabilities, each less its entry at the drawn class, which changes nothing and keeps digits.
"""

from __future__ import annotations

import triton
import triton.language as tl

RESOLUTION = tl.constexpr(float(2**46))
"""The weight of a row's most probable class: 2^16 of them add up to less than the largest integer, 2^63."""
NAN = tl.constexpr(float("nan"))


@triton.jit
def draw(
    logits, seed, draws, probs, drawn, rows, period, classes,
    WITH_PROBS: tl.constexpr, EXACT: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """One class of each row of softmax(logits), as one-hot row and as number, and the probabilities if wanted.

    Classes weigh exp(x - max) in integers, whose sums are exact in any order: just one class lies around a
    threshold below the total, and never one of weight 0. A share below 2^-46 of the largest is 0.
    """
    count = WIDTH * STEPS if EXACT else classes
    row, start = _rows(rows, period, count, ROWS)
    peak = _peak(logits, start, count, ROWS, WIDTH, STEPS)
    shares = tl.zeros([ROWS, WIDTH], tl.float32)
    weights = tl.zeros([ROWS, WIDTH], tl.int64)
    for step in range(STEPS):
        share = tl.exp(_tile(logits, start, count, step, WIDTH, float("-inf")) - peak[:, None])
        shares += share
        weights += _weights(share)
    mass = tl.sum(shares, 1)
    threshold = _below(tl.sum(weights, 1), tl.load(seed), row)
    before = tl.zeros([ROWS], tl.int64)
    numbers = tl.zeros([ROWS, WIDTH], tl.int32)
    for step in range(STEPS):
        share = tl.exp(_tile(logits, start, count, step, WIDTH, float("-inf")) - peak[:, None])
        weight = _weights(share)
        until = before[:, None] + tl.cumsum(weight, 1)
        hot = (until > threshold[:, None]) & (until - weight <= threshold[:, None])
        before += tl.sum(weight, 1)
        numbers += tl.where(hot, (step * WIDTH + tl.arange(0, WIDTH))[None, :], 0)
        # A row with NaN or +inf or of -inf alone has a mass of NaN, and no draw.
        _put(draws, tl.where((mass == mass)[:, None], hot.to(tl.float32), NAN), row, rows, count, step, WIDTH)
        if WITH_PROBS:
            _put(probs, share / mass[:, None], row, rows, count, step, WIDTH)
    tl.store(drawn + row, tl.sum(numbers, 1), mask=row < rows)


@triton.jit
def differentiate(
    logits, drawn, at_draws, at_probs, result, tau, rows, period, classes,
    STRAIGHT: tl.constexpr, TEMPERED: tl.constexpr, WITH_DRAWS: tl.constexpr, WITH_PROBS: tl.constexpr,
    EXACT: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """The gradient at the logits from those at the draws and at the probabilities."""
    count = WIDTH * STEPS if EXACT else classes
    row, start = _rows(rows, period, count, ROWS)
    own = tl.minimum(row, rows - 1)
    number = tl.load(drawn + own)
    own = own * count
    peak = _peak(logits, start, count, ROWS, WIDTH, STEPS)
    sums_p = tl.zeros([ROWS, WIDTH], tl.float32)
    sums_q = tl.zeros([ROWS, WIDTH], tl.float32)
    sums_qu = tl.zeros([ROWS, WIDTH], tl.float32)
    sums_pu = tl.zeros([ROWS, WIDTH], tl.float32)
    sums_pv = tl.zeros([ROWS, WIDTH], tl.float32)
    for step in range(STEPS):
        x = _tile(logits, start, count, step, WIDTH, float("-inf")) - peak[:, None]
        p = tl.exp(x)
        q = tl.exp(x / tau) if TEMPERED else p
        sums_p += p
        sums_q += q
        if WITH_DRAWS:
            u = _shifted(at_draws, own, number, count, step, WIDTH)
            sums_qu += q * u
            sums_pu += p * u
        if WITH_PROBS:
            sums_pv += p * _shifted(at_probs, own, number, count, step, WIDTH)
    mass_p = tl.sum(sums_p, 1)[:, None]
    mass_q = tl.sum(sums_q, 1)[:, None]
    dot_qu = tl.sum(sums_qu, 1)[:, None] / mass_q
    dot_pu = tl.sum(sums_pu, 1)[:, None] / mass_p
    dot_pv = tl.sum(sums_pv, 1)[:, None] / mass_p
    for step in range(STEPS):
        x = _tile(logits, start, count, step, WIDTH, float("-inf")) - peak[:, None]
        p = tl.exp(x) / mass_p
        q = tl.exp(x / tau) / mass_q if TEMPERED else p
        gradient = tl.zeros([ROWS, WIDTH], tl.float32)
        if WITH_DRAWS:
            u = _shifted(at_draws, own, number, count, step, WIDTH)
            if STRAIGHT:
                # q (u - q . u) / tau
                gradient = q * (u - dot_qu) / tau
            else:
                # q (u - s/2) - p (u - p . u)/2 - e_d s/2  with  s = q . u,  where q = p:  p u/2 - e_d s/2
                here = (step * WIDTH + tl.arange(0, WIDTH))[None, :] == number[:, None]
                product = q * (u - dot_qu / 2) - p * (u - dot_pu) / 2 if TEMPERED else p * u / 2
                gradient = product - tl.where(here, dot_qu / 2, 0.0)
        if WITH_PROBS:
            # p (v - p . v)
            gradient += p * (_shifted(at_probs, own, number, count, step, WIDTH) - dot_pv)
        _put(result, gradient, row, rows, count, step, WIDTH)


@triton.jit
def _rows(rows, period, count, ROWS: tl.constexpr):
    """The program's rows, and where their logits begin; places past the last row read the last row once more."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    return row, (tl.minimum(row, rows - 1) % period) * count


@triton.jit
def _peak(logits, start, count, ROWS: tl.constexpr, WIDTH: tl.constexpr, STEPS: tl.constexpr):
    """The largest logit of each row."""
    peaks = tl.full([ROWS, WIDTH], float("-inf"), tl.float32)
    for step in range(STEPS):
        peaks = tl.maximum(peaks, _tile(logits, start, count, step, WIDTH, float("-inf")))
    return tl.max(peaks, 1)


@triton.jit
def _tile(source, start, count, step, WIDTH: tl.constexpr, OTHER: tl.constexpr):
    """Entries [ROWS, WIDTH], in float32, of the rows that begin at `start`; `OTHER` where there is no class."""
    column = step * WIDTH + tl.arange(0, WIDTH)
    entries = tl.load(source + (start[:, None] + column[None, :]), mask=(column < count)[None, :], other=OTHER)
    return entries.to(tl.float32)


@triton.jit
def _shifted(gradient, start, number, count, step, WIDTH: tl.constexpr):
    """Entries of a gradient less the one at the drawn class."""
    at_drawn = tl.load(gradient + start + number).to(tl.float32)
    return _tile(gradient, start, count, step, WIDTH, 0.0) - at_drawn[:, None]


@triton.jit
def _weights(share):
    """Integers in proportion to shares of [0, 1], and 0 for NaN."""
    return (tl.where(share == share, share, 0.0) * RESOLUTION).to(tl.int64)


@triton.jit
def _below(total, seed, row):
    """A uniform integer of [0, total) for each row, from 64 random bits."""
    high, low, _, _ = tl.randint4x(seed, row)
    bits = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
    return tl.umulhi(bits, total.to(tl.uint64)).to(tl.int64)


@triton.jit
def _put(target, values, row, rows, count, step, WIDTH: tl.constexpr):
    """Values [ROWS, WIDTH] to their places, in the type of the target."""
    column = step * WIDTH + tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (column < count)[None, :]
    tl.store(target + (row[:, None] * count + column[None, :]), values, mask=inside)
