"""The requests of the README, sent as they stand there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.acceptance.conftest import Service
from tests.test_readme import blocks
from worker.jobs import Job


def matches(found: Any, written: Any) -> bool:
    """Whether an answer has what the README shows of it; ids and texts differ, and fields may be left out."""
    if isinstance(written, dict):
        return all(key in found and matches(found[key], value) for key, value in written.items())
    if isinstance(written, list) and isinstance(found, list):
        return len(found) == len(written) and all(map(matches, found, written))
    return "..." in str(written) or found == written


def answer_to(word: str, service: Service) -> Any:
    """The answer to the README's `curl` that holds the word, sent to the running service."""
    (command,) = (block for block in blocks("sh") if block.startswith("curl") and word in block)
    command = command.replace("http://127.0.0.1:8000", service.stack.url)
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(answer.stdout)


def test_curl_is_answered_as_shown(service: Service) -> None:
    found = answer_to("categorical_vae", service)
    (written,) = (json.loads(block) for block in blocks("json") if '"queued"' in block)
    assert matches(found, written), found
    service.client.cancel(found["id"])
    service.finished(Job.model_validate(found))


def test_mistakes_are_answered_as_shown(service: Service) -> None:
    (written,) = (json.loads(block) for block in blocks("json") if '"errors"' in block)
    found = answer_to("reinmx", service)
    assert matches(found, written), found


def test_the_client_program_runs(service: Service) -> None:
    (program,) = (block for block in blocks("python") if "Client" in block)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "REINMAX_URL": service.stack.url}, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 0.2 < float(done.stdout) < 0.26
