"""What to call jobs that stand below each other, so that they can be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from worker.jobs import Job

MOST: Final = 5


def title(job: Job) -> str:
    """What a job is, in a few words: its name, or its task and estimator."""
    return job.name or f"{job.spec.task.name} · {job.spec.estimator.name}"


def titles(jobs: Sequence[Job]) -> Iterator[str]:
    """The title of each, and of those with the same title the settings in which they differ."""
    alike: dict[str, list[Mapping[str, str]]] = {}
    settings = [dict(_settings(job.spec.model_dump(mode="json"))) for job in jobs]
    for job, own in zip(jobs, settings, strict=True):
        alike.setdefault(title(job), []).append(own)
    different = {words: _different(group) for words, group in alike.items()}
    for job, own in zip(jobs, settings, strict=True):
        fields = [path for path in different[title(job)] if path in own]
        more = " …" if len(fields) > MOST else ""
        yield " ".join((title(job), *(_shown(path, own[path]) for path in fields[:MOST]))) + more


def _settings(values: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, str]]:
    """All settings by their paths."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{inside}{name}.")
        else:
            yield f"{inside}{name}", str(value)


def _different(group: Sequence[Mapping[str, str]]) -> list[str]:
    """Paths of the settings that not all have alike, in order, the seed first."""
    paths = dict.fromkeys(path for own in group for path in own)
    different = [path for path in paths if len({own.get(path) for own in group}) > 1]
    return sorted(different, key=lambda path: path != "seed")


def _shown(path: str, value: str) -> str:
    name = path.rpartition(".")[2]
    return value if name == "name" else f"{name}={value}"
