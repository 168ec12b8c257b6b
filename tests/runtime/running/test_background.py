"""Jobs that nobody waits for."""

from __future__ import annotations

import threading

from slimpath.runtime.running.background import Background


def test_jobs_are_done_one_after_another_in_the_order_in_which_they_came():
    done: list[int] = []
    background, first_may_end = Background("test"), threading.Event()
    background.ask(0, lambda: (first_may_end.wait(5), done.append(0)))  # type: ignore[func-returns-value]
    for number in range(1, 5):
        background.ask(number, lambda number=number: done.append(number))
    first_may_end.set()
    assert background.wait(5) and done == [0, 1, 2, 3, 4]


def test_job_that_waits_already_is_replaced():
    done: list[str] = []
    background, first_may_end = Background("test"), threading.Event()
    background.ask("first", lambda: first_may_end.wait(5))
    for text in ("old", "new"):
        background.ask("second", lambda text=text: done.append(text))
    first_may_end.set()
    assert background.wait(5) and done == ["new"]


def test_waiting_ends_when_its_time_is_over():
    background, may_end = Background("test"), threading.Event()
    background.ask(0, lambda: may_end.wait(5))
    assert not background.wait(0.01)
    may_end.set()
    assert background.wait(5)


def test_thread_lives_only_while_there_is_something_to_do():
    background = Background("lives-shortly")
    for _ in range(3):
        background.ask(0, lambda: None)
        assert background.wait(5)
        for thread in threading.enumerate():
            if thread.name == "lives-shortly":
                thread.join(5)
                assert not thread.is_alive()


def test_stopped_one_forgets_what_waits_and_takes_no_more():
    done: list[int] = []
    background, may_end = Background("test"), threading.Event()
    background.ask(0, lambda: (may_end.wait(5), done.append(0)))  # type: ignore[func-returns-value]
    background.ask(1, lambda: done.append(1))
    background.stop()
    background.ask(2, lambda: done.append(2))
    may_end.set()
    assert background.wait(5) and done in ([0], [])
