"""The `reinmax` command, run as users run it, against the real API."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from typer.main import get_command

from reinmax_core.run import Result
from service.cli import app
from service.client import Client
from tests.service.conftest import COMMAND, Run
from tests.service.test_jobs import started, succeeded
from tests.worker.samples import progress
from worker.jobs import Job, State
from worker.series import Series
from worker.settings import Settings
from worker.store import JobStore


@pytest.fixture
def client(api_url: str) -> Iterator[Client]:
    with Client(api_url) as client:
        yield client


def test_help_is_there_at_once(run: Run) -> None:
    best = min(_seconds(run, "--help") for _ in range(5))
    assert best < 0.5


def _seconds(run: Run, *arguments: str) -> float:
    began = time.perf_counter()
    assert run(*arguments).returncode == 0
    return time.perf_counter() - began


def test_every_command_takes_json_and_has_a_help() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert {"up", "api", "worker", "submit", "watch", "list", "show", "logs", "metrics", "delete"} <= set(commands)
    assert {"cancel", "pause", "resume", "retry", "sweep", "sweeps", "extend"} <= set(commands)
    for name, command in commands.items():
        assert command.help, name
        assert any("--json" in parameter.opts for parameter in command.params), name


class TestSubmit:
    def test_options_make_the_spec(self, run: Run) -> None:
        done = run(
            "submit", "polynomial", "reinmax", "--tau", "1.5", "--steps", "70", "--set", "task.p=1.5", "--set",
            "optimizer.lr=0.01", "--label", "study=a", "--name", "first", "--priority", "3", "--timeout", "60",
            "--max-attempts", "2", "--max-attempts-by-cause", "oom=1",
            "--max-attempts-by-cause", "error=2", "--hardware", "cpu", "--seed", "4", "--json",
        )  # fmt: skip
        job = Job.model_validate_json(done.stdout)
        assert (job.spec.task.model_dump()["p"], job.spec.optimizer.lr) == (1.5, 0.01)
        assert (job.spec.steps, job.spec.seed) == (70, 4)
        assert job.spec.estimator.model_dump(exclude_defaults=True) == {"tau": 1.5}
        assert (job.labels, job.name, job.queue) == ({"study": "a"}, "first", "cpu")
        assert (job.priority, job.max_attempts, job.timeout_s) == (3, 2, 60)
        assert job.max_attempts_by_cause == {"error": 2, "oom": 1, "timeout": 1, "lost": 2, "diverged": 1}

    def test_a_file_makes_the_spec_and_options_change_it(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "spec.json").write_text('{"task": {"name": "polynomial", "p": 3}, "estimator": "exact"}')
        job = Job.model_validate_json(run("submit", "--file", "spec.json", "--set", "task.c=0.25", "--json").stdout)
        assert job.spec.task.model_dump() | {"p": 3, "c": 0.25} == job.spec.task.model_dump()

    def test_the_same_key_makes_one_job(self, run: Run, client: Client) -> None:
        for _ in range(2):
            assert run("submit", "polynomial", "reinmax", "--idempotency-key", "mine").returncode == 0
        assert len(list(client.list())) == 1

    def test_a_dry_run_queues_nothing(self, run: Run, client: Client) -> None:
        assert "tau=1.0" in run("submit", "polynomial", "reinmax", "--dry-run").stdout
        assert list(client.list()) == []

    def test_mistakes_of_the_spec_are_pointed_at(self, run: Run) -> None:
        done = run("submit", "polynomial", "reinmx")
        assert (done.returncode, done.stdout) == (1, "")
        assert "/estimator: " in done.stderr
        assert "straight_through" in done.stderr

    @pytest.mark.parametrize(
        "arguments",
        [("--set", "steps"), ("--label", "=x"), ("--file", "none.json"), ("--max-attempts-by-cause", "oom")],
    )
    def test_mistakes_of_the_call_end_it(self, run: Run, arguments: tuple[str, str]) -> None:
        done = run("submit", "polynomial", "reinmax", *arguments)
        assert done.returncode == 2
        assert arguments[1] in done.stderr


class TestLooking:
    def test_list_and_show(self, run: Run, client: Client) -> None:
        job = client.submit({"task": "polynomial", "estimator": "reinmax", "name": "mine"})
        client.submit({"task": "polynomial", "estimator": "exact"})
        (listed,) = json.loads(run("list", "--estimator", "reinmax", "--json").stdout)
        assert listed["id"] == job.id
        assert re.search(rf"{job.id} +mine +queued +0 of 8000", run("list").stdout)
        assert "latents=128" in run("show", job.id).stdout
        assert json.loads(run("show", job.id, "--json").stdout)["id"] == job.id

    def test_show_tells_what_numbers_do_not(self, run: Run, client: Client, store: JobStore) -> None:
        job = client.submit({"task": "polynomial", "estimator": "reinmax"})
        notes = {"cell": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", "images": "[some] of them"}
        result = Result(metrics={"loss": 0.5}, best=None, wall_time_s=1.0, peak_memory_mb=512.4, notes=notes)
        started(store, job.id).succeed(result, (), progress(100))
        shown = run("show", job.id).stdout
        assert re.search(r"^peak memory +512 MB *$", shown, re.MULTILINE)
        assert all(re.search(rf"^{name} +{re.escape(note)} *$", shown, re.MULTILINE) for name, note in notes.items())
        assert client.get(job.id).result == result
        assert json.loads(run("show", job.id, "--json").stdout)["result"]["notes"] == notes

    def test_log_and_curves(self, run: Run, client: Client, store: JobStore) -> None:
        job_id = client.submit({"task": "polynomial", "estimator": "reinmax"}).id
        attempt = started(store, job_id)
        attempt.log("épochè\n")
        attempt.report({"loss": Series(list(range(1, 9)), [8.0 - i for i in range(8)])}, progress(8), {"loss": 1.0})
        assert run("logs", job_id).stdout == "épochè\n"
        assert json.loads(run("logs", job_id, "--json").stdout) == {"logs": "épochè\n"}
        assert "█▇▆▅▄▃▂▁" in run("metrics", job_id).stdout
        done = run("metrics", job_id, "--series", "loss", "--json")
        assert done.returncode == 0, done.stderr
        curves = json.loads(done.stdout)
        assert curves["series"]["loss"]["value"] == [8, 7, 6, 5, 4, 3, 2, 1]

    def test_watching_ends_with_the_jobs(self, run: Run, client: Client, store: JobStore) -> None:
        good, bad = (client.submit({"task": "polynomial", "estimator": "reinmax"}).id for _ in range(2))
        succeeded(store, good)
        assert "succeeded" in run("watch", good).stdout
        client.cancel(bad)
        done = run("watch", good, bad, "--json")
        assert done.returncode == 1
        assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["succeeded", "cancelled"]


def test_cancel_and_delete(run: Run, client: Client) -> None:
    job = client.submit({"task": "polynomial", "estimator": "reinmax"})
    assert json.loads(run("cancel", job.id, "--json").stdout)["status"] == State.CANCELLED
    assert "deleted" in run("delete", job.id).stdout
    done = run("show", job.id, "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"] == "NotFound"


def test_pause_resume_and_retry(run: Run, client: Client) -> None:
    job = client.submit({"task": "polynomial", "estimator": "reinmax"})
    assert json.loads(run("pause", job.id, "--json").stdout)["status"] == State.PAUSED
    assert re.search(r"queued.*no_worker", run("resume", job.id).stdout)
    done = run("retry", job.id, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["error"] == "Conflict" and "is queued" in json.loads(done.stderr)["message"]
    client.cancel(job.id)
    assert json.loads(run("retry", job.id, "--json").stdout)["status"] == State.QUEUED
    assert "paused on request" in run("pause", job.id).stdout


def test_no_service_is_told_with_the_remedy(run: Run) -> None:
    done = run("list", REINMAX_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "reinmax up" in done.stderr
    assert "Traceback" not in done.stderr


class TestTrain:
    @pytest.mark.slow
    def test_it_trains_saves_and_goes_on(self, run: Run, tmp_path: Path) -> None:
        done = run("train", "polynomial", "exact", "--steps", "60", "--to", "run", "--json")
        *steps, last = map(json.loads, done.stdout.splitlines())
        assert steps[-1]["step"] == 60
        assert last["result"]["metrics"]["expected_loss"] < 0.2525
        assert (tmp_path / "run" / "model.safetensors").exists()
        again = run("train", "polynomial", "exact", "--steps", "60", "--to", "run", "--resume")
        assert "expected_loss" in again.stdout
        other = run("train", "polynomial", "exact", "--steps", "61", "--to", "run", "--resume")
        assert other.returncode == 1
        assert "another run" in other.stderr

    @pytest.mark.slow
    def test_images_of_ones_own_become_pictures(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        numpy.savez(tmp_path / "data/letters.npz", train_images=numpy.eye(28) * numpy.ones((60, 1, 1)))
        command = ("train", "categorical_vae", "reinmax", "--steps", "2", "--to", "run", "--set", "task.batch=20")
        own = (*command, "--set", "task.dataset=letters.npz")
        done = run(*own, REINMAX_DATA_DIR=str(tmp_path / "data"))
        assert done.returncode == 0, done.stderr
        assert "the last 6 of its 60 images are held out" in done.stderr
        assert "images: the user's own file letters.npz, tested on 6 images\n" in done.stdout
        assert (tmp_path / "run" / "samples.png").read_bytes().startswith(b"\x89PNG")
        refused = run(*own, "--set", "task.image_shape=[14, 14]", REINMAX_DATA_DIR=str(tmp_path / "data"))
        assert refused.returncode == 1
        assert "but has [60, 28, 28]" in " ".join(refused.stderr.split())

    def test_idle_threads_soon_leave_the_cores_to_others(self, tmp_path: Path) -> None:
        script = (
            "import os, sys; from pathlib import Path; from reinmax_core.run import RunSpec; "
            "from service.commands.training import train, view_for; "
            "spec = RunSpec.model_validate({'task': 'polynomial', 'estimator': 'exact', 'steps': 1}); "
            "train(spec, Path('run'), device='cpu', resume=False, view=view_for(as_json=True)); "
            "sys.exit(os.environ['GOMP_SPINCOUNT'] != '1000')"
        )
        own = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=own, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr

    @pytest.mark.slow
    def test_an_interrupted_run_goes_on_to_the_same_end(self, run: Run, tmp_path: Path) -> None:
        arguments = ("train", "polynomial", "reinmax", "--steps", "1500", "--json", "--to")
        assert run(*arguments, "whole").returncode == 0
        with subprocess.Popen(
            [COMMAND, *arguments, "parts"], cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as begun:  # fmt: skip
            assert begun.stdout is not None
            begun.stdout.readline()
            begun.terminate()
            _, said = begun.communicate(timeout=30)
        assert begun.returncode == 1
        assert "--resume" in json.loads(said)["message"]
        assert run(*arguments, "parts", "--resume").returncode == 0
        whole, parts = (tmp_path / folder / "model.safetensors" for folder in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()

    def test_mistakes_of_the_spec_are_pointed_at(self, run: Run) -> None:
        done = run("train", "polynomial", "reinmax", "--tau", "0.5", COLUMNS="400")
        assert done.returncode == 2
        assert "/tau: tau should be greater than or equal to 1; found 0.5" in done.stderr
        done = run("train", "categorical_vae", "reinmax", "--set", "task.prior=learned", COLUMNS="400")
        assert '/task/prior: unknown field "prior"; those that exist are: activation' in done.stderr
        done = run("train", "polynomial", "rloo", "--set", "task.batch=3", COLUMNS="400")
        assert "/estimator: batch is 3" in done.stderr


def test_doctor_looks_at_everything(run: Run) -> None:
    done = run("doctor", "--json", REINMAX_LEASE_S="7", REINMAX_API_KEYS="open-sesame-1")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    subjects = {finding["subject"].partition(":")[0] for finding in report["findings"]}
    assert {"python", "packages", "torch", "server", "folder", "data", "docker", "service"} <= subjects
    assert all(finding["remedy"] for finding in report["findings"] if finding["grade"] != "ok")
    settings = {setting["variable"]: setting for setting in report["settings"]}
    assert len(settings) == len(Settings.model_fields)
    assert (settings["REINMAX_LEASE_S"]["value"], settings["REINMAX_LEASE_S"]["source"]) == ("7.0", "environment")
    assert "open-sesame" not in done.stdout


def test_doctor_lets_a_machine_without_torch_serve_the_api(redis_url: str, tmp_path: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; from service.cli import main; main()"
    told = {"REINMAX_REDIS_URL": redis_url, "REINMAX_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script, "doctor", "--json"]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    (torch,) = (finding for finding in json.loads(done.stdout)["findings"] if finding["subject"] == "torch")
    assert torch["grade"] == "note"
    assert "API" in torch["remedy"]


def test_doctor_says_no_where_the_service_cannot_run(run: Run) -> None:
    done = run("doctor", REINMAX_REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 1
    assert "unset it for a server of our own" in done.stdout


def test_a_bad_variable_is_told(run: Run) -> None:
    done = run("list", REINMAX_PORT="web")
    assert done.returncode == 1
    assert done.stderr.startswith("error: REINMAX_PORT is 'web'")
