"""Jobs that nobody waits for, one after another, in a thread that lives only while there are any."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Background:
    """A queue of jobs. Not a daemon thread: the interpreter waits for the job in hand, and for no other.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: OrderedDict[Hashable, Callable[[], object]] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def ask(self, key: Hashable, job: Callable[[], object]) -> None:
        """Do this some time; a job that waits under the same key already is replaced. Jobs must not raise."""
        with self._changed:
            if self._stopped:
                return
            self._jobs[key] = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name)
                self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Until there is nothing left to do; False if that took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, timeout_s)

    def stop(self) -> None:
        """Forget the jobs that have not begun, and take no more. The one in hand is not waited for."""
        with self._changed:
            self._stopped = True
            self._jobs.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs or not threading.main_thread().is_alive():
                    self._jobs.clear()
                    self._thread = None
                    self._changed.notify_all()
                    return
                _, job = self._jobs.popitem(last=False)
            job()
