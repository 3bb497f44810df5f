"""Which searches go on, beside the sweeps that they are."""

from __future__ import annotations

from typing import final

from worker.keyspace import Keyspace
from worker.reasons import PRUNE_REQUESTED, PRUNED
from worker.search import SearchProgress


@final
class SearchStore:
    """What workers that look after searches tell each other. Every method may raise `StoreUnavailable`.

    Args:
        keyspace: of the store of jobs and sweeps.
        worker_name: who looks after them here.
    """

    def __init__(self, keyspace: Keyspace, worker_name: str) -> None:
        self._keyspace, self._worker = keyspace, worker_name

    def take(self, taken_s: float) -> tuple[str, ...]:
        """The ids of the searches that this worker is to look after for the next seconds; no other will."""
        return tuple(self._keyspace.run("sweep_searches", self._worker, round(1000 * taken_s)))

    def tell(self, sweep_id: str, progress: SearchProgress, over_at: int | None = None) -> None:
        """Has the sweep show how far it is. Nothing happens where another worker has taken it meanwhile.

        Args:
            sweep_id: a search that this worker has taken.
            progress: how far it is.
            over_at: the version of the sweep of which that is all that there will be.
        """
        version = "" if over_at is None else over_at
        self._keyspace.run("sweep_searched", sweep_id, self._worker, progress.model_dump_json(), version)

    def prune(self, job_id: str) -> None:
        """Cancels a job of a hopeless trial, unless it has ended."""
        reasons = (PRUNED.model_dump_json(), PRUNE_REQUESTED.model_dump_json())
        self._keyspace.run("cancel", job_id, *reasons)
