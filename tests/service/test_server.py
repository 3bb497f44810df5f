"""The API as a process: what it loads, what it refuses, how it ends."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.service.processes import ROOT, running_api, start_api

BODY = {"task": "categorical_vae", "estimator": "reinmax", "tau": 1.3}

WITHOUT_NUMERICS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "scipy", "safetensors", "pooch", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from service.server import main
main()
"""


def test_the_api_does_its_work_where_torch_cannot_be_imported(redis_database: str, tmp_path: Path) -> None:
    with (
        running_api(tmp_path, ("-c", WITHOUT_NUMERICS), redis_url=redis_database) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        job = client.post("/v1/jobs", json=BODY).raise_for_status().json()
        assert client.get(f"/v1/jobs/{job['id']}").json() == job
        for path in (
            "/v1/estimators",
            "/v1/tasks",
            "/v1/datasets",
            "/v1/presets",
            "/v1/workers",
            "/openapi.json",
            "/docs",
            "/metrics",
        ):
            client.get(path).raise_for_status()


def test_celery_is_not_loaded_by_importing_the_application() -> None:
    script = "import service.app, sys; sys.exit(bool({'celery', 'kombu', 'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, ["0.0.0.0", "REINMAX_API_KEYS", "REINMAX_HOST to 127.0.0.1"]),
        ({"host": "::"}, ["REINMAX_API_KEYS"]),
        ({"host": "203.0.113.7", "api_keys": "some-secret-key"}, ["203.0.113.7", "REINMAX_HOST"]),
        ({"artifacts_url": "nowhere://bucket"}, ["nowhere"]),
        ({"port": "none"}, ["REINMAX_PORT", "none"]),
    ],
)
def test_a_start_that_is_not_safe_or_not_possible_is_refused_with_a_remedy(
    redis_url: str, tmp_path: Path, settings: dict[str, str], words: list[str]
) -> None:
    process = start_api(tmp_path, redis_url=redis_url, **settings)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" not in output
    for word in words:
        assert word in output


def test_a_taken_port_is_named(redis_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start_api(tmp_path, redis_url=redis_url, port=port)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"127.0.0.1:{port}" in output
    assert "REINMAX_PORT" in output


def test_without_a_server_it_brings_its_own_and_finds_its_jobs_again(tmp_path: Path) -> None:
    with running_api(tmp_path) as url:
        job = httpx.post(f"{url}/v1/jobs", json=BODY, timeout=30).raise_for_status().json()
    with running_api(tmp_path) as url:
        assert httpx.get(f"{url}/v1/jobs/{job['id']}", timeout=30).raise_for_status().json()["id"] == job["id"]


def test_told_to_stop_it_answers_those_who_wait_and_ends(redis_database: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with running_api(tmp_path, redis_url=redis_database) as url:
            job = httpx.post(f"{url}/v1/jobs", json=BODY, timeout=30).json()
            held = pool.submit(httpx.get, f"{url}/v1/jobs/{job['id']}?wait=60", timeout=60)
            time.sleep(0.5)
            begin = time.monotonic()
        assert time.monotonic() - begin < 20, "of the 60 seconds that the request would have waited"
        assert held.result().json()["status"] == "queued"
