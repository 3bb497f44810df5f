"""Thinning out of curves, for any curve."""

from hypothesis import given
from hypothesis import strategies as st

from service.curves import thinned
from worker.series import Series


@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(4, 50))
def test_a_thinned_curve_is_small_ordered_and_keeps_what_matters(values: list[float], most: int) -> None:
    steps = [3 * index for index in range(len(values))]
    curve = thinned(Series(steps, values), most)
    assert len(curve) <= most
    assert curve.step == sorted(set(curve.step))
    assert all(values[step // 3] == value for step, value in zip(curve.step, curve.value, strict=True))
    if values:
        assert (curve.step[0], curve.step[-1]) == (steps[0], steps[-1])
        assert (min(curve.value), max(curve.value)) == (min(values), max(values))
