"""What lies in the folder of an embedded server: closed to others, and repaired after a crash."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from tests.worker.servers import process_of, read, write
from worker.embedded_server import EmbeddedServer
from worker.server_folder import StateFolderUnusable


def test_the_password_is_required_and_private(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        address, password = server.url.partition("@")[2], server.url.split(":")[2].partition("@")[0]
        with Redis.from_url(f"redis://{address}") as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        process = process_of(server.url)
        assert len(password) == 64
        assert password not in " ".join([*process.cmdline(), *process.environ().values()])
        assert stat.S_IMODE((tmp_path / "server").stat().st_mode) == 0o700
        with_password = [file for file in (tmp_path / "server").iterdir() if file.is_file()]
        with_password = [file for file in with_password if password in file.read_text()]
        assert with_password
        assert {stat.S_IMODE(file.stat().st_mode) for file in with_password} == {0o600}


def newest_file(tmp_path: Path) -> Path:
    return max((tmp_path / "server/data").rglob("*.aof"), key=lambda file: file.stat().st_mtime)


def test_a_half_written_last_command_is_dropped(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        write(server.url, "whole")
        write(server.url, "half")
    os.truncate(newest_file(tmp_path), newest_file(tmp_path).stat().st_size - 3)
    with EmbeddedServer(tmp_path) as server:
        assert read(server.url) == "whole"


def test_garbage_after_the_last_command_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedServer(tmp_path) as server:
        write(server.url, "whole")
    with newest_file(tmp_path).open("ab") as file:
        file.write(bytes(500))
    with EmbeddedServer(tmp_path) as server:
        assert read(server.url) == "whole"
    assert "500 unreadable bytes" in caplog.text
    assert len(list((tmp_path / "server").glob("data-damaged-*"))) == 1


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Takes away, for a moment, what the administrator may do and tests of permissions cannot use."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_cannot_be_written_to_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with (
        ordinary_user(),
        pytest.raises(StateFolderUnusable, match=rf"{tmp_path}.*Permission denied.*REINMAX_STATE_DIR"),
    ):
        EmbeddedServer(tmp_path).__enter__()


def test_a_file_in_place_of_the_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateFolderUnusable, match=r"Not a directory.*another folder"):
        EmbeddedServer(tmp_path / "state").__enter__()


def test_a_folder_name_may_hold_any_character(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / 'with "quotes", spaces, \\ and ümläuts') as server:
        assert read(server.url) is None
