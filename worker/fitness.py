"""What makes a Valkey or Redis fit to keep jobs: its version, what it never drops, and when its word is on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, final

from redis import Redis
from redis.exceptions import ResponseError

from worker.server_program import OLDEST_VERSION

DISK_REMEDY: Final = "Run: CONFIG SET appendfsync always, and put 'appendfsync always' into its configuration."


@final
@dataclass(frozen=True, slots=True)
class Durability:
    """When a change that a server has confirmed is on its disk."""

    policy: str | None
    """`appendfsync`; None where the server does not tell."""
    can_wait: bool
    """Whether it knows WAITAOF, by which a client waits for the disk: Valkey, and Redis from 7.2."""

    @classmethod
    def of(cls, client: Redis) -> Self:
        """As the server has it now. What it refuses to tell or to do, it does not have: managed servers forbid much."""
        return cls(_fsync_policy(client), _can_wait(client))

    @property
    def must_wait(self) -> bool:
        """Whether a client has to ask for the disk before it relies on a change."""
        return self.can_wait and self.policy != "always"

    @property
    def shortcoming(self) -> str | None:
        """Why a job that was accepted could still be lost, with the remedy; None if it could not, or nothing tells."""
        if self.policy in ("always", None) or (self.policy == "everysec" and self.can_wait):
            return None
        return (
            "The server must have a job on disk before it is accepted, or a crash loses it, but appendfsync is "
            f"{self.policy}{'' if self.can_wait else ', and it does not let WAITAOF wait for the disk'}. {DISK_REMEDY}"
        )

    def __str__(self) -> str:
        policy = f"appendfsync is {self.policy}" if self.policy else "the server does not tell its appendfsync"
        if self.must_wait:
            return f"{policy}, so each submission waits for the disk, up to a second"
        return f"{policy}, so what it has confirmed is on disk" if self.policy == "always" else policy


def check_server(client: Redis) -> tuple[str, ...]:
    """What makes a server unfit to keep jobs, embedded or not: a sentence with the remedy each, or nothing.

    `INFO` is asked where it tells, as managed servers forbid `CONFIG GET`.
    """
    try:
        info = client.info()
    except ResponseError as refusal:
        return (f"The server must answer INFO, but says: {refusal}. Grant it: ACL SETUSER <user> +info.",)
    shortcoming = Durability.of(client).shortcoming if info.get("aof_enabled") else None
    return (*server_problems(info), *([shortcoming] if shortcoming else []))


def server_problems(info: Mapping[str, object]) -> tuple[str, ...]:
    """The part of `check_server` that an answer to `INFO` tells."""
    version, policy = str(info["redis_version"]), info.get("maxmemory_policy")
    oldest = ".".join(map(str, OLDEST_VERSION))
    problems = {
        f"The server must be version {oldest} or newer, but is {version}. Upgrade it, or use Valkey.": (
            tuple(map(int, version.split(".")[:2])) < OLDEST_VERSION
        ),
        "The server must keep an append-only file, or jobs are lost when it restarts, but appendonly is no. "
        "Run: CONFIG SET appendonly yes, and put 'appendonly yes' into its configuration.": not info.get("aof_enabled"),
        f"The server must never evict keys, or jobs vanish, but maxmemory-policy is {policy}. "
        "Run: CONFIG SET maxmemory-policy noeviction, and put it into its configuration.": policy != "noeviction",
    }
    return tuple(sentence for sentence, holds in problems.items() if holds)


def _fsync_policy(client: Redis) -> str | None:
    try:
        return str(client.config_get("appendfsync")["appendfsync"])
    except ResponseError as error:
        _must_be_final(error)
        return None
    except KeyError:
        return None


def _can_wait(client: Redis) -> bool:
    # Tried and not concluded from the version: users may lack the right to it, or managed servers the command.
    try:
        client.execute_command("WAITAOF", 1, 0, 1)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        _must_be_final(error)
        return False
    return True


def _must_be_final(error: ResponseError) -> None:
    """Raises an error that tells nothing about what the server can, but that it is busy with a long script."""
    if str(error).startswith("BUSY"):
        raise error
