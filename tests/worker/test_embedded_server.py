"""The embedded server, with real processes that are really killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from redis.exceptions import RedisError

from tests.worker.servers import Launcher, has_gone, process_of, program_on_path, read, restarted, wait_until, write
from worker.embedded_server import EmbeddedServer, ServerKeepsEnding, ServerNotStarted
from worker.server_program import find_server_program


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launcher]]:
    launchers: list[Launcher] = []

    def start(*options: str) -> Launcher:
        launchers.append(Launcher(tmp_path, *options))
        return launchers[-1]

    yield start
    for launcher in launchers:
        launcher.kill()


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


def answers(url: str) -> bool:
    try:
        read(url)
    except RedisError:
        return False
    return True


def test_a_killed_server_is_started_again_where_it_was(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        url = server.url
        write(url, "survivor")
        assert server.restart_if_dead() is None
        process_of(url).kill()
        assert restarted(server) == "was killed by SIGKILL"
        assert server.restart_if_dead() is None
        wait_until(lambda: answers(url))
        assert (server.url, server.is_owner, read(url)) == (url, True, "survivor")
        second = process_of(url)
    assert has_gone(second)


def test_who_attached_does_not_start_it_again(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, EmbeddedServer(tmp_path) as attached:
        process_of(server.url).kill()
        assert restarted(server)
        assert attached.restart_if_dead() is None


def test_a_server_that_keeps_ending_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, broken = find_server_program().path, tmp_path / "broken"
    script = f'if [ "$1" != --version ] && [ -e {broken} ]; then echo "out of luck"; exit 3; fi; exec {real} "$@"'
    program_on_path(tmp_path, "valkey-server", script, monkeypatch)
    with EmbeddedServer(tmp_path) as server:
        broken.touch()
        process_of(server.url).kill()
        assert restarted(server) == "was killed by SIGKILL"
        assert restarted(server) == "ended with exit code 3"
        with pytest.raises(ServerKeepsEnding, match=r"(?s)ended with exit code 3, again and again.*out of luck"):
            restarted(server)
