"""Calls about what sweeps have come to: tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypedDict, Unpack
from urllib.parse import quote

from service.client.asking import Asking
from service.client.exchange import Exchange, endpoint
from service.tables.table import Table

TextFormat: TypeAlias = Literal["csv", "markdown", "latex"]
ImageFormat: TypeAlias = Literal["svg", "png"]
PlotKind: TypeAlias = Literal["bars", "line", "curves"]


class Arrangement(TypedDict, total=False):
    """What stands where in a table; what is left out is as the preset or the sweep says."""

    rows: Sequence[str] | None
    """Paths of axes."""
    columns: Sequence[str] | None
    """Paths of axes."""
    metrics: Sequence[str]
    """What is shown."""
    baseline: str | None
    """What paired differences are taken to, such as the name of an estimator."""
    select: Sequence[str] | None
    """Paths of axes along which only the best cell is shown."""


class TableEndpoints(Asking):
    """The calls about tables and plots. Sweeps and jobs are named by their id."""

    @endpoint
    def table(self, sweep_id: str, **arrangement: Unpack[Arrangement]) -> Exchange[Table]:
        """Mean and spread of every cell of a sweep over its seeds, beside what was published."""
        response = yield from self._answer("GET", f"{_sweep(sweep_id)}/table", params=_params(arrangement))
        return Table.model_validate_json(response.content)

    @endpoint
    def table_text(self, sweep_id: str, format: TextFormat, **arrangement: Unpack[Arrangement]) -> Exchange[str]:
        """The table as CSV, Markdown or LaTeX."""
        params = _params(arrangement) | {"format": format}
        response = yield from self._answer("GET", f"{_sweep(sweep_id)}/table", params=params)
        return response.text

    @endpoint
    def plot(
        self,
        sweep_id: str,
        *,
        kind: PlotKind = "bars",
        x: str | None = None,
        form: ImageFormat = "svg",
        **arrangement: Unpack[Arrangement],
    ) -> Exchange[bytes]:
        """A drawing of a sweep.

        Args:
            sweep_id: the sweep.
            kind: final values as `bars`, or as a `line` over a numeric axis, or training `curves`.
            x: path of the axis that a line is drawn over.
            form: of the image.
            arrangement: what stands where.
        """
        params = _params(arrangement) | {"kind": kind} | ({"x": x} if x is not None else {})
        response = yield from self._answer("GET", f"{_sweep(sweep_id)}/plot.{form}", params=params)
        return response.content

    @endpoint
    def plot_of_job(self, job_id: str, *, series: Sequence[str] = (), form: ImageFormat = "svg") -> Exchange[bytes]:
        """The curves of a job, drawn: those of `series`, or all."""
        params = {"series": ",".join(series)} if series else {}
        response = yield from self._answer("GET", f"/v1/jobs/{quote(job_id, safe='')}/plot.{form}", params=params)
        return response.content


def _sweep(sweep_id: str) -> str:
    return f"/v1/sweeps/{quote(sweep_id, safe='')}"


def _params(arrangement: Arrangement) -> dict[str, str | int]:
    lists = {
        "rows": arrangement.get("rows"),
        "columns": arrangement.get("columns"),
        "select": arrangement.get("select"),
        "metric": arrangement.get("metrics") or None,
    }
    params: dict[str, str | int] = {name: ",".join(found) for name, found in lists.items() if found is not None}
    baseline = arrangement.get("baseline")
    return params if baseline is None else params | {"baseline": baseline}
