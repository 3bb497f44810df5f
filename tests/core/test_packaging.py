"""What may be imported where: the core needs little, and naming things needs no torch."""

import subprocess
import sys
import textwrap

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run_without(blocked: set[str], program: str) -> str:
    """What the program prints in an interpreter where some packages cannot be imported."""
    source = BLOCKER.replace("BLOCKED", repr(blocked)) + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_core_trains_with_torch_numpy_and_pydantic_alone() -> None:
    others = {
        "celery", "fastapi", "fsspec", "httpx", "kombu", "matplotlib", "pooch", "psutil", "pydantic_settings",
        "redis", "rich", "safetensors", "scipy", "service", "typer", "uvicorn", "worker",
    }  # fmt: skip
    program = """
        import torch
        from reinmax_core import RunSpec, Trainer, reinmax
        draws, probabilities = reinmax(torch.zeros(3, 4), 1.0)
        spec = RunSpec.model_validate({"task": "polynomial", "estimator": "reinmax", "steps": 5})
        print([progress.step for progress in Trainer(spec)])
        """
    assert run_without(others, program) == "[1, 2, 3, 4, 5]\n"


def test_specs_are_validated_without_torch() -> None:
    program = """
        from reinmax_core import RunSpec
        from reinmax_core.data.base import DataSet
        from reinmax_core.value import discover
        spec = RunSpec.model_validate({"task": "categorical_vae", "estimator": "reinmax", "tau": 1.3})
        print(spec.optimizer.lr, "fashion_mnist" in discover(DataSet))
        """
    assert run_without({"torch", "numpy", "safetensors", "pooch"}, program) == "0.0005 True\n"


def test_importing_the_package_loads_next_to_nothing() -> None:
    program = "import reinmax_core, sys; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    assert run_without(set(), program) == "set()\n"
