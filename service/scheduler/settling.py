"""How an answer gets from a runner's thread to the coroutine that waits for it."""

from __future__ import annotations

import asyncio

from .errors import Unavailable
from .job import Outcome


def tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Outcome], answer: Outcome | Exception) -> None:
    """From any thread."""
    try:
        loop.call_soon_threadsafe(_resolve, future, answer)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


def _resolve(future: asyncio.Future[Outcome], answer: Outcome | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def nobody(answer: Outcome | Exception) -> None:
    """Of a ticket that nobody waits for."""


def hung_error() -> Unavailable:
    return Unavailable("the backend does not answer", hint="retry later, or restart the service")
