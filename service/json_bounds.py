"""What a JSON document may be, told from its bytes before anything is built from it.

A decoder makes an object of some fifty bytes from three (`"",`), checks how many there are only afterwards, and follows
brackets as deep as they go, also in fields that nobody reads. Both are counted here, at the speed of a scan.
"""

from __future__ import annotations

import numpy as np

MAX_TEXTS = 8192  # names and values; no request has a use for so many
_OTHERS = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_QUOTE = ord('"')
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_CHUNK_BYTES = 1 << 16


def json_excess(data: bytes | memoryview, max_depth: int) -> str:
    """What of a document is too much, as the end of a sentence; empty where nothing is.

    What is not JSON at all is left to the decoder, which cannot get deeper than what was counted before its error.

    Args:
        max_depth: brackets of both kinds around a value, at most.
    """
    data = bytes(data)
    if b"\\" in data:  # what is escaped is no mark
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if data.count(b'"') > 2 * MAX_TEXTS:
        return f"holds more than {MAX_TEXTS} texts"
    if data.count(b"[") + data.count(b"{") > max_depth and _is_deeper(data.translate(None, _OTHERS), max_depth):
        return f"is nested too deeply: more than {max_depth} levels"
    return ""


def _is_deeper(marks: bytes, max_depth: int) -> bool:
    """Of quotes and brackets alone; those between two quotes are text."""
    quotes = depth = 0
    for start in range(0, len(marks), _CHUNK_BYTES):
        chunk = np.frombuffer(marks, np.uint8, min(_CHUNK_BYTES, len(marks) - start), start)
        seen = np.cumsum(chunk == _QUOTE, dtype=np.int32) + quotes
        depths = np.cumsum(np.where(seen & 1, np.int8(0), _STEP[chunk]), dtype=np.int32) + depth
        if int(depths.max()) > max_depth:
            return True
        quotes, depth = int(seen[-1]), int(depths[-1])
    return False
