"""Categorical distributions with their classes on the last axis: checked logits, probabilities, draws and noise.

A *row* is one distribution. A draw is kept as the number of the drawn class, an integer; where there are
two classes it is 0 or 1 in the type of the logits, so that what depends on it is arithmetic: a choice
between two tensors by random booleans costs a CPU as much as drawing them.
"""

from reinmax_core.categorical.arithmetic import (
    above,
    at_drawn,
    beneath,
    less,
    less_product,
    matrix_product,
    mean_of_others,
    pair,
    put,
    row_sums,
    subtract_at,
    sum_beneath,
    times,
)
from reinmax_core.categorical.draws import draw, largest, one_hot, one_hot_draws, race, sample
from reinmax_core.categorical.functions import apply
from reinmax_core.categorical.noise import Streams, exponential, gumbel, inner_uniform, squeeze_inside_, uniform
from reinmax_core.categorical.rows import (
    NoDistribution,
    distinct,
    has_checked_values,
    placed,
    readable,
    row_temperatures,
    rows,
    unrowed,
    wide,
)
from reinmax_core.categorical.softmax import FEW_CLASSES, is_one, jacobian_product, log_probabilities, probabilities

__all__ = [
    "FEW_CLASSES",
    "NoDistribution",
    "Streams",
    "above",
    "apply",
    "at_drawn",
    "beneath",
    "distinct",
    "draw",
    "exponential",
    "gumbel",
    "has_checked_values",
    "inner_uniform",
    "is_one",
    "jacobian_product",
    "largest",
    "less",
    "less_product",
    "log_probabilities",
    "matrix_product",
    "mean_of_others",
    "one_hot",
    "one_hot_draws",
    "pair",
    "placed",
    "probabilities",
    "put",
    "race",
    "readable",
    "row_sums",
    "row_temperatures",
    "rows",
    "sample",
    "squeeze_inside_",
    "subtract_at",
    "sum_beneath",
    "times",
    "uniform",
    "unrowed",
    "wide",
]
