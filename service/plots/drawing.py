"""A figure from panels to the bytes of an image."""

from __future__ import annotations

import io
import math
import textwrap
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from service.plots.style import FAINT, INK, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format: TypeAlias = Literal["svg", "png"]
PANELS_SIDE_BY_SIDE: Final = 3
LEAST_WIDTH_IN: Final = 4.6
MOST_WIDTH_IN: Final = 11.0
NOTES_SIZE: Final = 7.5
LEGEND_ROW_IN: Final = 0.19
PUBLISHED: Final = "published"
"""Label of the values of a paper, told last."""
DOTS_PER_INCH: Final = 200
LETTERS_PER_INCH: Final = 13
BEFORE_LABEL: Final = 7
"""Letters that would fit where the legend shows colour and marker."""
CONTROLS: Final = bytes(code for code in range(32) if chr(code) not in "\t\n\r")
"""What no XML may have."""
_one_at_a_time = threading.Lock()


class Panel(ABC):
    """One pair of axes and what is drawn there."""

    @property
    @abstractmethod
    def width_in(self) -> float:
        """Inches that it should have."""

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """What the legend of the plot tells of it, in order."""

    @abstractmethod
    def draw(self, axes: Axes) -> None:
        """Draws it."""


@final
class Plot:
    """Panels with a title above and a legend below."""

    def __init__(self, title: str, panels: Sequence[Panel], notes: Sequence[str] = ()) -> None:
        self._title = title
        self._panels = panels
        self._notes = notes

    def rendered(self, form: Format) -> bytes:
        """The image; the same one for the same plot."""
        import matplotlib as mpl

        image = io.BytesIO()
        # The settings of matplotlib are those of the process, and requests are answered by several threads.
        with _one_at_a_time, mpl.rc_context(STYLE):
            metadata = {"Date": None} if form == "svg" else {"Software": None}
            self._figure().savefig(image, format=form, dpi=DOTS_PER_INCH, metadata=metadata)
        return image.getvalue().translate(None, CONTROLS) if form == "svg" else image.getvalue()

    def _figure(self) -> Figure:
        from matplotlib.figure import Figure

        widest = max((panel.width_in for panel in self._panels), default=LEAST_WIDTH_IN)
        side_by_side = max(1, min(len(self._panels), PANELS_SIDE_BY_SIDE, int(MOST_WIDTH_IN / widest)))
        rows = max(1, math.ceil(len(self._panels) / side_by_side))
        width = max(LEAST_WIDTH_IN, widest * side_by_side)
        told = list(dict.fromkeys(self._labels()))
        legend = LEGEND_ROW_IN * max(0, math.ceil(len(told) / _columns(told, width)) - 2)
        height = 2.7 * rows + (1.1 if rows == 1 else 0.8) + legend
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = list(figure.subplots(rows, side_by_side, squeeze=False).flat)
        for panel, ax in zip(self._panels, axes, strict=False):
            panel.draw(ax)
        for ax in axes[len(self._panels) :]:
            ax.set_axis_off()
        self._write(figure, width)
        return figure

    def _write(self, figure: Figure, width: float) -> None:
        """Title, legend and notes."""
        if self._title:
            title = textwrap.fill(self._title, max(30, int(width * LETTERS_PER_INCH * 0.8)))
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
        notes = "\n".join(textwrap.fill(note, int(width * LETTERS_PER_INCH * 1.2)) for note in self._notes)
        handles = {
            label: handle for ax in figure.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        told = [label for label in dict.fromkeys(self._labels()) if label in handles]
        if not told:
            figure.supxlabel(notes, x=0.01, ha="left", fontsize=NOTES_SIZE, color=FAINT)
            return
        legend = figure.legend(
            [handles[label] for label in told],
            told,
            loc="outside lower left",
            ncols=_columns(told, width),
            title=notes or None,
            title_fontsize=NOTES_SIZE,
            alignment="left",
        )
        legend.get_title().set_color(FAINT)

    def _labels(self) -> Iterator[str]:
        for panel in self._panels:
            yield from panel.labels
        yield PUBLISHED


def _columns(told: Sequence[str], width: float) -> int:
    """Those of a legend with these labels in a figure that is so wide."""
    room, needed = width * LETTERS_PER_INCH, sum(len(label) + BEFORE_LABEL for label in told)
    return len(told) if needed < room else max(1, int(room / (max(map(len, told)) + BEFORE_LABEL)))
