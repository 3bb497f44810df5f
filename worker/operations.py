"""The application that Celery's own tools ask for: `celery -A worker.operations status`, `inspect`, `control`, Flower.

The server is that of `REINMAX_REDIS_URL`, or else the embedded one that runs for `REINMAX_STATE_DIR`.
"""

from __future__ import annotations

from celery import Celery
from celery.signals import celeryd_init

from worker.app import NoServerRuns, application, server_address
from worker.settings import InvalidSettings, Settings


def _application() -> Celery:
    try:
        return application(server_address(Settings()))
    except (InvalidSettings, NoServerRuns) as error:
        # Celery would show any other exception with its traceback.
        raise SystemExit(str(error)) from None


@celeryd_init.connect
def _refuse_to_work(**_: object) -> None:
    raise SystemExit("A worker of Celery's own would take messages, but train nothing. Use: python -m worker")


app = _application()
