"""SIGHUP reads the bundles again, as servers do."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable

from ..runtime.errors import SlimpathError
from .registry import ModelRegistry

_log = logging.getLogger("slimpath.service.registry")


def reload_on_sighup(registry: ModelRegistry) -> Callable[[], None]:
    """Have SIGHUP read all bundles again; call it in the event loop. Returns what takes the handler away: from then on
    the signal ends the process, as it does by default.

    Only the main thread gets signals: elsewhere (an application inside another program) nothing is done.
    """
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        _log.info("reloading on SIGHUP")
        try:
            await registry.reload()
        except SlimpathError as error:  # each was logged when it was refused; what is not ready can say why
            _log.error("reload refused", extra={"reason": str(error)})

    def begin() -> None:
        task = loop.create_task(reload())
        running.add(task)
        task.add_done_callback(running.discard)

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        return lambda: None
    loop.add_signal_handler(signal.SIGHUP, begin)

    def remove() -> None:
        loop.remove_signal_handler(signal.SIGHUP)

    return remove
