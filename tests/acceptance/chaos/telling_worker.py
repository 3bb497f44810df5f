"""A worker like any other, which says when Celery is ready, and when a message came and was dealt with."""

from __future__ import annotations

import sys

from celery.signals import task_postrun, task_prerun, worker_ready

from worker.process import main

READY, BEGINS, ENDS = "chaos: ready", "chaos: message", "chaos: dealt with"

worker_ready.connect(lambda **_: print(READY, flush=True), weak=False)
task_prerun.connect(lambda **_: print(BEGINS, flush=True), weak=False)
task_postrun.connect(lambda **_: print(ENDS, flush=True), weak=False)

if __name__ == "__main__":
    sys.exit(main())
