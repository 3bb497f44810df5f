"""A file on its way from the service to this machine."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, Self

import httpx

from service.client.errors import ServiceError
from worker.jobs import Artifact

PART_BYTES: Final = 8 * 2**20


class ArtifactNotFound(ServiceError):
    """The job has left no file of that name."""


class DownloadCorrupt(ServiceError):
    """What was received is not what the job left."""


def find(artifacts: Sequence[Artifact], name: str, job_id: str) -> Artifact:
    """The artefact of that name.

    Raises:
        ArtifactNotFound: there is none; the message names those that exist.
    """
    for artifact in artifacts:
        if artifact.name == name:
            return artifact
    names = ", ".join(artifact.name for artifact in artifacts) or "none so far"
    raise ArtifactNotFound(f"{job_id} has no artefact {name!r}; it has: {names}")


class PartialFile:
    """A download beside its target, which it replaces when it is complete and verified; removed otherwise.

    Args:
        artifact: what is downloaded.
        to: the target file, or the folder it goes into under its own name.
    """

    def __init__(self, artifact: Artifact, to: Path) -> None:
        self.received = 0
        self._artifact = artifact
        self._target = to / Path(artifact.name).name if to.is_dir() else to
        self._draft = self._target.with_name(f".{self._target.name}.{uuid.uuid4().hex}.part")
        self._digest = hashlib.sha256()
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        self._file = self._draft.open("xb")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)

    @property
    def is_complete(self) -> bool:
        """Whether as many bytes are there as there should be."""
        return self.received >= self._artifact.bytes

    @property
    def next_range(self) -> dict[str, str]:
        """The header that asks for the next part."""
        return {"Range": f"bytes={self.received}-{self.received + PART_BYTES - 1}"}

    def add(self, response: httpx.Response) -> None:
        """Takes in the answer to a request for the next part.

        Raises:
            DownloadCorrupt: it is empty.
        """
        if not response.content:
            raise self._corrupt("the service sent nothing more")
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            self._begin_anew()
        self._file.write(response.content)
        self._digest.update(response.content)
        self.received += len(response.content)

    def finish(self) -> Path:
        """Puts the file in its place; returns its path.

        Raises:
            DownloadCorrupt: the content is not that of the artefact.
        """
        if self._digest.hexdigest() != self._artifact.sha256:
            raise self._corrupt(f"its sha256 is {self._digest.hexdigest()}, expected {self._artifact.sha256}")
        self._file.close()
        os.replace(self._draft, self._target)
        return self._target

    def _begin_anew(self) -> None:
        # Something between here and the service does not know ranges and sends the whole file.
        self._file.truncate(0)
        self._file.seek(0)
        self._digest, self.received = hashlib.sha256(), 0

    def _corrupt(self, finding: str) -> DownloadCorrupt:
        return DownloadCorrupt(
            f"{self._artifact.name} should have {self._artifact.bytes} bytes; after {self.received}, {finding}. "
            "Download it again; if that does not help, the stored file is damaged."
        )
