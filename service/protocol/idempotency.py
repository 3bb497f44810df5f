"""Submissions that may be sent twice and count once (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import hashlib
import re

from service.protocol.problems import Kind, Problem
from worker.submission import Submission
from worker.sweep_request import SweepRequest

LONGEST_KEY = 255
QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")


def key_in(header: str | None, caller: str) -> str | None:
    """The key of an `Idempotency-Key` header, set apart for the caller; None without a header.

    Raises:
        Problem: the header is neither a quoted string nor one bare word.
    """
    if header is None:
        return None
    text = header.strip()
    if quoted := QUOTED.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    elif not BARE.fullmatch(text):
        text = ""
    if not 0 < len(text) <= LONGEST_KEY:
        raise Problem(
            Kind.INVALID_IDEMPOTENCY_KEY,
            f"Idempotency-Key should be a quoted string of 1 to {LONGEST_KEY} printable ASCII characters, such as "
            f'"8e03978e-40d5-43dd-bc93-6894a57f9324"; found {header[:LONGEST_KEY]!r}.',
        )
    return f"{caller}:{text}"


def fingerprint(submission: Submission | SweepRequest) -> str:
    """Equal for submissions that mean the same, however they are written; for sweeps, that are written the same."""
    return hashlib.sha256(submission.model_dump_json().encode()).hexdigest()
