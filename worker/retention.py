"""How long jobs are kept that have ended, and how they are removed with everything that belongs to them."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import final

from worker.artifacts import ArtifactStore, ArtifactStoreUnavailable
from worker.refusal import JobNotFound
from worker.settings import Settings
from worker.store import JobStore
from worker.sweeps import SweepStore

AT_A_TIME = 100
LONGEST_S = 2.0
"""After this the worker has to look after its other duties."""
LOOK_EVERY_S = 60.0
DAY_S = 86_400.0

logger = logging.getLogger(__name__)


def remove(store: JobStore, artifacts: ArtifactStore, job_id: str) -> None:
    """Removes a job that has ended, with all its files.

    The record goes last: if the files cannot be removed, it is still there for another try. Meanwhile nobody
    can bring the job back to life without them.

    Raises:
        JobNotFound: there is none.
        NotAllowed: it has not ended.
        ArtifactStoreUnavailable: its files cannot be removed.
        StoreUnavailable: the job store does not serve.
    """
    store.condemn(job_id)
    artifacts.delete_job(job_id)
    store.delete(job_id)


def remove_sweep(sweeps: SweepStore, artifacts: ArtifactStore, sweep_id: str, patience_s: float) -> bool:
    """Removes a sweep whose jobs have all ended, with them and all their files.

    Args:
        sweeps: where sweeps are kept.
        artifacts: where the files of their jobs are.
        sweep_id: the sweep.
        patience_s: after so long it is left for now, with the jobs that are left.

    Returns:
        Whether it is gone.

    Raises:
        SweepNotFound: there is none.
        SweepNotAllowed: one of its jobs has not ended.
        ArtifactStoreUnavailable: files cannot be removed.
        StoreUnavailable: the job store does not serve.
    """
    sweeps.condemn(sweep_id)
    deadline = time.monotonic() + patience_s
    for doomed in sweeps.doomed(sweep_id):
        sweeps.forget(sweep_id, doomed.idle)
        for job_id in doomed.started:
            artifacts.delete_job(job_id)
            sweeps.forget(sweep_id, (job_id,))
            if time.monotonic() > deadline:
                break
        if time.monotonic() > deadline:
            break
    # Not only for want of time: somebody may have set one going again.
    return next(sweeps.jobs(sweep_id), None) is None


@final
class Retention:
    """Removes the jobs that have ended and are to be kept no longer. Any number of workers may do so at once.

    Args:
        store: where jobs are kept.
        artifacts: where their files are.
        settings: for how long jobs are kept, and how many.
    """

    def __init__(self, store: JobStore, artifacts: ArtifactStore, settings: Settings) -> None:
        self._store, self._artifacts = store, artifacts
        self._keep_s = None if settings.keep_days is None else settings.keep_days * DAY_S
        self._keep_jobs = settings.keep_jobs

    def attend(self) -> float:
        """Removes some of them, oldest first. Returns the seconds after which to look again.

        Raises:
            StoreUnavailable: the job store does not serve.
        """
        if self._keep_s is None and self._keep_jobs is None:
            return LOOK_EVERY_S
        deadline = time.monotonic() + LONGEST_S
        expired = self._store.expired(self._keep_s, self._keep_jobs, AT_A_TIME)
        try:
            for job_id in expired:
                self._remove(job_id)
                if time.monotonic() > deadline:
                    return 0.0
        except ArtifactStoreUnavailable as error:
            logger.warning("jobs that are kept no longer are left for now: %s", error)
            return LOOK_EVERY_S
        return LOOK_EVERY_S if len(expired) < AT_A_TIME else 0.0

    def _remove(self, job_id: str) -> None:
        # Another worker may have been faster.
        with suppress(JobNotFound):
            remove(self._store, self._artifacts, job_id)
            logger.info("job %s was removed: it had ended, and is kept no longer", job_id)
