"""Sweeps as people and programs ask for them: the `reinmax` command and the typed client, against the real API."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service.client import AsyncClient, Client
from service.client.errors import Conflict, InvalidRequest, NotFound
from service.client.sweeps import SweepNotFinished
from service.commands.sweep_views import sweep_view_on
from tests.service.conftest import COMMAND, Run
from tests.service.test_jobs import succeeded
from worker.jobs import State
from worker.store import JobStore
from worker.sweep import Sweep, SweepState
from worker.sweep_request import SweepRequest

GRID: dict[str, Any] = {
    "base": {"task": "polynomial", "steps": 100},
    "grid": {"estimator": ["reinmax", {"name": "gumbel_softmax", "tau": 0.5}], "optimizer.lr": [0.1, 0.2]},
    "seeds": 2,
}


@pytest.fixture
def client(api_url: str, redis_database: str) -> Iterator[Client]:
    with Client(api_url) as client:
        yield client


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "sweep.json").write_text(json.dumps(GRID))
    return "sweep.json"


class TestClient:
    def test_a_sweep_is_submitted_and_got(self, client: Client) -> None:
        sweep = client.submit_sweep(GRID | {"name": "mine"})
        assert (sweep.name, sweep.jobs, sweep.status) == ("mine", 8, SweepState.QUEUED)
        assert client.get_sweep(sweep.id) == sweep
        assert [job.sweep for job in client.list(sweep=sweep.id)] == [sweep.id] * 8
        of_object = client.submit_sweep(SweepRequest.model_validate(GRID))
        assert of_object.request == GRID

    def test_the_same_key_makes_one(self, client: Client) -> None:
        made = [client.submit_sweep(GRID, idempotency_key="mine") for _ in range(2)]
        assert made[0] == made[1]
        assert list(client.list_sweeps()) == made[:1]

    def test_a_preview_queues_nothing(self, client: Client) -> None:
        found = client.preview_sweep(GRID)
        assert (found.cells, found.jobs, found.estimated_s) == (4, 8, None)
        assert found.first[2].coordinates["estimator"] == {"name": "gumbel_softmax", "tau": 0.5}
        assert list(client.list_sweeps()) == []

    def test_mistakes_point_at_cells(self, client: Client) -> None:
        with pytest.raises(InvalidRequest, match="/grid/estimator/0: there is no estimator") as refusal:
            client.submit_sweep(GRID | {"grid": {"estimator": ["reinmx", "rloo"]}})
        assert refusal.value.problem.errors is not None

    def test_changes_and_what_forbids_them(self, client: Client) -> None:
        sweep_id = client.submit_sweep(GRID).id
        with pytest.raises(Conflict):
            client.delete_sweep(sweep_id)
        assert client.extend_sweep(sweep_id, 3).seeds == (0, 1, 2)
        assert client.extend_sweep(sweep_id, [7]).jobs == 16
        assert client.cancel_sweep(sweep_id).status is SweepState.CANCELLED
        assert client.retry_sweep(sweep_id).counts == {State.QUEUED: 16}
        client.cancel_sweep(sweep_id)
        client.delete_sweep(sweep_id)
        with pytest.raises(NotFound):
            client.get_sweep(sweep_id)

    def test_waiting_ends_with_the_sweep(self, client: Client, store: JobStore) -> None:
        sweep = client.submit_sweep(GRID)
        with pytest.raises(SweepNotFinished, match=f"{sweep.id} is queued at 0.0 %"):
            client.wait_for_sweep(sweep.id, timeout_s=0.3)
        jobs = [job.id for job in client.list(sweep=sweep.id)]
        workers = threading.Timer(0.3, lambda: [succeeded(store, job_id) for job_id in jobs])
        workers.start()
        finished = client.wait_for_sweep(sweep.id, timeout_s=30)
        workers.join()
        assert (finished.status, finished.percent) == (SweepState.SUCCEEDED, 100)

    def test_lists_go_on_over_pages(self, client: Client, api_url: str) -> None:
        made = [client.submit_sweep(GRID | {"seeds": [number]}).id for number in range(52)]
        assert [sweep.id for sweep in client.list_sweeps()] == made[::-1]

        async def listed() -> list[str]:
            async with AsyncClient(api_url) as other:
                return [sweep.id async for sweep in other.list_sweeps()]

        assert asyncio.run(listed()) == made[::-1]


def test_a_bar_shows_how_far_a_sweep_is(client: Client, store: JobStore) -> None:
    sweep = client.submit_sweep(GRID | {"name": "mine"})
    succeeded(store, next(client.list(sweep=sweep.id)).id)
    shown = io.StringIO()
    with sweep_view_on(Console(file=shown, force_terminal=True, width=150)) as view:
        view.show(client.get_sweep(sweep.id))
    assert re.search(r"mine.* 12 %.*8 jobs: 7 queued, 1 succeeded; .* left", shown.getvalue())


class TestCommand:
    def test_a_file_makes_a_sweep_and_options_change_it(self, run: Run, client: Client, file: str) -> None:
        done = run(
            "sweep", file, "--seeds", "5,7,9", "--name", "mine", "--label", "study=a", "--hardware", "cpu",
            "--priority", "3", "--json",
        )  # fmt: skip
        sweep = Sweep.model_validate_json(done.stdout)
        assert (sweep.name, sweep.seeds, sweep.jobs, sweep.labels) == ("mine", (5, 7, 9), 12, {"study": "a"})
        job = next(client.list(sweep=sweep.id))
        assert (job.queue, job.priority, job.labels) == ("cpu", 3, {"study": "a"})

    def test_standard_input_and_presets(self, run: Run, client: Client, api_url: str) -> None:
        done = subprocess.run(
            [COMMAND, "sweep", "-", "--json"],
            input=json.dumps(GRID), env={"REINMAX_URL": api_url}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert json.loads(done.stdout)["jobs"] == 8
        preset = json.loads(run("sweep", "--preset", "table-2-smoke", "--seeds", "1", "--json").stdout)
        assert (preset["preset"], preset["seeds"]) == ("table-2-smoke", [0])
        assert len(list(client.list_sweeps())) == 2

    def test_a_preview_is_for_people(self, run: Run, client: Client, file: str) -> None:
        shown = run("sweep", file, "--dry-run").stdout
        assert re.search(r"jobs +8, of 800 steps together", shown)
        assert re.search(r"time +unknown: no job of polynomial with reinmax", shown)
        assert re.search(r"2 +gumbel_softmax tau=0.5 +0.1 +100", shown)
        assert list(client.list_sweeps()) == []

    def test_it_is_followed_to_its_end(self, run: Run, client: Client, store: JobStore, file: str) -> None:
        sweep = client.submit_sweep(GRID, idempotency_key="mine")
        for job in client.list(sweep=sweep.id):
            succeeded(store, job.id)
        done = run("watch", sweep.id)
        assert done.returncode == 0
        assert re.search(rf"{sweep.id} +succeeded +estimator x optimizer.lr +100 %, 8 jobs: 8 succeeded", done.stdout)
        lines = run("watch", sweep.id, "--json").stdout.splitlines()
        assert [json.loads(line)["status"] for line in lines] == ["succeeded"]

    def test_the_commands_of_jobs_take_sweeps(self, run: Run, client: Client, file: str) -> None:
        sweep_id = client.submit_sweep(GRID | {"name": "mine"}).id
        assert "12 queued" in run("extend", sweep_id, "--seeds", "3").stdout
        assert re.search(rf"{sweep_id} +mine +queued +0 +4 +3 +12", run("sweeps").stdout)
        assert "optimizer.lr  0.1, 0.2" in run("show", sweep_id).stdout
        assert len(json.loads(run("list", "--sweep", sweep_id, "--json").stdout)) == 12
        assert "12 cancelled" in run("cancel", sweep_id).stdout
        assert run("watch", sweep_id).returncode == 1
        assert json.loads(run("retry", sweep_id, "--json").stdout)["counts"] == {"queued": 12}
        refused = run("delete", sweep_id)
        assert refused.returncode == 1 and "cancel it first" in refused.stderr
        run("cancel", sweep_id)
        assert "deleted" in run("delete", sweep_id).stdout
        assert list(client.list_sweeps()) == []

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            ((), 2, "--preset"),
            (("none.json",), 2, "none.json"),
            (("sweep.json", "--seeds", "many"), 2, "many"),
            (("--preset", "table-22"), 1, '/preset: there is no preset "table-22"; did you mean "table-2"?'),
        ],
    )
    def test_mistakes_end_it(self, run: Run, file: str, arguments: tuple[str, ...], code: int, message: str) -> None:
        done = run("sweep", *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr
