"""Sends requests at the times of a trace, whether answers come or not; or keeps a number of them in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlencode

from .client import Client
from .errors import ProtocolError, TargetError
from .samples import Sample, read_sample
from .traces import Trace

LEAST_DEADLINE_MS = 1.0
Progress = Callable[[int], None]  # how many have been answered


@dataclass(frozen=True)
class Load:
    """What each request is.

    Args:
        bodies: image files, sent in turn.
        options: of the query, by name.
        deadline_s: within which an answer is good; sent along as what is left of it. None: every answer is.
        headers: further ones, by name.
        timeout_s: after which an answer is given up.
    """

    bodies: Sequence[bytes]
    content_type: str = "application/octet-stream"
    options: dict[str, str] = field(default_factory=dict)
    deadline_s: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0
    send_deadline: bool = True

    def header_lines(self) -> bytes:
        lines = {"Content-Type": self.content_type, "Accept": "*/*", **self.headers}
        return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()


class Sender:
    """Sends one load over one client; keeps the samples in `samples`."""

    def __init__(self, client: Client, load: Load) -> None:
        self._client = client
        self._load = load
        self._headers = load.header_lines()
        self._query = urlencode(load.options)
        self._start = perf_counter()
        self.samples: list[Sample] = []

    def begin(self) -> None:
        """From now on times are counted, and samples kept."""
        self._start = perf_counter()
        self.samples = []

    def now_s(self) -> float:
        """Since `begin`."""
        return perf_counter() - self._start

    async def send(self, number: int, scheduled_s: float) -> Sample:
        """One request, and what became of it; never raises."""
        sent_s = self.now_s()
        try:
            post = self._client.post(
                lambda: self._query_for(scheduled_s), self._headers, self._load.bodies[number % len(self._load.bodies)]
            )
            answer = await asyncio.wait_for(post, self._load.timeout_s)
            sample = read_sample(answer, scheduled_s, sent_s, self.now_s())
        except asyncio.TimeoutError:
            sample = Sample(scheduled_s, sent_s, self.now_s(), 0, "timeout")
        except ProtocolError as error:
            sample = Sample(scheduled_s, sent_s, self.now_s(), 0, "error", code=str(error))
        except OSError as error:
            sample = Sample(scheduled_s, sent_s, self.now_s(), 0, "lost", code=type(error).__name__)
        self.samples.append(sample)
        return sample

    def _query_for(self, scheduled_s: float) -> str:
        """With what is left of the deadline: that of a request that had to wait for a connection is nearer."""
        if self._load.deadline_s is None or not self._load.send_deadline:
            return self._query
        left_ms = max((self._load.deadline_s - (self.now_s() - scheduled_s)) * 1e3, LEAST_DEADLINE_MS)
        return f"{self._query}{'&' if self._query else ''}deadline_ms={left_ms:.3f}"


async def warm_up(sender: Sender, count: int) -> list[Sample]:
    """Requests one after the other, before the test.

    Raises:
        TargetError: the first was not answered; the message says what came instead.
    """
    sender.begin()
    for number in range(count):
        sample = await sender.send(number, sender.now_s())
        if number == 0 and sample.kind != "answered":
            what = f"status {sample.status}" if sample.status else f"{sample.kind}"
            code = f" ({sample.code})" if sample.code else ""
            raise TargetError(f"the first request was not answered: {what}{code}", hint="is this the right URL?")
    return sender.samples


async def run_trace(sender: Sender, trace: Trace, progress: Progress | None = None) -> list[Sample]:
    """Open loop: every request at its time. Ends when the last was answered or given up."""
    sender.begin()
    tasks: set[asyncio.Task[Sample]] = set()
    for number, time_s in enumerate(trace.times_s):
        wait_s = time_s - sender.now_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        elif number % 16 == 0:
            await asyncio.sleep(0)  # behind its times: answers have to be read nevertheless
        task = asyncio.create_task(sender.send(number, time_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if progress is not None:
            progress(len(sender.samples))
    while tasks:
        await asyncio.wait(tasks, timeout=0.2)
        if progress is not None:
            progress(len(sender.samples))
    return sender.samples


async def run_closed(
    sender: Sender, concurrency: int, seconds: float, progress: Progress | None = None
) -> list[Sample]:
    """Closed loop: so many in flight, the next when one was answered. Says what a server can do, not how users feel."""
    sender.begin()

    async def worker(first: int) -> None:
        number = first
        while sender.now_s() < seconds:
            await sender.send(number, sender.now_s())
            number += concurrency
            if progress is not None:
                progress(len(sender.samples))

    await asyncio.gather(*(worker(number) for number in range(concurrency)))
    return sender.samples
