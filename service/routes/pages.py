"""`/` and `/docs`: pages for people, complete in themselves, so that they work without any other network."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

PAGES = Path(__file__).parents[1] / "dashboard"
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)

router = APIRouter(include_in_schema=False)


@router.get("/")
async def get_dashboard() -> HTMLResponse:
    """The jobs, live."""
    return _page("index.html")


@router.get("/docs")
async def get_documentation() -> HTMLResponse:
    """What `/openapi.json` says, for reading and trying."""
    return _page("docs.html")


@cache
def _page(name: str) -> HTMLResponse:
    html = (PAGES / name).read_text(encoding="utf-8")
    return HTMLResponse(html, headers={"Content-Security-Policy": _policy(html), "Cache-Control": "no-cache"})


def _policy(html: str) -> str:
    """Allows the page its own script and style by their checksums, requests to this service, and nothing else."""
    sources: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in INLINE.findall(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        sources[kind].append(f"'sha256-{digest}'")
    own = "; ".join(f"{kind}-src {' '.join(digests)}" for kind, digests in sources.items())
    return (
        f"default-src 'none'; {own}; connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
    )
