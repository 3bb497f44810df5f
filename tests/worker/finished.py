"""Jobs that have ended, with all that the worker writes of them."""

from typing import Any

from tests.worker.samples import submission, worker
from tests.worker.states import RESULT
from worker.attempt import Checkpoint
from worker.jobs import Artifact, Environment, JobProgress
from worker.series import Series
from worker.store import JobStore

ENVIRONMENT = Environment(
    versions={"python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.4.6", "reinmax-service": "0.1.0"},
    device="cpu (AMD EPYC)",
    threads=2,
    revision="f38d42796d638468c14545e6d7db5f8fc7930dda",
    data={f"mnist/{part}-idx3-ubyte.gz": "f7ae60f92e00ec6d" * 4 for part in ("train-images", "test-images")},
    deterministic=True,
)
LOSSES = {
    f"{subset}{name}": 207.01345678901234
    for subset in ("", "train_", "test_")
    for name in ("loss", "reconstruction", "kl", "entropy")
}
WHOLE = JobProgress(step=2000, steps=2000, percent=100.0, rate=1004.7553702908727, eta_s=0.0)


def files(prefix: str, *names: str) -> tuple[Artifact, ...]:
    return tuple(Artifact(name=prefix + name, bytes=4336424, sha256="8a71147331e25d94" * 4) for name in names)


def run_like_a_worker(store: JobStore, seed: int, *, points: int = 0, **fields: Any) -> str:
    """Leads a job to success with all that the worker writes of one on images, and some points of each metric."""
    task = {"name": "categorical_vae", "dataset": "mnist"}
    given = {"task": task, "seed": seed, "labels": {"study": "table-2"}, "steps": 2000}
    job_id = store.submit(submission(**given | fields)).job.id
    claim = store.claim(job_id, worker("machine-4711"), 60)
    assert claim is not None
    attempt = claim.attempt
    attempt.start(JobProgress(steps=2000), {}, ENVIRONMENT)
    attempt.log("categorical_vae with reinmax on AMD EPYC: 2000 steps\n")
    curve = Series(list(range(100, 100 + points)), [207.01345678901234] * points)
    attempt.report(dict.fromkeys(LOSSES, curve) if points else {}, WHOLE, LOSSES)
    for step in (800, 1600):
        saved = files(f"checkpoint-{step}-", "model.safetensors", "state.safetensors")
        attempt.save(Checkpoint(epoch=1, step=step, files=saved))
    result = RESULT.model_copy(update={"metrics": LOSSES, "notes": {}})
    left = files("", "model.safetensors", "result.json", "metrics.json", "spec.json", "samples.png")
    attempt.log("done in 2.0 s of training\n")
    attempt.succeed(result, left, WHOLE)
    return job_id
