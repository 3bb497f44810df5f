"""Tables of jobs for people: what tells jobs apart, and what is left in a narrow terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from service.commands.job_table import JobTable, job_board, job_list
from service.commands.titles import titles
from worker.jobs import Job, JobProgress, State
from worker.submission import Submission


def job(name: str | None = None, **spec: Any) -> Job:
    submission = Submission.model_validate({"task": "polynomial", "estimator": "reinmax", "steps": 100} | spec)
    return Job(
        id="job_0190a000-0000-7000-8000-000000000000",
        status=State.RUNNING,
        spec=submission.run_spec(),
        name=name,
        hardware=submission.hardware,
        queue="any",
        max_attempts=3,
        progress=JobProgress(step=5, steps=100, percent=5.0, rate=None, eta_s=None),
        metrics={"expected_loss": 0.25},
        created_at=datetime.now(UTC),
    )


def printed(table: JobTable, width: int) -> list[str]:
    out = StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


class TestTitles:
    def test_a_job_alone_is_its_task_and_estimator(self) -> None:
        assert list(titles([job(seed=7)])) == ["polynomial · reinmax"]

    def test_jobs_that_are_alike_say_in_what_they_differ(self) -> None:
        found = titles([job(seed=0), job(seed=1), job(seed=1, tau=1.5), job(estimator="rloo", seed=3)])
        assert list(found) == [
            "polynomial · reinmax seed=0 tau=1.0",
            "polynomial · reinmax seed=1 tau=1.0",
            "polynomial · reinmax seed=1 tau=1.5",
            "polynomial · rloo",
        ]

    def test_a_setting_that_only_some_have_is_left_out_for_the_others(self) -> None:
        found = titles([job(optimizer="sgd"), job(optimizer={"name": "adam", "lr": 0.5})])
        first, second = found
        assert "sgd" in first and "momentum=" in first
        assert "adam" in second and "momentum" not in second

    def test_a_name_comes_before_what_the_job_trains(self) -> None:
        assert list(titles([job("mine"), job("mine", seed=2), job("yours")])) == ["mine seed=0", "mine seed=2", "yours"]

    def test_of_many_settings_the_first_are_told(self) -> None:
        other = {"task": {"name": "polynomial", "latents": 64, "p": 3, "c": 0.3}, "steps": 50, "seed": 4, "tau": 2}
        first, second = titles([job(), job(**other)])
        assert first.startswith("polynomial · reinmax seed=0 ") and first.endswith(" …")
        assert second.count("=") == 5


class TestWidth:
    @pytest.mark.parametrize(
        ("width", "columns"),
        [
            (200, ["job", "what", "status", "steps", "objective", "created"]),
            (118, ["job", "what", "status", "steps", "objective"]),
            (95, ["job", "what", "status", "steps"]),
            (80, ["job", "what", "status"]),
        ],
    )
    def test_columns_go_so_that_ids_and_words_stay_whole(self, width: int, columns: list[str]) -> None:
        made = [job(seed=seed, tau=tau) for seed in (0, 1) for tau in (1.25, 1.5)]
        head, *lines = printed(job_list(made), width)
        assert head.split() == columns
        assert sum(made[0].id in line for line in lines) == 4
        words = " ".join(" ".join(lines).replace(made[0].id, "").split())
        assert "…" not in words
        assert words.count("seed=1") == 2

    def test_a_list_of_nothing_has_its_head(self) -> None:
        assert printed(job_list([]), 80)[0].split()[:3] == ["job", "what", "status"]

    @pytest.mark.parametrize(
        ("width", "columns"),
        [
            (140, ["what", "status", "progress", "%", "steps/s", "left", "objective"]),
            (110, ["what", "status", "%", "steps/s", "left", "objective"]),
            (82, ["what", "status", "%", "objective"]),
            (66, ["what", "status", "%"]),
        ],
    )
    def test_who_watches_sees_a_line_a_job_and_what_is_left_is_whole(self, width: int, columns: list[str]) -> None:
        made = [job(seed=seed, tau=tau) for seed in (0, 1) for tau in (1.25, 1.5)]
        head, *lines = printed(job_board(made), width)
        assert head.split() == columns
        assert len(lines) == 4
        assert all("running" in line and " 5 " in f"{line} " and "…" not in line for line in lines)

    def test_a_long_title_is_cut_where_jobs_are_watched(self) -> None:
        _, line = printed(job_board([job("n" * 200)]), 100)
        assert "nnn… " in line
