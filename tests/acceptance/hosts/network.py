"""Hosts with a network and a name of their own, made of Linux namespaces: no rights on this machine are needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final, Self, final

from worker.server_program import tied_to_this_process

NETWORK: Final = "192.0.2"
"""TEST-NET-1 (RFC 5737), which leads nowhere outside these namespaces."""
TOOLS: Final = ("ip", "nsenter", "unshare")
HOLD: Final = "import socket, sys, time; socket.sethostname(sys.argv[1]); print('up', flush=True); time.sleep(1e6)"
REACH: Final = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"


class NoHosts(Exception):
    """This machine does not let its users make namespaces; the message says what it said."""


@final
class Host:
    """A host name and a network interface, held by a process that sleeps.

    Args:
        name: of the host.
        address: that others reach it at.
        around: what leads into the network that it belongs to, to stand before a command; empty for the first host.
    """

    def __init__(self, name: str, address: str, around: Sequence[str] = ()) -> None:
        self.name, self.address = name, address
        fresh = ("--net", "--uts") if around else ("--user", "--map-root-user", "--net", "--uts")
        self._holder = subprocess.Popen(
            [*around, *tied_to_this_process(), _path("unshare"), *fresh, sys.executable, "-I", "-S", "-c", HOLD, name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout and self._holder.stderr
        if self._holder.stdout.readline() != "up\n":
            raise NoHosts(f"unshare {' '.join(fresh)}: {self._holder.stderr.read().strip()}")
        self.configure("link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """Of the process whose namespaces are the host's."""
        return self._holder.pid

    @property
    def inside(self) -> list[str]:
        """What to put before a command so that its process runs on this host."""
        return [_path("nsenter"), f"--target={self.pid}", "--user", "--net", "--uts", "--preserve-credentials"]

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes], fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Starts a program on this host, which ends with the thread that has started it; the path is absolute."""
        return subprocess.Popen(
            [*self.inside, *tied_to_this_process(), *command],
            env=environment, cwd=Path(__file__).parents[3], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            pass_fds=tuple(fds),
        )  # fmt: skip

    def reaches(self, address: str, port: int) -> bool:
        """Whether somebody listens there, as seen from here."""
        asked = [sys.executable, "-I", "-S", "-c", REACH, address, str(port)]
        return subprocess.run([*self.inside, *asked], stderr=subprocess.DEVNULL).returncode == 0

    def configure(self, *words: str) -> None:
        """`ip` with these words, on this host."""
        done = subprocess.run([*self.inside, "ip", *words], capture_output=True, text=True)
        if done.returncode:
            raise NoHosts(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def close(self) -> None:
        """Ends the sleeping process; the namespaces are gone with the last process in them."""
        self._holder.kill()
        self._holder.communicate()


@final
class Network:
    """A host in the middle with a bridge, to which other hosts are linked. Works inside a `with` block."""

    def __enter__(self) -> Self:
        """Makes the host in the middle.

        Raises:
            NoHosts: this machine does not allow it.
        """
        if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
            raise NoHosts(f"{' and '.join(missing)} not installed (Debian: iproute2, util-linux)")
        with ExitStack() as resources:
            self.middle = Host("middle", f"{NETWORK}.1")
            resources.callback(self.middle.close)
            self.middle.configure("link", "add", "hub", "type", "bridge")
            self.middle.configure("address", "add", f"{self.middle.address}/24", "dev", "hub")
            self.middle.configure("link", "set", "hub", "up")
            self._resources = resources.pop_all()
        self._ports: dict[str, str] = {}
        return self

    def __exit__(self, *error: object) -> None:
        self._resources.close()

    def link(self, name: str) -> Host:
        """A further host, linked to the one in the middle."""
        number = len(self._ports) + 2
        host = Host(name, f"{NETWORK}.{number}", self.middle.inside)
        self._resources.callback(host.close)
        port = self._ports[name] = f"port{number}"
        self.middle.configure("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self.middle.configure("link", "set", port, "master", "hub", "up")
        host.configure("address", "add", f"{host.address}/24", "dev", "eth0")
        host.configure("link", "set", "eth0", "up")
        return host

    def cut(self, host: Host) -> None:
        """Takes the link of a host down, without a word to either end of a connection."""
        self.middle.configure("link", "set", self._ports[host.name], "down")

    def mend(self, host: Host) -> None:
        """Takes it up again."""
        self.middle.configure("link", "set", self._ports[host.name], "up")


def _path(program: str) -> str:
    found = shutil.which(program)
    assert found is not None
    return found
