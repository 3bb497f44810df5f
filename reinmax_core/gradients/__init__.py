"""How a gradient passes a draw, or is carried past it."""

from reinmax_core.gradients.costs import Scored, by_rows, carrying, scored, values_and_slopes
from reinmax_core.gradients.functions import constant
from reinmax_core.gradients.operators import averaged, reinmax, reinmax_from_the_mean, straight_through

__all__ = [
    "Scored",
    "averaged",
    "by_rows",
    "carrying",
    "constant",
    "reinmax",
    "reinmax_from_the_mean",
    "scored",
    "straight_through",
    "values_and_slopes",
]
