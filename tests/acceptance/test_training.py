"""Real jobs through the real service: real processes, real data, the published numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load

from reinmax_core.tasks.categorical_vae import CategoricalVae
from tests.acceptance.conftest import Service
from worker.jobs import Job, State

# Expected loss after the published 8000 steps, from runs of an independent implementation.
ANCHORS = [
    ("reinmax", {}, 0.45, 1.5, 0.3053),
    ("reinmax", {}, "linear", 3.0, 0.0323),
    ("exact", {}, 0.45, 2.0, 0.2027),
    ("rloo", {"samples": 64}, "linear", 1.5, 0.1455),
    ("straight_through", {}, "linear", 2.0, 0.1671),
    ("gumbel_softmax", {"tau": 0.5}, 0.45, 3.0, 0.1149),
    ("gapped_straight_through", {"tau": 0.5}, "linear", 2.0, 0.1203),
]


def polynomial(estimator: str, settings: dict[str, Any], c: Any, p: float) -> dict[str, Any]:
    return {"task": {"name": "polynomial", "c": c, "p": p}, "estimator": {"name": estimator, **settings}}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_polynomial_ends_where_it_is_known_to(service: Service) -> None:
    jobs = [service.client.submit(polynomial(*cell)) for *cell, _ in ANCHORS]
    for job, (estimator, _, c, p, anchor) in zip(jobs, ANCHORS, strict=True):
        ended = service.finished(job)
        assert ended.status is State.SUCCEEDED, ended.error
        assert ended.result is not None
        found = ended.result.metrics["expected_loss"]
        assert found == pytest.approx(anchor, abs=0.002), (estimator, c, p)


@pytest.fixture(scope="module")
def vae_job(service: Service) -> Job:
    """A finished job of 900 steps on MNIST."""
    submitted = service.client.submit(
        {"task": "categorical_vae", "estimator": "reinmax", "tau": 1.3, "hardware": "cpu", "steps": 900, "seed": 7}
    )
    return service.finished(submitted)


def test_a_vae_job_on_mnist_trains_and_improves(service: Service, vae_job: Job) -> None:
    assert vae_job.status is State.SUCCEEDED, vae_job.error
    assert vae_job.environment is not None
    assert "mnist/train-images-idx3-ubyte.gz" in vae_job.environment.data
    test_loss = service.client.metrics(vae_job.id)["test_loss"]
    assert len(test_loss.step) == 10
    assert test_loss.value[-1] < 190 < test_loss.value[0]
    assert vae_job.result is not None
    assert vae_job.result.best is not None
    assert vae_job.result.best.value == min(test_loss.value)


def test_its_model_loads_and_encodes(service: Service, vae_job: Job, tmp_path: Any) -> None:
    artifacts = {artifact.name: artifact for artifact in service.client.artifacts(vae_job.id)}
    model = CategoricalVae().model()
    content = service.client.download(vae_job.id, "model.safetensors", tmp_path / "model.safetensors").read_bytes()
    assert len(content) == artifacts["model.safetensors"].bytes
    model.load_state_dict(load(content))
    logits = model.logits(torch.zeros(1, 784))
    assert logits.shape == (1, 4, 8)
    assert logits.isfinite().all()


def test_it_leaves_pictures(service: Service, vae_job: Job) -> None:
    names = {artifact.name for artifact in service.client.artifacts(vae_job.id)}
    assert {"reconstructions.png", "samples.png"} < names


def test_the_series_have_every_point_once(service: Service, vae_job: Job) -> None:
    series = service.client.metrics(vae_job.id)["loss"]
    assert series.step == list(range(1, 901))
    assert all(value > 0 for value in series.value)


def test_equal_specs_give_equal_models(service: Service) -> None:
    spec = {"task": "polynomial", "estimator": "reinmax", "steps": 300, "seed": 3}
    jobs = [service.finished(service.client.submit(spec)) for _ in range(2)]
    digests = {
        artifact.sha256
        for job in jobs
        for artifact in service.client.artifacts(job.id)
        if artifact.name == "model.safetensors"
    }
    assert len(digests) == 1
