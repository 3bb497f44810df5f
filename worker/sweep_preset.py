"""Sweeps by the name of a preset."""

from __future__ import annotations

from collections.abc import Mapping

from reinmax_core.data.base import DataSet, DataSource
from reinmax_core.presets import Preset
from reinmax_core.presets.grid import changed
from worker.sweep_grid import Flaw, InvalidSweep
from worker.sweep_path import merged, nearest
from worker.sweep_plan import Plan
from worker.sweep_request import SweepRequest


class DataMissing(Exception):
    """A preset needs data that is not at hand, and that no address publishes.

    Args:
        preset: the preset.
        reasons: what is missing and what to do, a sentence a data set by its name.
    """

    def __init__(self, preset: str, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"preset {preset!r} needs {name}: {reason}" for name, reason in reasons.items()))
        self.preset, self.reasons = preset, dict(reasons)


def resolved(request: SweepRequest, presets: Mapping[str, Preset]) -> SweepRequest:
    """The request with all that its preset says; what the request itself says comes first.

    That is the base field by field, the grid axis by axis unless it is a list, and the rest as a whole.

    Raises:
        InvalidSweep: there is no such preset.
    """
    if request.preset is None:
        return request
    if request.preset not in presets:
        raise InvalidSweep([Flaw(("preset",), f"there is no preset {nearest(request.preset, list(presets))}")])
    preset, written = presets[request.preset].sweep, request.model_dump(mode="json", exclude_unset=True)
    base, grid = merged(preset.base, written.get("base", {})), changed(preset.grid, written.get("grid", {}))
    return SweepRequest.model_validate(preset.body | written | {"base": base, "grid": grid})


def check_data(plan: Plan, source: DataSource) -> None:
    """Sees that the data sets that a preset's jobs read are at hand, or can be downloaded by the first job.

    Raises:
        DataMissing: they are not; workers elsewhere may have them still.
    """
    reasons = {
        dataset.name: reason
        for dataset in _read_by(plan)
        if (reason := dataset.availability(source).reason) and not _can_be_had(dataset, source)
    }
    if plan.request.preset and reasons:
        raise DataMissing(plan.request.preset, reasons)


def _read_by(plan: Plan) -> tuple[DataSet, ...]:
    found = {data.name: data for cell in plan.cells for data in cell.submission.task.datasets()}
    return tuple(data for _, data in sorted(found.items()) if isinstance(data, DataSet))


def _can_be_had(dataset: DataSet, source: DataSource) -> bool:
    """Whether an address has what is missing, as far as can be told without asking it."""
    missing = set(dataset.availability(source).missing)
    published = all(file.urls for file in dataset.files if file.name in missing)
    return published or any("://" in mirror for mirror in source.mirrors)
