"""How all drawings look: fonts, greys, and colours that also those tell apart who see fewer of them."""

from __future__ import annotations

from typing import Any, Final

INK: Final = "#222222"
FAINT: Final = "#8a8a8a"
OTHERS: Final = "#c4c4c4"
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
"""Okabe and Ito, "Color universal design", 2008, https://jfly.uni-koeln.de/color; without its yellow, too pale here."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
DASHES: Final[tuple[Any, ...]] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
HATCHES: Final = ("", "////", "....", "xxxx")
STYLE: Final[dict[Any, Any]] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
    # Names are those of users, who need not mean formulas by dollar signs.
    "text.parse_math": False,
    # The same drawing is the same file.
    "svg.hashsalt": "reinmax",
}


def colour(number: int | None) -> str:
    """Of the competitor with that number; grey for one that the legend does not tell."""
    return OTHERS if number is None else COLOURS[number % len(COLOURS)]


def marker(number: int | None) -> str:
    """A second sign of it, for prints without colour."""
    return MARKERS[(number or 0) % len(MARKERS)]


def dashes(number: int | None) -> Any:
    """Another pattern each time that the colours begin again."""
    return DASHES[(number or 0) // len(COLOURS) % len(DASHES)]


def hatch(number: int | None) -> str:
    """The same for areas."""
    return HATCHES[(number or 0) // len(COLOURS) % len(HATCHES)]
