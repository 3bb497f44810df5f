"""Looks at what became of the jobs of a campaign, and keeps the traces of those of which a promise was broken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tests.acceptance.chaos.calls import Caller
from tests.acceptance.chaos.campaign import Campaign
from tests.acceptance.chaos.faults import Kind, as_json
from tests.acceptance.chaos.figures import KILLS, repeated_work, restarts, summary
from tests.acceptance.chaos.promises import Evidence, broken_promises, gather
from tests.acceptance.chaos.stack import Stack
from tests.acceptance.chaos.undisturbed import Undisturbed
from worker.jobs import TERMINAL

SLACK_S = 2.0
"""From the end of a lease to the next start of the job."""
SAVING_S = 1.0
"""A checkpoint may come so much late: a step, the points before it, and the save itself."""
Report: TypeAlias = dict[str, Any]


class Review:
    """A campaign that is over, its stack still up.

    Args:
        campaign: the one.
        stack: what it was waged on.
        caller: over HTTP.
        expected: what each spec comes to undisturbed, in the order of the orders' numbers, which repeat it.
        folder: where traces are kept.
    """

    def __init__(
        self, campaign: Campaign, stack: Stack, caller: Caller, expected: list[Undisturbed], folder: Path
    ) -> None:
        self._campaign, self._stack, self._caller = campaign, stack, caller
        self._expected, self._folder = expected, folder
        self._artifacts = Path(stack.settings.artifacts_url)
        store = stack.store(10.0)
        self._found = {job: gather(store, order, job) for job, order in campaign.accepted.items()}
        self._faults = campaign.saboteur.done
        self._restarts = list(restarts(self._faults, self._found, stack))
        self._repeated = list(repeated_work(self._faults, self._found, stack))

    def broken(self) -> list[str]:
        """What does not hold, a sentence each."""
        sentences = [*self._of_all(), *self._of_jobs(), *self._of_times()]
        if sentences:
            (self._folder / "faults.jsonl").write_text(as_json(self._faults))
        return sentences

    def report(self) -> Report:
        """The figures."""
        stack, caller, workers = self._stack, self._caller, self._stack.workers
        messages, begun = (sum(getattr(worker, name) for worker in workers) for name in ("messages", "begun"))
        logs = [evidence.log for evidence in self._found.values()]
        epochs = [evidence.job.epoch for evidence in self._found.values()]
        lost = [self._lost_s(kind) for kind in KILLS]
        return {
            "jobs": {
                "accepted": len(self._found),
                **Counter(str(evidence.job.status) for evidence in self._found.values()),
                "attempts": sum(epochs),
                "most attempts of a job": max(epochs, default=0),
            },
            "faults": dict(Counter(str(fault.kind) for fault in self._faults)) | {"in all": len(self._faults)},
            "server outages": summary(end - begin for begin, end in stack.outages),
            "restart after a kill, s": {str(kind): figures for kind, figures in zip(KILLS, lost, strict=True)},
            "second starts prevented": {
                "messages that found nothing to do": messages - begun,
                "attempts fenced off": sum(worker.fenced for worker in workers),
                "submissions answered with the job that was there": caller.count["replayed"],
            },
            "requests": {name: caller.count[name] for name in ("repeated", "refused", "unanswered")},
            "work repeated a kill": {
                "steps": summary(repeated.steps for repeated in self._repeated),
                "seconds": summary(r.seconds for r in self._repeated if r.seconds is not None),
                "seconds, server there": summary(
                    r.seconds for r in self._repeated if r.seconds is not None and r.is_alone
                ),
                "checkpoint interval": stack.settings.checkpoint_interval_s,
            },
            "checkpoints": {
                "damaged": sum(fault.kind is Kind.TEAR_CHECKPOINT for fault in self._faults),
                "passed over": sum(log.count(" is not used: ") for log in logs),
                "saved": sum(event.kind == "checkpoint" for e in self._found.values() for event in e.events),
            },
            "drain of a worker, s": summary(
                life.ended - life.leaving
                for worker in workers
                for life in worker.lives
                if any(f.kind is Kind.DRAIN_WORKER and abs(f.at - life.leaving) < 1 for f in self._faults)
            ),
            "files that no record names": self._leftovers(),
        }

    def _of_all(self) -> Iterator[str]:
        """Promises about the jobs as a whole."""
        for job_id in self._campaign.twice:
            yield f"{job_id}: two keys should make two jobs, but both were answered with this one"
        listed, cursor = set(), None
        while True:
            page = self._caller.ask("GET", "/v1/jobs", params={"limit": 200} | ({"cursor": cursor} if cursor else {}))
            listed |= {job["id"] for job in page.json()["data"]}
            if not (cursor := page.json()["next_cursor"]):
                break
        for job_id in listed ^ set(self._found):
            yield f"{job_id}: accepted jobs and listed ones should be the same, but this is one of the two only"
        if missing := self._campaign.wanted - len(self._found):
            yield f"every submission should be accepted, but {missing} were not: {self._campaign.error!r}"
        yield from self._campaign.saboteur.errors()

    def _of_jobs(self) -> Iterator[str]:
        for job_id, evidence in self._found.items():
            expected = self._expected[evidence.order.number % len(self._expected)]
            may_be_cancelled = job_id in self._campaign.saboteur.cancelled
            sentences = list(
                broken_promises(evidence, expected, self._artifacts, self._caller, may_be_cancelled=may_be_cancelled)
            )
            if sentences:
                self._keep(evidence)
            yield from (f"{job_id}: {sentence}" for sentence in sentences)

    def _of_times(self) -> Iterator[str]:
        limit_s = self._stack.settings.lease_s + SLACK_S
        for restart in self._restarts:
            if restart.is_alone and restart.counted_s > limit_s:
                self._keep(self._found[str(restart.fault.job)])
                yield (
                    f"{restart.fault.job}: {restart.fault.kind} at {restart.fault.at:.2f} should be followed by "
                    f"another attempt within {limit_s:g} s of a free worker, but that took {restart.counted_s:.2f} s"
                )
        limit_s = self._stack.settings.checkpoint_interval_s + SAVING_S
        for repeated in self._repeated:
            if repeated.is_alone and (repeated.seconds or 0) > limit_s:
                self._keep(self._found[str(repeated.fault.job)])
                yield (
                    f"{repeated.fault.job}: {repeated.fault.kind} at {repeated.fault.at:.2f} should repeat no more "
                    f"than {limit_s:g} s of work, but {repeated.steps} steps were about {repeated.seconds:.2f} s"
                )

    def _lost_s(self, kind: Kind) -> Mapping[str, Any]:
        mine = [restart for restart in self._restarts if restart.fault.kind is kind]
        return {
            "with a free worker": summary(restart.counted_s for restart in mine if restart.is_alone),
            "amid other faults too": summary(restart.counted_s for restart in mine),
            "until it waits again": summary(restart.queued_s for restart in mine),
            "behind other jobs too": summary(restart.waited_s for restart in mine),
        }

    def _leftovers(self) -> dict[str, int]:
        named = {
            str(self._artifacts / job_id / str(evidence.job.epoch) / file.name)
            for job_id, evidence in self._found.items()
            for file in evidence.files
        }
        ended = (job_id for job_id, evidence in self._found.items() if evidence.job.status in TERMINAL)
        files = [path for job_id in ended for path in (self._artifacts / job_id).rglob("*") if path.is_file()]
        left = [path for path in files if str(path) not in named]
        return {"files": len(left), "bytes": sum(path.stat().st_size for path in left)}

    def _keep(self, evidence: Evidence) -> None:
        """Writes down all that there is of a job."""
        kept = self._folder / "broken" / evidence.job.id
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "record.json").write_text(evidence.job.model_dump_json(indent=2))
        (kept / "log.txt").write_text(evidence.log)
        entries = [{"id": event.id, "kind": event.kind, "data": event.data[:2000]} for event in evidence.events]
        (kept / "events.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
