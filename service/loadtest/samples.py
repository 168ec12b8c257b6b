"""What became of each request."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import msgspec

from .client import Answer

# What a status means for the report. Others are errors.
KIND_OF_STATUS = {200: "answered", 503: "refused", 429: "limited", 504: "late"}
KINDS = ("answered", "refused", "limited", "late", "error", "timeout", "lost")


@dataclass(frozen=True)
class Sample:
    """One request; times in seconds from the start of the test.

    Args:
        scheduled_s: when it was due; what its latency counts from.
        sent_s: when it was handed to the connection. Later than due: the generator, or its connections, were busy.
        kind: of KINDS; "lost" is a connection that broke, "timeout" an answer that did not come.
        quality: mean share of the full accuracy that its plan keeps; None where the server does not say.
        share: of the full FLOPs that its plan takes; None likewise.
    """

    scheduled_s: float
    sent_s: float
    done_s: float
    status: int
    kind: str
    answer_bytes: int = 0
    degraded: bool | None = None
    quality: float | None = None
    share: float | None = None
    width: float | None = None
    server_ms: float | None = None
    retry_after_s: float | None = None
    code: str = ""

    @property
    def latency_s(self) -> float:
        return self.done_s - self.scheduled_s


def read_sample(answer: Answer, scheduled_s: float, sent_s: float, done_s: float) -> Sample:
    """A sample from an answer; what the server says about its plan is read where it says it."""
    kind = KIND_OF_STATUS.get(answer.status, "error")
    headers = answer.headers
    if kind != "answered":
        return Sample(
            scheduled_s, sent_s, done_s, answer.status, kind, len(answer.body),
            retry_after_s=_number(headers.get("retry-after")), code=_code(answer),
        )  # fmt: skip
    degraded = headers.get("slimpath-degraded")
    return Sample(
        scheduled_s, sent_s, done_s, answer.status, kind, len(answer.body),
        degraded=None if degraded is None else degraded == "true",
        quality=_quality(answer),
        share=_number(headers.get("slimpath-share")),
        width=_number(headers.get("slimpath-width")),
        server_ms=_number(headers.get("slimpath-server-ms")),
    )  # fmt: skip


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _quality(answer: Answer) -> float | None:
    """The mean over the tasks of what is kept of their full accuracy: a header, or in the document."""
    said = _number(answer.headers.get("slimpath-quality"))
    if said is not None:
        return said
    document = _document(answer)
    kept = document.get("quality", {}).get("kept") if isinstance(document.get("quality"), dict) else None
    known = [value for value in kept.values() if isinstance(value, (int, float))] if isinstance(kept, dict) else []
    return sum(known) / len(known) if known and isinstance(kept, dict) and len(known) == len(kept) else None


def _document(answer: Answer) -> dict[str, Any]:
    kind = answer.headers.get("content-type", "").partition(";")[0]
    try:
        if kind == "application/json":
            found = msgspec.json.decode(answer.body)
        elif kind == "application/zip":
            with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
                found = msgspec.json.decode(archive.read("answer.json"))
        else:
            return {}
    except (msgspec.DecodeError, UnicodeDecodeError, zipfile.BadZipFile, KeyError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _code(answer: Answer) -> str:
    """The word that /v1 names an error by; "" where there is none."""
    error = _document(answer).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""
