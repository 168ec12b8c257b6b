"""gzip and deflate, both ways. Inflating stops at a limit, so that a small body cannot become a large one."""

from __future__ import annotations

import gzip
import zlib

from ..errors import HttpError
from .header import bad

ENCODINGS = ("gzip", "deflate")  # deflate is zlib's framing, as HTTP says
_LEVEL = 1  # answers are mostly float noise: higher levels cost much and save nothing
_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def inflate(body: bytes, encoding: str | None, limit_bytes: int) -> bytes:
    """Undo the Content-Encoding of a request.

    Raises:
        HttpError: 400 for an encoding that is not known or damaged data, 413 for more than `limit_bytes`.
    """
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return body
    if name not in ENCODINGS:
        raise bad(f"unknown Content-Encoding {name[:32]!a}", hint=f"use {' or '.join(ENCODINGS)}")
    parts: list[bytes] = []
    room, rest = limit_bytes, body
    while rest:  # gzip may hold several members
        inflater = zlib.decompressobj(_WINDOW[name])
        try:
            part = inflater.decompress(rest, room + 1)
        except zlib.error:
            raise bad(f"the body is not {name} data, or is damaged") from None
        if len(part) > room:
            raise HttpError(413, "body_too_large", f"the body has more than {limit_bytes} bytes once inflated")
        if not inflater.eof:
            raise bad(f"the {name} body is cut off")
        parts.append(part)
        room -= len(part)
        rest = inflater.unused_data
        if rest and name == "deflate":
            raise bad("there are bytes behind the deflate body")
    return b"".join(parts)


def accepted_encoding(header: str | None) -> str | None:
    """The encoding of the answer; None for none.

    Only if Accept-Encoding names a single one. HTTP libraries send lists of themselves ("gzip, deflate", as aiohttp
    does), and compressing dense outputs takes longer than sending them; whoever wants it says so.
    """
    name, _, parameters = (header or "").partition(";")
    name = name.strip().lower()
    refused = parameters.replace(" ", "").rstrip("0") in ("q=", "q=0.")
    return name if name in ENCODINGS and not refused else None


def deflate(body: bytes, encoding: str) -> bytes:
    """Compress an answer."""
    if encoding == "gzip":
        return gzip.compress(body, _LEVEL, mtime=0)
    return zlib.compress(body, _LEVEL)
