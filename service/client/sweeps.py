"""Calls about sweeps: grids of jobs over seeds."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import httpx

from service.answers import SweepPage, SweepPreview
from service.client.asking import Asking
from service.client.exchange import Call, Exchange, answered, endpoint
from worker.sweep import ENDED, Sweep
from worker.sweep_request import SweepRequest

LONGEST_HOLD_S: Final = 30.0
BETWEEN_LOOKS_S: Final = 0.25
"""The jobs of a sweep may end faster than anybody wants to know."""
JSON: Final = {"Content-Type": "application/json"}


class SweepNotFinished(TimeoutError):
    """A sweep took longer than its caller wanted to wait."""


class SweepEndpoints(Asking):
    """The calls about sweeps, which are named by their id."""

    @endpoint
    def submit_sweep(
        self, request: SweepRequest | Mapping[str, object], *, idempotency_key: str | None = None
    ) -> Exchange[Sweep]:
        """Queues a job for each cell of a grid and each seed, all of them or none.

        Args:
            request: the sweep, such as `{"base": {...}, "grid": {"estimator": [...]}, "seeds": 10}` or
                `{"preset": "table-2"}`.
            idempotency_key: submissions with the same key make one sweep. Without one every call gets a key of its
                own, so that its repetitions after a lost connection make one sweep too.

        Raises:
            InvalidRequest: something in it does not fit; every mistake is named.
        """
        headers = JSON | {"Idempotency-Key": f'"{idempotency_key or uuid.uuid4()}"'}
        response = yield from self._answer("POST", "/v1/sweeps", headers=headers, body=_json(request))
        return Sweep.model_validate_json(response.content)

    @endpoint
    def preview_sweep(self, request: SweepRequest | Mapping[str, object]) -> Exchange[SweepPreview]:
        """What `submit_sweep` would make, and how long it would take; nothing is queued.

        Raises:
            InvalidRequest: something in it does not fit; every mistake is named.
        """
        params = {"dry_run": "true"}
        response = yield from self._answer("POST", "/v1/sweeps", params=params, headers=JSON, body=_json(request))
        return SweepPreview.model_validate_json(response.content)

    @endpoint
    def get_sweep(self, sweep_id: str) -> Exchange[Sweep]:
        """The sweep as it stands."""
        response = yield from self._answer("GET", _path(sweep_id))
        return Sweep.model_validate_json(response.content)

    @endpoint
    def wait_for_sweep(self, sweep_id: str, *, timeout_s: float | None = None) -> Exchange[Sweep]:
        """The sweep once all of its jobs have succeeded, failed or been cancelled.

        Raises:
            SweepNotFinished: it takes longer than `timeout_s`.
        """
        deadline = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
        response = yield from self._answer("GET", _path(sweep_id))
        sweep = Sweep.model_validate_json(response.content)
        while sweep.status not in ENDED:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise SweepNotFinished(f"{sweep_id} is {sweep.status} at {sweep.percent} %; wait for it once more")
            response = yield from self._sweep_changed(sweep_id, response.headers["ETag"], min(left_s, LONGEST_HOLD_S))
            if response.status_code != httpx.codes.NOT_MODIFIED:
                sweep = Sweep.model_validate_json(response.content)
        return sweep

    @endpoint
    def sweep_page(self, *, limit: int = 50, cursor: str | None = None) -> Exchange[SweepPage]:
        """Some of the sweeps, newest first; `cursor` is the `next_cursor` of the page before."""
        params: dict[str, str | int] = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        response = yield from self._answer("GET", "/v1/sweeps", params=params)
        return SweepPage.model_validate_json(response.content)

    @endpoint
    def cancel_sweep(self, sweep_id: str) -> Exchange[Sweep]:
        """Ends the jobs of the sweep that have not ended; those that run save a checkpoint first."""
        response = yield from self._answer("POST", f"{_path(sweep_id)}/cancel")
        return Sweep.model_validate_json(response.content)

    @endpoint
    def retry_sweep(self, sweep_id: str) -> Exchange[Sweep]:
        """Has the jobs of the sweep that failed or were cancelled wait again, to go on from their checkpoints."""
        response = yield from self._answer("POST", f"{_path(sweep_id)}/retry")
        return Sweep.model_validate_json(response.content)

    @endpoint
    def extend_sweep(self, sweep_id: str, seeds: int | Sequence[int]) -> Exchange[Sweep]:
        """Gives every cell the seeds that it has not yet, or no more, of so many from 0 on or of a list.

        Raises:
            InvalidRequest: a seed stands in the list twice, or the sweep would have too many jobs.
        """
        body = json.dumps({"seeds": seeds if isinstance(seeds, int) else list(seeds)}).encode()
        response = yield from self._answer("POST", f"{_path(sweep_id)}/extend", headers=JSON, body=body)
        return Sweep.model_validate_json(response.content)

    @endpoint
    def delete_sweep(self, sweep_id: str) -> Exchange[None]:
        """Removes a sweep that has ended, with all of its jobs.

        Raises:
            Conflict: it has not ended.
        """
        while (yield from self._answer("DELETE", _path(sweep_id))).status_code == httpx.codes.ACCEPTED:
            pass  # some of its jobs are left

    def _sweep_changed(self, sweep_id: str, etag: str, hold_s: float) -> Exchange[httpx.Response]:
        """The sweep when it is no longer as it was under that tag, or a 304 after `hold_s` seconds."""
        call = Call(
            "GET",
            _path(sweep_id),
            params={"wait": f"{hold_s:.3f}"},
            headers={"If-None-Match": etag},
            hold_s=hold_s,
            pause_s=min(hold_s, BETWEEN_LOOKS_S),
        )
        return answered(call, self._patience_s)


def _path(sweep_id: str) -> str:
    return f"/v1/sweeps/{quote(sweep_id, safe='')}"


def _json(request: SweepRequest | Mapping[str, object]) -> bytes:
    return json.dumps(request.written if isinstance(request, SweepRequest) else request).encode()
