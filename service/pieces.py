"""A response whose body comes in pieces of known length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response


class Pieces(Response):
    """Sends arrays from where they lie: putting megabytes together first takes as long as sending them.

    Args:
        pieces: at least one; not to be changed any more.
        headers: Content-Type among them; Content-Length is added.
    """

    def __init__(self, pieces: Sequence[bytes | memoryview], headers: Mapping[str, str]) -> None:
        self._pieces = pieces
        super().__init__(headers={**headers, "Content-Length": str(sum(map(len, pieces)))})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last = len(self._pieces) - 1
        for number, piece in enumerate(self._pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": number < last})
