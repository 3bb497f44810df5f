"""Real training jobs over HTTP, from nothing to a table and a plot, in about two minutes."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from rich.console import Console

from service.client import Client
from service.commands.views import JsonLines, View, follow, view_on
from service.demo.figure import draw
from service.demo.outcome import Outcome
from service.interruption import end_requested
from service.local import LocalStack
from service.process import Listener
from worker.jobs import Job
from worker.settings import Settings

ESTIMATORS: Final[tuple[Mapping[str, object], ...]] = (
    {"name": "reinmax"},
    {"name": "exact"},
    {"name": "gumbel_softmax"},
    # Ten samples instead of the published hundred: the same gradient on average, in a fraction of the time.
    {"name": "gumbel_rao", "samples": 10},
    {"name": "straight_through"},
    {"name": "gapped_straight_through"},
    {"name": "reinforce"},
)
EXPONENTS: Final = (1.5, 2, 3)
TARGET: Final = 0.45
STEPS: Final = 8000
EVALUATE_EVERY: Final = 100
VAE: Final[Mapping[str, object]] = {
    "task": {"name": "categorical_vae", "dataset": "mnist"},
    "estimator": "reinmax",
    # Seed 0 spends the first thousands of steps on the plateau of the mean image.
    "seed": 1,
    "steps": 1500,
    "evaluate_every": 150,
    "name": "MNIST · reinmax",
}
TITLE: Final = "Training through a discrete draw, one line per gradient estimator"
PLOTS: Final = ("demo.png", "demo.svg")


def run(folder: Path, *, workers: int, as_json: bool) -> bool:
    """Starts the service, trains, shows how it goes and what came of it, and stops the service.

    Args:
        folder: where plot and log go.
        workers: jobs that run at a time.
        as_json: print JSON instead of tables.

    Returns:
        Whether all jobs succeeded, but for one whose data no source had.
    """
    console = Console(highlight=False, quiet=as_json)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "service.log").open("w") as log, end_requested() as end:
        outcome = _train(console, JsonLines() if as_json else view_on(console), log, workers, end)
    names = [str(estimator["name"]) for estimator in ESTIMATORS]
    draw(outcome.panels(), names, TITLE, [folder / name for name in PLOTS])
    outcome.show(console)
    console.print(f"\nThe curves are in {folder / PLOTS[0]} and {folder / PLOTS[1]}.")
    if as_json:
        print(json.dumps({"jobs": outcome.rows(), "plots": [str(folder / name) for name in PLOTS]}))
    return outcome.is_good


def specs() -> Iterator[Mapping[str, object]]:
    """The jobs: the longest first, so that no worker is left alone with it at the end."""
    yield VAE
    for estimator in sorted(ESTIMATORS, key=lambda estimator: "samples" not in estimator):
        for p in EXPONENTS:
            yield {
                "task": {"name": "polynomial", "p": p, "c": TARGET},
                "estimator": estimator,
                "steps": STEPS,
                "log_every": EVALUATE_EVERY,
                "evaluate_every": EVALUATE_EVERY,
                "name": f"p = {p:g} · {estimator['name']}",
            }


def _train(console: Console, view: View, log: IO[str], workers: int, end: threading.Event) -> Outcome:
    """What came of the jobs on a service that lives as long as they do."""
    console.print("Starting API, workers and a server of our own ...")
    with (
        tempfile.TemporaryDirectory(prefix="reinmax-demo-") as state,
        LocalStack(_settings(Path(state)), _writer(log), workers=workers) as stack,
        stack.client() as client,
    ):
        console.print(f"The API answers at {stack.url}; its log is {log.name}.")
        _say_what_is_missing(client, console)
        for spec in specs():
            client.submit(spec)
        jobs = follow(lambda: _look(stack, client, end), view)
        return Outcome(jobs, {job.id: client.metrics(job.id) for job in jobs})


def _settings(state_dir: Path) -> Settings:
    """The user's settings, but for those that would reach a service that is there already."""
    artifacts_url = str(state_dir / "artifacts")
    return Settings(state_dir=state_dir, artifacts_url=artifacts_url, redis_url=None, host="127.0.0.1", port=0)


def _writer(log: IO[str]) -> Listener:
    lock = threading.Lock()

    def write(name: str, line: str) -> None:
        with lock:
            log.write(f"{name}: {line}\n")

    return write


def _say_what_is_missing(client: Client, console: Console) -> None:
    for data_set in client.datasets():
        if data_set.name == "mnist" and not data_set.availability.available:
            console.print(
                f"MNIST is not on this machine and will be fetched: {data_set.availability.reason}", style="yellow"
            )


def _look(stack: LocalStack, client: Client, end: threading.Event) -> Sequence[Job]:
    if end.is_set():
        raise KeyboardInterrupt
    stack.tend()
    return tuple(client.list())
