"""Kinds of places for artefacts, as far as they differ."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Files: TypeAlias = Any
"""A file system of fsspec, which has no types."""

S3: Final = frozenset({"s3", "s3a"})
BUCKETS: Final = S3 | {"gs", "gcs", "az", "abfs", "adl"}
"""Object stores. They have no folders, and to make one may be to make a bucket, which nobody asked for."""
S3_REQUESTS: Final = {
    # Seconds. Whoever asks decides whether to ask again, and behind an API somebody is waiting.
    "connect_timeout": 3,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 2},
    # Not every server that speaks S3 knows the newer checksums, or knows not to send that of the whole with a part.
    # Whether the bytes are those that were written is told by digests of our own.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
WRITE_S: Final = 20.0
SLOWEST_BYTES_PER_S: Final = 1e6
"""Writing may take WRITE_S, and longer at this rate."""


def connect(url: str) -> tuple[Files, str]:
    """The file system of a URL and the path in it; nothing is asked of a server yet.

    Raises:
        ImportError: the package for this kind of URL is missing.
        ValueError: no such kind is known.
    """
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    scheme, _, _ = url.partition("://")
    files, root = url_to_fs(url, **_options(scheme))
    if scheme in S3:
        files.retries = 1  # a request is made again below that, as S3_REQUESTS says
    return files, root.rstrip("/") or root


def is_local(files: Files) -> bool:
    """Whether files are in folders that this machine sees as its own."""
    return "file" in _kinds(files)


def has_folders(files: Files) -> bool:
    """Whether a folder has to be made before a file is put into it."""
    return not BUCKETS & _kinds(files)


def write(files: Files, path: str, content: bytes) -> None:
    """Writes a file in one go; object stores show it once it is whole.

    Raises:
        OSError, or an error of the library behind the file system: it is not written, or that is not known.
    """
    # The limits of a request do not count while the server is asked whether it wants the bytes at all.
    limit = {"timeout": WRITE_S + len(content) / SLOWEST_BYTES_PER_S} if files.async_impl else {}
    files.pipe_file(path, content, **limit)


def misses_bucket(error: FileNotFoundError) -> bool:
    """Whether it is the bucket that was not found, which no attempt has forgotten to write."""
    response = getattr(error.__cause__, "response", {})
    return bool(response.get("Error", {}).get("Code") == "NoSuchBucket")


def _options(scheme: str) -> dict[str, Any]:
    """What a file system of that kind is to be told, beside what people configure for fsspec themselves."""
    if scheme not in BUCKETS:
        return {}
    # Listings that are kept would not show what other machines have written since.
    listings: dict[str, Any] = {"use_listings_cache": False}
    return listings | {"config_kwargs": S3_REQUESTS | _configured(scheme)} if scheme in S3 else listings


def _configured(scheme: str) -> dict[str, Any]:
    from fsspec.config import conf  # type: ignore[import-untyped]

    return dict(conf.get(scheme, {}).get("config_kwargs", {}))


def _kinds(files: Files) -> set[str]:
    protocol = files.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)
