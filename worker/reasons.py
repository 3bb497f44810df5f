"""What a job says of the state that it is in, where requests and lost workers have brought it there."""

from __future__ import annotations

from typing import Final

from worker.jobs import Failure, Reason
from worker.submission import Cause

CANCELLED: Final = Reason(code="cancelled", message="cancelled on request")
CANCEL_REQUESTED: Final = Reason(
    code="cancel_requested", message="cancel requested: the training process is saving a checkpoint and ending"
)
PRUNED: Final = Reason(code="pruned", message="cancelled by the search that it is part of: the trial was hopeless")
PRUNE_REQUESTED: Final = Reason(
    code="prune_requested",
    message="the search that it is part of found the trial hopeless: the training process is saving a checkpoint and "
    "ending",
)
PAUSED: Final = Reason(code="paused", message="paused on request; resume it to let it go on from its latest checkpoint")
PAUSE_REQUESTED: Final = Reason(
    code="pause_requested", message="pause requested: the training process is saving a checkpoint and ending"
)
PAUSE_WITHDRAWN: Final = Reason(
    code="resumed", message="it was resumed while it was being paused; the next worker continues"
)

LOST: Final = Failure(type="WorkerLost", message="the worker was not heard of for longer than its lease")
LOST_ONCE: Final = Reason(code="worker_lost", message=f"{LOST.message}; the next worker continues")
LOST_FOR_GOOD: Final = Reason(code=Cause.LOST, message=f"{LOST.message}, in the last attempt")
