"""What a data set is, and the places where its files are looked for."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, final

from pydantic import AfterValidator

from reinmax_core.data.file import DataCorrupt, DataFile, sha256_of
from reinmax_core.value import Value

DEFAULT_DIRECTORY = Path("~/.local/share/reinmax")


class DataUnavailable(RuntimeError):
    """A data file is neither on this machine nor to be had from any address."""


class Located(Value):
    """Where a file of a data set lies on this machine."""

    name: str
    """The file's name among those of the data set."""
    read: str
    """Name of the file that is read: the same, or that of an alternative or of a user's file in its place."""
    path: str
    """The copy that is read."""


class DataSource(Value):
    """Where data files are looked for: the data directory, then the mirrors, then the published addresses.

    Among the mirrors, folders come before addresses. A file in a mirror folder is read where it lies;
    only downloads are written to the directory.
    """

    directory: Annotated[Path, AfterValidator(Path.expanduser)] = DEFAULT_DIRECTORY
    """The folder that keeps downloaded files."""

    mirrors: tuple[str, ...] = ()
    """Folders, and http or https addresses of folders, laid out like the directory."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> DataSource:
        """The source that `REINMAX_DATA_DIR` and `REINMAX_DATA_MIRROR` (spaces or commas between mirrors) describe.

        Without a directory, downloads are kept in `reinmax` below `XDG_DATA_HOME`. For use of the library by
        itself: a service hands over a source made from its settings, which mean the same places.
        """
        shared = Path(environment.get("XDG_DATA_HOME", ""))
        # The XDG base directory specification asks to ignore relative paths.
        default = shared / "reinmax" if shared.is_absolute() else DEFAULT_DIRECTORY
        mirrors = environment.get("REINMAX_DATA_MIRROR", "").replace(",", " ").split()
        return cls(directory=Path(environment.get("REINMAX_DATA_DIR") or default), mirrors=tuple(mirrors))

    def located(self, file: DataFile) -> Located | None:
        """The copy that `fetch` would read, if it lies on this machine in full size; its content is not read."""
        for candidate in _with_alternatives(file):
            places = (place for place in self._local_places(candidate.name) if _size(place) is not None)
            if place := next(places, None):
                is_whole = candidate.bytes in (None, _size(place))
                return Located(name=file.name, read=candidate.name, path=str(place)) if is_whole else None
        return None

    def kept(self, name: str) -> Path | None:
        """The path of a user's file of that name below the data directory, or else below a mirror folder, if any."""
        return next((place for place in self._local_places(name) if place.is_file()), None)

    def own(self, name: str) -> Path:
        """The path of a user's file: one of that name below the data directory, or else below a mirror folder.

        There is no published checksum for it, so nothing is fetched from an address.

        Raises:
            DataUnavailable: no folder has it.
        """
        if path := self.kept(name):
            return path
        places = self._local_places(name)
        raise DataUnavailable(
            f"{name!r} should be a file in a data folder of the machine that trains, but there is none at "
            f"{' or '.join(map(str, places))}; put it there, or set REINMAX_DATA_DIR to the folder that has it"
        )

    def fetch(self, file: DataFile) -> Path:
        """The path of a verified copy, downloaded into the directory if this machine has none.

        A file's alternative takes its place if a folder has that one alone. Processes that fetch the same
        file at once share one download.

        Raises:
            DataCorrupt: the copy in the directory is not the published file.
            DataUnavailable: no place has the file; the message says what was tried and what to do.
        """
        return self.found(file)[1]

    def found(self, file: DataFile) -> tuple[DataFile, Path]:
        """The file that `fetch` reads, which may be an alternative, and the path of its verified copy."""
        failures: list[str] = []
        for candidate in _with_alternatives(file):
            if path := self._in_folders(candidate, failures):
                return candidate, path
        for candidate in _with_alternatives(file):
            if path := self._from_addresses(candidate, failures):
                return candidate, path
        size = f" ({file.bytes} bytes)" if file.bytes else ""
        raise DataUnavailable(
            f"{file.name}{size} is neither on this machine nor to be had; tried "
            f"{_without_credentials('; '.join(failures))}. Put the file with {file.checksum} at "
            f"{self.directory / file.name}, or set REINMAX_DATA_MIRROR to a folder or an address that has {file.name}"
        )

    def _local_places(self, name: str) -> tuple[Path, ...]:
        folders = (self.directory, *(Path(mirror).expanduser() for mirror in self.mirrors if "://" not in mirror))
        return tuple(folder / name for folder in folders)

    def _addresses(self, file: DataFile) -> tuple[str, ...]:
        mirrors = (mirror for mirror in self.mirrors if "://" in mirror)
        return (*(f"{mirror.rstrip('/')}/{file.name}" for mirror in mirrors), *file.urls)

    def _in_folders(self, file: DataFile, failures: list[str]) -> Path | None:
        own = self.directory / file.name
        if _size(own) is not None:
            return file.verify(own)
        failures.append(f"{own}: no such file")
        for copy in self._local_places(file.name)[1:]:
            try:
                return file.verify(copy)
            except (OSError, DataCorrupt) as error:
                failures.append(str(error))
        return None

    def _from_addresses(self, file: DataFile, failures: list[str]) -> Path | None:
        from reinmax_core.data.download import Download

        try:
            return Download(file, self.directory / file.name).first_of(self._addresses(file), failures)
        except (OSError, ImportError) as error:
            failures.append(f"a download into {self.directory}: {error}")
            return None


def _with_alternatives(file: DataFile) -> Iterator[DataFile]:
    yield file
    if file.alternative:
        yield from _with_alternatives(file.alternative)


def _without_credentials(text: str) -> str:
    return re.sub(r"(\w+://)[^\s/@]*@", r"\1***@", text)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


class Citation(Value):
    """Whom to name when results on a data set are published."""

    authors: str
    """Names of the authors, as published."""
    title: str
    """Title of the publication."""
    year: int
    """Year of publication."""
    link: str
    """Where it is to be read."""


class Availability(Value):
    """Whether the files of a data set lie on this machine, as their names and sizes tell."""

    available: bool
    """Whether all files are there in full size."""
    missing: tuple[str, ...] = ()
    """Names of the files that are not there in full size, and that cannot be made here either."""
    found: tuple[Located, ...] = ()
    """Where the files lie that are there."""

    reason: str | None = None
    """Why the data set is not available, with the remedy; None if it is."""


class Readable(Value, ABC):
    """Data that a task reads: a published data set, or files of a user."""

    name: str

    @abstractmethod
    def digests(self, source: DataSource) -> dict[str, str]:
        """The SHA-256 of each file that is read, by name: part of what is needed to repeat a run.

        Raises:
            DataUnavailable: a file is neither on this machine nor to be had.
        """


class DataSet(Readable, ABC):
    """A published data set. Its facts are known without any of its files."""

    title: ClassVar[str]
    """The name by which people know the data set."""

    terms: ClassVar[str]
    """Licence, or what is stated in place of one."""

    citation: ClassVar[Citation]

    files: ClassVar[tuple[DataFile, ...]]
    """All that `load` reads, in the order in which it is read."""

    own_files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """By the name of one of `files`, those of a user's files that are read in its place where a data folder has one.

    No checksum of them is known: `load` judges them by their content.
    """

    @abstractmethod
    def load(self, source: DataSource) -> object:
        """The content of the verified files; fetches those that this machine lacks.

        Raises:
            DataCorrupt: a file is not the published one.
            DataUnavailable: a file is neither on this machine nor to be had.
        """

    @final
    def digests(self, source: DataSource) -> dict[str, str]:
        """The SHA-256 of each file that `load` reads, by name: part of what is needed to repeat a run.

        Fetches files as `load` does, and raises as it does. A file that `load` would make anew is not made for this:
        what it will be to the last byte is known.
        """
        return dict(self._digest(file, source) for file in self.files)

    def _digest(self, file: DataFile, source: DataSource) -> tuple[str, str]:
        if own := self.own(file, source):
            return own.read, sha256_of(Path(own.path))
        try:
            found, path = source.found(file)
        except DataUnavailable:
            if file.generated and file.sha256:
                return file.name, file.sha256
            raise
        return found.name, sha256_of(path)

    @final
    def own(self, file: DataFile, source: DataSource) -> Located | None:
        """The user's file that `load` reads in place of this one; None if no data folder has one."""
        found = ((name, source.kept(name)) for name in self.own_files.get(file.name, ()))
        return next((Located(name=file.name, read=name, path=str(path)) for name, path in found if path), None)

    @final
    def availability(self, source: DataSource) -> Availability:
        """Whether `load` would find all files on this machine; takes a few file system calls and reads no content."""
        copies = {file: self.own(file, source) or source.located(file) for file in self.files}
        found = tuple(copy for copy in copies.values() if copy)
        missing = tuple(file for file, copy in copies.items() if copy is None and not file.generated)
        if not missing:
            return Availability(available=True, found=found)
        names = tuple(file.name for file in missing)
        return Availability(available=False, missing=names, found=found, reason=_reason(missing, source))


def _reason(missing: tuple[DataFile, ...], source: DataSource) -> str:
    sizes = [file.bytes for file in missing if file.bytes]
    size = f" ({sum(sizes) / 1e6:.2f} MB)" if sizes else ""
    names = ", ".join(" or ".join(candidate.name for candidate in _with_alternatives(file)) for file in missing)
    return (
        f"{names}{size} should be in {source.directory} or in a mirror folder, "
        f"but {'is' if len(missing) == 1 else 'are'} missing or incomplete; {_remedy(missing)}"
    )


def _remedy(missing: tuple[DataFile, ...]) -> str:
    it = "it" if len(missing) == 1 else "them"
    mirror = f"set REINMAX_DATA_MIRROR to a folder or an address that has {it}"
    if all(file.urls for file in missing):
        return f"the first job that needs {it} downloads {it}, or {mirror}"
    return f"no address publishes {it} in this form, so {mirror}"
