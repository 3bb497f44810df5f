"""A search as a worker looks after it: ends hopeless trials, adds further ones, tells how far it is."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, final

from worker.call import Call
from worker.curves import Curves
from worker.jobs import TERMINAL, Reason
from worker.reasons import PRUNE_REQUESTED
from worker.search import BestTrial, EarlyStopping, SearchProgress
from worker.search_plan import space_of
from worker.search_store import SearchStore
from worker.store import JobStore
from worker.sweep import Sweep
from worker.sweep_grid import Cell
from worker.sweep_request import SweepRequest
from worker.sweeps import Changed, SweepStore
from worker.trials import Standing, Trial, best_of, trials_of

LONGEST_S: Final = 2.0
"""After this the worker has to look after its other duties."""
EXHAUSTED: Final = Reason(
    code="exhausted",
    message="no combination of values seems to be left that makes a job and has not been tried; widen the fields, or "
    "ask for fewer trials",
)

logger = logging.getLogger(__name__)


@final
class Pursuit:
    """Looks after one search, which needs Optuna. All it remembers saves time: another worker may go on at any moment.

    Args:
        store: where jobs are kept.
        searches: where it is known who looks after what.
        sweep: the search.

    Raises:
        ValidationError: another version of the service took the request, which this one does not understand.
    """

    def __init__(self, store: JobStore, searches: SearchStore, sweep: Sweep) -> None:
        assert sweep.search is not None
        self._sweeps, self._searches = SweepStore(store), searches
        self._space = space_of(SweepRequest.model_validate(sweep.request))
        self._search, self._goal = self._space.search, sweep.search
        self._curves = Curves(store, self._goal.metric)

    def advance(self, sweep: Sweep) -> tuple[Call, ...]:
        """Does what is to be done now. Returns the calls for workers of the jobs that were added.

        Args:
            sweep: as it stands.

        Raises:
            StoreUnavailable: the job store does not serve.
        """
        trials = trials_of(self._sweeps.outcomes(sweep.id) if sweep.cells else (), self._goal.metric)
        if self._search.early_stopping and not self._has_stopped(trials, self._search.early_stopping):
            return ()
        note, cells = _missing_metric(trials, self._goal.metric), list[Cell]()
        missing = self._missing(sweep, trials) if note is None else 0
        if missing > 0:
            # Those for which there is no time now are added with the next look.
            cells = list(_in_time(islice(self._proposals(sweep, trials), missing), LONGEST_S))
            note = None if cells else EXHAUSTED
        changed = self._added(sweep, trials, cells) if cells else None
        progress = self._progress(trials, note, added=len(cells) if changed else 0)
        self._searches.tell(sweep.id, progress, None if progress.running else sweep.version)
        return changed.calls if changed else ()

    def _has_stopped(self, trials: Sequence[Trial], rule: EarlyStopping) -> bool:
        """Cancels the jobs of hopeless trials. Returns whether there was time for it."""
        outcomes = (outcome for trial in trials for outcome in trial.outcomes)
        if not self._curves.read_on(outcomes, until=time.monotonic() + LONGEST_S):
            return False
        complete = [trial for trial in trials if trial.standing is Standing.COMPLETE]
        running = [trial for trial in trials if trial.standing is Standing.RUNNING]
        for trial in running if len(complete) >= rule.finished else ():
            if self._is_hopeless(trial, complete, rule):
                self._prune(trial)
        return True

    def _is_hopeless(self, trial: Trial, complete: Sequence[Trial], rule: EarlyStopping) -> bool:
        """By the seeds that have begun, compared with the same ones of other trials."""
        from worker.sampling import is_hopeless

        begun = [outcome for outcome in trial.outcomes if self._curves.has_begun(outcome)]
        seeds = {outcome.seed for outcome in begun}
        others = [
            self._curves.mean(outcome for outcome in other.outcomes if outcome.seed in seeds) for other in complete
        ]
        known = [other for other in others if other]
        steps = max((max(other) for other in known), default=0)
        return bool(begun) and is_hopeless(rule, self._goal.direction, self._curves.mean(begun), known, steps)

    def _prune(self, trial: Trial) -> None:
        for outcome in trial.outcomes:
            if outcome.status not in TERMINAL and outcome.reason != PRUNE_REQUESTED.code:
                logger.info("job %s: its trial is hopeless, %s", outcome.job_id, dict(trial.coordinates))
                self._searches.prune(outcome.job_id)

    def _added(self, sweep: Sweep, trials: Sequence[Trial], cells: Sequence[Cell]) -> Changed | None:
        tried = [*(trial.coordinates for trial in trials), *(cell.coordinates for cell in cells)]
        return self._sweeps.add_cells(sweep.id, sweep.cells, cells, self._space.axes_of(tried))

    def _missing(self, sweep: Sweep, trials: Sequence[Trial]) -> int:
        """How many trials are to be added now."""
        running = sum(trial.standing is Standing.RUNNING for trial in trials)
        return min(self._search.parallel - running, self._search.trials - sweep.cells)

    def _proposals(self, sweep: Sweep, trials: Sequence[Trial]) -> Iterator[Cell]:
        from worker.sampling import proposals

        ended_early = [trial for trial in trials if trial.standing in (Standing.PRUNED, Standing.DIVERGED)]
        known = ended_early if self._search.early_stopping else ()  # else no curves were read
        curves = {trial.number: self._curves.mean(trial.outcomes) for trial in known}
        return proposals(self._space, self._goal.direction, trials, curves, first=sweep.cells)

    def _progress(self, trials: Sequence[Trial], note: Reason | None, added: int) -> SearchProgress:
        counts = Counter(trial.standing for trial in trials)
        best = best_of(trials, self._goal.direction)
        return SearchProgress(
            metric=self._goal.metric,
            direction=self._goal.direction,
            trials=self._search.trials,
            complete=counts[Standing.COMPLETE],
            pruned=counts[Standing.PRUNED],
            failed=counts[Standing.FAILED] + counts[Standing.DIVERGED],
            running=counts[Standing.RUNNING] + added,
            best=BestTrial(cell=best.number, coordinates=best.coordinates, value=best.mean) if best else None,
            note=note,
        )


def _in_time(cells: Iterator[Cell], longest_s: float) -> Iterator[Cell]:
    """Cells as they are found, until that has taken so long; the first one in any case."""
    deadline = time.monotonic() + longest_s
    for cell in cells:
        yield cell
        if time.monotonic() >= deadline:
            return


def _missing_metric(trials: Sequence[Trial], metric: str) -> Reason | None:
    """Why nothing further is tried, if runs end without the metric."""
    for outcome in (outcome for trial in trials if trial.lacks_metric for outcome in trial.outcomes):
        names = ", ".join(sorted(outcome.values))
        return Reason(
            code="no_such_metric",
            message=f"no further trials are added, for the runs have no metric {metric!r}; those that they have are: "
            f"{names}. Name one of these as the metric of a new search",
        )
    return None
