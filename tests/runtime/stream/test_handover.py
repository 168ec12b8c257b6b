"""From thread to thread: the newest only, or every one."""

from __future__ import annotations

import threading
import time

from slimpath.runtime.stream.handover import Handover


def test_newer_thing_replaces_the_one_that_waits_and_says_so() -> None:
    handover: Handover[int] = Handover()
    assert [handover.put(1), handover.put(2), handover.put(3)] == [False, True, True]
    assert handover.take() == 3
    assert handover.put(4) is False


def test_lossless_waits_until_the_last_was_taken() -> None:
    handover: Handover[int] = Handover(lossless=True)
    taken: list[int | None] = []

    def take_slowly() -> None:
        while (item := handover.take()) is not None:
            time.sleep(0.002)
            taken.append(item)

    taker = threading.Thread(target=take_slowly)
    taker.start()
    assert [handover.put(number) for number in range(20)] == [False] * 20
    handover.close()
    taker.join(5)
    assert taken == list(range(20))


def test_close_wakes_whoever_waits() -> None:
    empty: Handover[int] = Handover()
    full: Handover[int] = Handover(lossless=True)
    full.put(1)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(empty.take())),
        threading.Thread(target=lambda: found.append(full.put(2))),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    empty.close()
    full.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert sorted(found, key=str) == [False, None]


def test_what_lies_there_is_still_taken_after_close_and_no_more_is_put() -> None:
    handover: Handover[int] = Handover()
    handover.put(1)
    handover.close()
    handover.put(2)
    assert handover.take() == 1
    assert handover.take() is None
