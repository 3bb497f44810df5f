"""Where files come from: the directory, mirror folders, real HTTP servers, and several processes at once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import multiprocessing
import os
import pty
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import pytest

from reinmax_core.data import DataCorrupt, DataFile, DataSource, DataUnavailable, download, idx
from reinmax_core.data.mnist import Mnist
from reinmax_core.data.progress import LogLines
from worker.settings import Settings

CONTENT = bytes(range(256)) * 4096


class FileServer(ThreadingHTTPServer):
    """Serves one file at every path, in `pieces` with a pause before each, and counts requests by path."""

    daemon_threads = True

    def __init__(
        self, content: bytes, *, pieces: int = 1, pause_s: float = 0.0, sent_pieces: int | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.pause_s = content, pause_s
        self.length = -(-len(content) // pieces)
        self.sent_pieces = pieces if sent_pieces is None else sent_pieces
        self.requests: Counter[str] = Counter()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        for piece in range(self.server.sent_pieces):
            time.sleep(self.server.pause_s)
            start = piece * self.server.length
            self.wfile.write(self.server.content[start : start + self.server.length])

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output quiet."""


class Serve(Protocol):
    def __call__(
        self, content: bytes = ..., *, pieces: int = ..., pause_s: float = ..., sent_pieces: int | None = ...
    ) -> FileServer: ...


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers: list[FileServer] = []

    def start(
        content: bytes = CONTENT, *, pieces: int = 1, pause_s: float = 0.0, sent_pieces: int | None = None
    ) -> FileServer:
        server = FileServer(content, pieces=pieces, pause_s=pause_s, sent_pieces=sent_pieces)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def published(content: bytes = CONTENT, *urls: str, name: str = "letters/a.gz") -> DataFile:
    sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
    return DataFile(name=name, bytes=len(content), sha256=sha256, md5=md5, urls=urls)


def lay(folder: Path, file: DataFile, content: bytes = CONTENT) -> Path:
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_environment_names_directory_and_mirrors() -> None:
    environment = {"REINMAX_DATA_DIR": "/data", "REINMAX_DATA_MIRROR": "/one, https://two.example/x  /three,"}
    source = DataSource.from_environment(environment)
    assert source == DataSource(directory=Path("/data"), mirrors=("/one", "https://two.example/x", "/three"))
    assert DataSource.from_environment({}) == DataSource()
    assert DataSource().directory == Path.home() / ".local/share/reinmax"
    assert DataSource.from_environment({"XDG_DATA_HOME": "/shared"}).directory == Path("/shared/reinmax")
    assert DataSource.from_environment({"XDG_DATA_HOME": "relative"}) == DataSource()


def test_the_library_and_the_service_look_in_the_same_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("REINMAX_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("REINMAX_DATA_MIRROR", "/one, https://two.example/x  /three")
    settings = Settings()
    service = DataSource(directory=settings.data_dir, mirrors=settings.data_mirror)
    assert DataSource.from_environment() == service


def test_the_directory_comes_before_a_folder_and_a_folder_before_an_address(tmp_path: Path, serve: Serve) -> None:
    server, file = serve(), published()
    source = DataSource(directory=tmp_path / "own", mirrors=(server.address, str(tmp_path / "mirror")))
    copy = lay(tmp_path / "mirror", file)
    assert source.fetch(file) == copy
    assert not source.directory.exists()
    own = lay(tmp_path / "own", file)
    assert source.fetch(file) == own
    assert not server.requests


def test_a_wrong_mirror_folder_is_passed_over(tmp_path: Path, serve: Serve) -> None:
    server, file = serve(), published()
    lay(tmp_path / "mirror", file, b"not this")
    source = DataSource(directory=tmp_path / "own", mirrors=(str(tmp_path / "mirror"), server.address))
    assert source.fetch(file).read_bytes() == CONTENT
    assert server.requests == {"/letters/a.gz": 1}


def test_wrong_bytes_in_the_directory_are_refused_with_the_remedy(tmp_path: Path) -> None:
    file = published()
    own = lay(tmp_path, file, b"x" * len(CONTENT))
    with pytest.raises(DataCorrupt) as refusal:
        DataSource(directory=tmp_path).fetch(file)
    for part in (file.name, file.sha256, str(own), hashlib.sha256(own.read_bytes()).hexdigest(), "delete that copy"):
        assert part in str(refusal.value)


def test_a_file_changed_after_its_first_use_is_verified_again(tmp_path: Path) -> None:
    file, source = published(), DataSource(directory=tmp_path)
    lay(tmp_path, file)
    source.fetch(file)
    lay(tmp_path, file, b"shorter")
    with pytest.raises(DataCorrupt):
        source.fetch(file)


def test_a_download_is_kept_and_leaves_nothing_else(tmp_path: Path, serve: Serve) -> None:
    server = serve()
    file = published(CONTENT, f"{server.address}/published/a.gz")
    source = DataSource(directory=tmp_path)
    first, second = source.fetch(file), source.fetch(file)
    assert first == second == tmp_path / "letters/a.gz"
    assert first.read_bytes() == CONTENT
    assert server.requests == {"/published/a.gz": 1}
    assert not [path.name for path in first.parent.iterdir() if path.suffix == ".part"]


def test_a_real_data_set_can_be_downloaded(tmp_path: Path, serve: Serve) -> None:
    published_source = DataSource.from_environment()
    for file in Mnist.files[2:]:
        server = serve(published_source.fetch(file).read_bytes())
        path = DataSource(directory=tmp_path, mirrors=(server.address,)).fetch(file)
        assert server.requests == {f"/{file.name}": 1}
        assert len(idx.read(path, axes=3 if "images" in file.name else 1)) == 10000


def fetch_in_process(directory: Path, address: str, file: DataFile) -> None:
    assert DataSource(directory=directory, mirrors=(address,)).fetch(file).read_bytes() == CONTENT


def test_processes_that_fetch_at_once_share_one_download(tmp_path: Path, serve: Serve) -> None:
    server, file = serve(pieces=32, pause_s=0.03), published()
    spawn = multiprocessing.get_context("spawn")
    arguments = (tmp_path, server.address, file)
    processes = [spawn.Process(target=fetch_in_process, args=arguments, daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    visible_sizes = set()
    while any(process.is_alive() for process in processes):
        visible_sizes |= {path.stat().st_size for path in tmp_path.glob("letters/[!.]*")}
        time.sleep(0.005)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert server.requests == {"/letters/a.gz": 1}
    assert visible_sizes <= {len(CONTENT)}


def test_a_server_that_dies_in_mid_transfer_gives_way_to_the_next(tmp_path: Path, serve: Serve) -> None:
    dying, other, whole = serve(pieces=4, sent_pieces=2), serve(b"a login page"), serve()
    file = published(CONTENT, f"{whole.address}/a.gz")
    source = DataSource(directory=tmp_path, mirrors=(dying.address, other.address))
    assert source.fetch(file).read_bytes() == CONTENT
    assert sum(dying.requests.values()) == sum(other.requests.values()) == sum(whole.requests.values()) == 1


def test_a_server_that_falls_silent_gives_way_to_the_next(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUTS_S", (0.5, 0.1))
    silent, whole = serve(pieces=2, pause_s=1.0), serve()
    source = DataSource(directory=tmp_path, mirrors=(silent.address, whole.address))
    assert source.fetch(published()).read_bytes() == CONTENT


def test_a_file_that_no_place_has_is_refused_with_all_that_was_tried(tmp_path: Path, serve: Serve) -> None:
    dying, other = serve(pieces=4, sent_pieces=2), serve(b"a login page")
    file = published(CONTENT, f"{other.address}/a.gz", "http://127.0.0.1:9/closed", "no-address")
    source = DataSource(directory=tmp_path / "own", mirrors=(dying.address, str(tmp_path / "mirror")))
    with pytest.raises(DataUnavailable) as refusal:
        source.fetch(file)
    tried = (
        tmp_path / "own/letters/a.gz",
        tmp_path / "mirror/letters/a.gz",
        f"{dying.address}/letters/a.gz",
        *file.urls,
    )
    for part in (file.name, file.sha256, "REINMAX_DATA_MIRROR", "12 bytes", *map(str, tried)):
        assert part in str(refusal.value)
    assert [path.suffix for path in (tmp_path / "own/letters").iterdir()] in ([".lock"], [])


def test_a_directory_that_cannot_be_written_to_is_named(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "own").write_text("a file, not a folder")
    with pytest.raises(DataUnavailable, match=r"a download into .*own: .*Not a directory"):
        DataSource(directory=tmp_path / "own", mirrors=(serve().address,)).fetch(published())


def test_availability_says_what_is_missing_and_reads_nothing(tmp_path: Path) -> None:
    source = DataSource(directory=tmp_path)
    for file in Mnist.files[1:]:
        lay(tmp_path, file, bytes(file.bytes))
    images = lay(tmp_path, Mnist.files[0], b"cut short")
    availability = Mnist().availability(source)
    assert (availability.available, availability.missing) == (False, ("mnist/train-images-idx3-ubyte.gz",))
    assert availability.reason is not None
    assert all(part in availability.reason for part in (str(tmp_path), "9.91 MB", "REINMAX_DATA_MIRROR"))
    images.write_bytes(bytes(Mnist.files[0].bytes))
    assert Mnist().availability(source).available


def test_a_log_line_tells_percent_rate_and_time_left(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        LogLines("a.gz", 1000, interval_s=3600)(250)
        assert not caplog.messages
        LogLines("a.gz", 1000, interval_s=0)(250)
    assert caplog.messages[0].startswith("a.gz: 25 %, ")
    assert caplog.messages[0].endswith(" s left")


def read_to_the_end(terminal: int) -> str:
    shown = b""
    # Linux reports the end of a terminal whose other side is closed as an error.
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as output:
        while piece := output.read(4096):
            shown += piece
    return shown.decode()


FETCH = """
import sys
from reinmax_core.data import DataFile, DataSource

DataSource(directory=sys.argv[1]).fetch(DataFile.model_validate_json(sys.argv[2]))
"""


def test_a_terminal_shows_a_bar(tmp_path: Path, serve: Serve) -> None:
    file = published(CONTENT, serve(pieces=8, pause_s=0.02).address)
    terminal, its_end = pty.openpty()
    command = [sys.executable, "-c", FETCH, str(tmp_path), file.model_dump_json()]
    with subprocess.Popen(command, stderr=its_end, env={**os.environ, "COLUMNS": "120"}) as process:
        os.close(its_end)
        shown = read_to_the_end(terminal)
    assert process.returncode == 0
    assert "letters/a.gz" in shown
    assert "1.0/1.0 MB" in shown


def test_credentials_of_a_mirror_are_not_told(tmp_path: Path) -> None:
    source = DataSource(directory=tmp_path, mirrors=("http://somebody:secret@127.0.0.1:9",))
    with pytest.raises(DataUnavailable) as refusal:
        source.fetch(published())
    assert "http://***@127.0.0.1:9/" in str(refusal.value)
    assert "secret" not in str(refusal.value)
