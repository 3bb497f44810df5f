"""The service that commands talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.client import Client


def connect() -> Client:
    """A client of the service that the environment names."""
    from service.client import Client

    # Whoever sits before a terminal is told at once that no service is there.
    return Client(patience_s=2.0)
