"""The HTTP API as typed Python calls, blocking (`Client`) and for asyncio (`AsyncClient`)."""

from service.client.clients import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
