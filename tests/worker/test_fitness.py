"""Servers on which jobs are safe, others, and when a submission is on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.samples import submission
from worker.embedded_server import EmbeddedServer
from worker.fitness import Durability, check_server, server_problems
from worker.keyspace import StoreUnavailable
from worker.store import JobStore


def test_the_server_is_fit_for_jobs(redis_database: str) -> None:
    with Redis.from_url(redis_database) as client:
        assert check_server(client) == ()
        assert client.config_get("appendfsync")["appendfsync"] == "always"
        assert client.config_get("save")["save"] == ""


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Redis]:
    """A client of a server that the test may spoil."""
    with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def store(own_server: Redis) -> JobStore:
    """A store on that server."""
    return JobStore(own_server)


@pytest.mark.parametrize(
    ("setting", "value", "finding"),
    [
        ("appendonly", "no", "appendonly is no. Run: CONFIG SET appendonly yes"),
        ("appendfsync", "no", "appendfsync is no. Run: CONFIG SET appendfsync always"),
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
    assert Durability.of(own_server) == Durability(policy=None, can_wait=True)


def test_a_server_that_tells_nothing_about_itself_is_reported(own_server: Redis) -> None:
    own_server.acl_setuser("default", enabled=True, commands=["-info"])
    (problem,) = check_server(own_server)
    assert "ACL SETUSER <user> +info" in problem


@pytest.mark.parametrize(("version", "problems"), [("6.0.16", 1), ("6.2.0", 0), ("8.0.3", 0), ("10.0", 0)])
def test_old_versions_are_reported(version: str, problems: int) -> None:
    info = {"redis_version": version, "aof_enabled": 1, "maxmemory_policy": "noeviction"}
    assert len(server_problems(info)) == problems


def test_a_server_on_which_nobody_can_wait_for_the_disk_has_to_write_at_once(own_server: Redis) -> None:
    own_server.acl_setuser("default", enabled=True, commands=["-waitaof"])
    assert check_server(own_server) == ()
    own_server.config_set("appendfsync", "everysec")
    (problem,) = check_server(own_server)
    assert "appendfsync is everysec, and it does not let WAITAOF wait for the disk. Run: CONFIG SET" in problem


@pytest.mark.parametrize(
    ("durability", "words"),
    [
        (Durability("always", can_wait=True), "appendfsync is always, so what it has confirmed is on disk"),
        (Durability("everysec", can_wait=True), "appendfsync is everysec, so each submission waits for the disk"),
        (Durability(None, can_wait=True), "the server does not tell its appendfsync, so each submission waits"),
        (Durability(None, can_wait=False), "the server does not tell its appendfsync"),
    ],
)
def test_when_a_job_is_on_disk_is_said_in_words(durability: Durability, words: str) -> None:
    assert str(durability).startswith(words)


def waits_for_the_disk(server: Redis) -> int:
    """How many times a client has waited so far."""
    return int(server.info("commandstats").get("cmdstat_waitaof", {"calls": 0})["calls"])


def test_a_submission_waits_for_the_disk_where_the_server_does_not(own_server: Redis, store: JobStore) -> None:
    own_server.config_set("appendfsync", "everysec")
    store.submit(submission(), idempotency_key="key")
    asked = waits_for_the_disk(own_server)
    assert not store.submit(submission()).replayed
    assert store.submit(submission(), idempotency_key="key").replayed
    assert waits_for_the_disk(own_server) == asked + 2


def test_a_submission_does_not_wait_twice(own_server: Redis, store: JobStore) -> None:
    store.submit(submission())
    asked = waits_for_the_disk(own_server)
    store.submit(submission())
    assert waits_for_the_disk(own_server) == asked


def test_a_job_that_does_not_reach_the_disk_is_not_accepted(own_server: Redis, store: JobStore) -> None:
    own_server.config_set("appendfsync", "no")
    with pytest.raises(StoreUnavailable, match="its disk has not taken the change within 2 s"):
        store.submit(submission())
