"""What is needed to repeat a run."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import torch

from reinmax_core.data.base import DataSource
from reinmax_core.run import RunSpec
from worker.assignment import Assignment
from worker.jobs import Environment


def environment(spec: RunSpec, device: str, device_name: str, source: DataSource) -> Environment:
    """That of a run in this process.

    Args:
        spec: the run.
        device: "cpu" or "cuda".
        device_name: model of the processor or GPU.
        source: where its data sets were found.
    """
    digests = (data_set.digests(source) for data_set in spec.task.datasets())
    return Environment(
        versions=_versions(),
        device=f"{device} ({device_name})",
        threads=torch.get_num_threads(),
        revision=revision(),
        data={name: digest for known in digests for name, digest in known.items()},
        deterministic=device == "cpu",
    )


def keep_threads(assignment: Assignment) -> None:
    """Has torch share out its work as it did in the attempts before, for the last bit of a sum depends on that.

    Jobs that are to be trained side by side and have begun with unequal numbers of threads cannot all keep theirs.
    """
    begun = [job.before.threads for job in assignment.jobs if job.before and job.checkpoints]
    if begun and assignment.device == "cpu":
        torch.set_num_threads(begun[0])


def _versions() -> dict[str, str]:
    return {"python": python_version()} | {name: version(name) for name in ("torch", "numpy", "reinmax-service")}


@cache
def revision() -> str | None:
    """The git revision of the code, where it runs from a checkout."""
    checkout = Path(__file__).parents[1]
    command = ("git", "-C", str(checkout), "rev-parse", "HEAD")
    if not (checkout / ".git").exists():
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
