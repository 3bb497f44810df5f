"""A trainer's exact state as two files: the model for users, everything else for the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import OutOfMemoryError, Tensor, nn, random

from reinmax_core.durable_file import make_folder, write_atomically
from reinmax_core.run import RunSpec
from reinmax_core.trainer import Trainer

MODEL, STATE = "model.safetensors", "state.safetensors"
VERSION = 2

Tree: TypeAlias = Any
"""Nested dicts and lists whose leaves are tensors, numbers, strings, booleans or None."""


class CheckpointCorrupt(ValueError):
    """The files of a checkpoint are damaged or do not belong together."""


class CheckpointVersion(ValueError):
    """The checkpoint was written in a format that this version does not read."""


def encode(trainer: Trainer) -> dict[str, bytes]:
    """The trainer's state as files by name.

    `model.safetensors` holds the model's parameters and buffers under their names; spec and step stand
    in its metadata, and equal states give equal bytes. `state.safetensors` holds the rest (optimiser,
    random numbers, step, metrics) and the digest of the model file. No pickle.
    """
    state = trainer.state_dict()
    # A single entry: several would come in an order of their own, and equal models in files of unequal digests.
    run = json.dumps({"spec": json.loads(state["spec"]), "step": state["step"]})
    model = save(_stored(state.pop("model")), metadata={"run": run})
    tensors: dict[str, Tensor] = {}
    skeleton = _take_apart(state, "", tensors)
    about = {"version": VERSION, "model_sha256": _sha256(model), "skeleton": skeleton}
    return {MODEL: model, STATE: save(_stored(tensors), metadata={"checkpoint": json.dumps(about)})}


def restore(trainer: Trainer, files: Mapping[str, bytes]) -> None:
    """Brings a trainer to the state that `encode` saved.

    Raises:
        CheckpointCorrupt: a file is damaged, missing or from another checkpoint.
        CheckpointVersion: the format is of another version; the trainer may have taken up a part of it.
        ValueError: the checkpoint is of another spec.
    """
    about, tensors = _read(files)
    if about["version"] != VERSION:
        raise CheckpointVersion(
            f"the checkpoint has format {about['version']}, this version reads {VERSION}; "
            "continue with the version that wrote it, or start anew"
        )
    if about["model_sha256"] != _sha256(files[MODEL]):
        raise CheckpointCorrupt(f"{MODEL} and {STATE} are from different checkpoints; use the two saved together")
    try:
        state = _put_together(about["skeleton"], tensors)
        trainer.load_state_dict(state | {"model": load(files[MODEL])})
    except OutOfMemoryError:
        raise
    except (KeyError, RuntimeError) as error:
        raise CheckpointVersion(
            f"the checkpoint does not hold what this version needs ({error!r}); "
            "continue with the version that wrote it, or start anew"
        ) from error


def save_to(directory: Path, trainer: Trainer) -> None:
    """Writes the files of `encode` into a directory; each appears whole or not at all."""
    make_folder(directory)
    for name, content in encode(trainer).items():
        write_atomically(directory / name, content)


def restore_from(directory: Path, trainer: Trainer) -> None:
    """Reads back what `save_to` wrote; errors as for `restore`."""
    restore(trainer, {name: (directory / name).read_bytes() for name in (MODEL, STATE)})


def load_model(path: str | Path) -> tuple[RunSpec, nn.Module]:
    """The trained model of a `model.safetensors`, on the CPU and set to evaluation, and the run that it comes from.

    Raises:
        CheckpointCorrupt: the file is damaged, or was not written by `encode`.
        CheckpointVersion: this version has no such task or settings, or makes its model otherwise.
        OSError: the file cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        written, tensors = json.loads(_metadata(content)["run"])["spec"], load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointCorrupt(
            f"{path} should be the {MODEL} of a run, but cannot be read as one ({error!r}); use the file of another"
        ) from error
    try:
        spec = RunSpec.model_validate(written)
        with random.fork_rng(devices=[]):  # initial parameters are drawn, and the caller's generator left as it is
            model = spec.task.model()
        model.load_state_dict(tensors)
    except (ValidationError, RuntimeError) as error:
        raise CheckpointVersion(
            f"{path} holds a model that this version cannot make ({error}); use the version that wrote it"
        ) from error
    return spec, model.eval()


def _read(files: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        return json.loads(_metadata(files[STATE])["checkpoint"]), load(files[STATE])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointCorrupt(
            f"the checkpoint cannot be read ({error!r}); it holds {sorted(files)}; use an earlier one"
        ) from error


def _metadata(content: bytes) -> dict[str, str]:
    """What a safetensors file says of itself: its header is a length of 8 bytes and JSON."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous and without shared memory, as the format demands."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _take_apart(tree: Tree, path: str, tensors: dict[str, Tensor]) -> Tree:
    """The tree with every tensor replaced by its key in `tensors`, as JSON can hold it."""
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return {"tensor": path}
    if isinstance(tree, Mapping):
        return {"items": [[key, _take_apart(value, f"{path}/{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"list": [_take_apart(value, f"{path}/{index}", tensors) for index, value in enumerate(tree)]}
    return {"value": tree}


def _put_together(skeleton: Tree, tensors: Mapping[str, Tensor]) -> Tree:
    kind, content = next(iter(skeleton.items()))
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return {key: _put_together(value, tensors) for key, value in content}
    if kind == "list":
        return [_put_together(value, tensors) for value in content]
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


__all__ = [
    "CheckpointCorrupt",
    "CheckpointVersion",
    "encode",
    "load_model",
    "restore",
    "restore_from",
    "save_to",
    "write_atomically",
]
