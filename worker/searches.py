"""A duty of workers: they look after the searches that go on, each after some of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, final

from pydantic import ValidationError

from worker.call import Waiting
from worker.jobs import Reason
from worker.pursuit import Pursuit
from worker.refusal import SweepNotFound, SweepUnreadable
from worker.search_store import SearchStore
from worker.store import JobStore
from worker.sweep import Sweep
from worker.sweeps import SweepStore

TAKEN_S: Final = 10.0
"""After so long without a look, another worker looks after a search."""
LOOK_EVERY_S: Final = 1.0
SHARE: Final = 0.05
"""Of the time of a worker that looking may take."""
LONGEST_PAUSE_S: Final = 5.0
LEFT_S: Final = 2 * TAKEN_S
"""A worker that cannot look after a search leaves it alone for so long, so that another one gets it."""

logger = logging.getLogger(__name__)


@final
class Searches:
    """Looks after searches that no other worker looks after. Nothing is done twice where two do so at once.

    Args:
        store: where jobs are kept.
        wake: wakes a worker for a job.
        worker_name: who looks after them here.
    """

    def __init__(self, store: JobStore, wake: Callable[[Waiting], None], worker_name: str) -> None:
        self._store, self._wake, self._worker = store, wake, worker_name
        self._sweeps, self._searches = SweepStore(store), SearchStore(store.keyspace, worker_name)
        self._pursuits: dict[str, Pursuit] = {}

    def attend(self) -> float:
        """Has searches go on. Returns the seconds after which to look again.

        Raises:
            StoreUnavailable: the job store does not serve.
        """
        taken = self._searches.take(TAKEN_S)
        self._pursuits = {sweep_id: pursuit for sweep_id, pursuit in self._pursuits.items() if sweep_id in taken}
        if taken and not _has_sampler():
            return self._leave(taken)
        begun = time.monotonic()
        for sweep_id in taken:
            self._look_after(sweep_id)
        return min(max(LOOK_EVERY_S, (time.monotonic() - begun) / SHARE), LONGEST_PAUSE_S)

    def _look_after(self, sweep_id: str) -> None:
        try:
            sweep = self._sweeps.get(sweep_id)
            for call in self._pursuit(sweep).advance(sweep):
                self._wake(call)
        except SweepNotFound:
            logger.info("search %s was deleted", sweep_id)
        except (SweepUnreadable, ValidationError) as error:
            logger.warning("search %s cannot go on here: %s", sweep_id, error)

    def _pursuit(self, sweep: Sweep) -> Pursuit:
        if sweep.id not in self._pursuits:
            self._pursuits[sweep.id] = Pursuit(self._store, self._searches, sweep)
        return self._pursuits[sweep.id]

    def _leave(self, sweep_ids: Iterable[str]) -> float:
        """Says why searches do not go on here, and leaves them to others."""
        note = _no_sampler(self._worker)
        logger.error("%s", note.message)
        for sweep_id in sweep_ids:
            with suppress(SweepNotFound, SweepUnreadable):
                if progress := self._sweeps.get(sweep_id).search:
                    self._searches.tell(sweep_id, progress.model_copy(update={"note": note}))
        return LEFT_S


def _has_sampler() -> bool:
    try:
        import worker.sampling  # noqa: F401  (which takes a second, for the first search)
    except ModuleNotFoundError:
        return False
    return True


def _no_sampler(worker_name: str) -> Reason:
    return Reason(
        code="no_sampler",
        message=f"worker {worker_name} cannot add trials, for it has no Optuna; on its machine, run "
        "`pip install 'reinmax-service[search]'`, then start it anew",
    )
