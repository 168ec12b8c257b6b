"""Timing many things in turn, so that a machine that speeds up or slows down does so for all of them.

A round times every probe once, in a new random order; quick ones several times, after a run that is not counted. The
time of probe i in round j is taken as (its own time) x (how slow round j was); both are found by medians, so a burst of
other work spoils neither. Rounds that were clearly slower than the quiet ones are left out, if enough others remain.
Axes: N probes, R rounds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np

LEAST_ROUNDS = 3  # below this a median is no better than its luck
_DISTURBED = 1.15  # a round this much slower than the quieter ones is left out
_BLOCK_MS = 20.0  # what runs in less is run several times in a block, up to _MOST_RUNS
_MOST_RUNS = 5
_Subject = TypeVar("_Subject")


@dataclass
class Probe(Generic[_Subject]):
    """Something to time.

    Args:
        subject: what it is; the caller's own.
        run: does it once.
        expected_ms: from a first run; decides how often it runs in a block.
        blocks_ms: the times of each round, filled here.
    """

    subject: _Subject
    run: Callable[[], object]
    expected_ms: float = 0.0
    blocks_ms: list[list[float]] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """How often it is timed in a block."""
        return int(min(max(_BLOCK_MS / max(self.expected_ms, 1e-6), 1), _MOST_RUNS))

    @property
    def warms_up(self) -> bool:
        """Whether a block begins with a run that is not counted: what is slow finds its own caches cold anyway."""
        return self.runs > 1

    @property
    def block_ms(self) -> float:
        """How long a block takes."""
        return (self.runs + self.warms_up) * self.expected_ms


@dataclass(frozen=True)
class Timing:
    """What was found of one probe, in milliseconds, on the quiet machine."""

    median_ms: float
    p95_ms: float
    samples_ms: tuple[float, ...]


@dataclass(frozen=True)
class Rounds:
    """What was found of all probes, in their order.

    Args:
        kept: how many of the `count` rounds were quiet.
        drift: the slowest kept round over the fastest.
    """

    timings: tuple[Timing, ...]
    count: int
    kept: int
    drift: float


def time_once(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """Milliseconds of one run."""
    started = clock()
    run()
    return (clock() - started) * 1e3


def run_rounds(
    probes: Sequence[Probe],
    *,
    until_s: float,
    clock: Callable[[], float] = perf_counter,
    seed: int = 0,
    report: Callable[[int, Probe], None] | None = None,
) -> int:
    """Time all probes again and again until `clock()` reaches `until_s`, at least `LEAST_ROUNDS` times.

    Args:
        report: called before each block with the number of the round, from 0.

    Returns:
        How many rounds were finished; the one that the time ended in counts as far as it went.
    """
    shuffled = list(range(len(probes)))
    order = random.Random(seed)
    number = 0
    while probes and (number < LEAST_ROUNDS or clock() < until_s):
        order.shuffle(shuffled)
        for probe in probes:
            probe.blocks_ms.append([])
        for index in shuffled:
            if number >= LEAST_ROUNDS and clock() >= until_s:
                break
            probe = probes[index]
            if report is not None:
                report(number, probe)
            if probe.warms_up:
                probe.run()
            probe.blocks_ms[-1].extend(time_once(probe.run, clock) for _ in range(probe.runs))
        number += 1
    return number


def evaluate_rounds(probes: Sequence[Probe]) -> Rounds:
    """Separate how long each probe takes from how slow each round was. Every probe was timed in at least one round."""
    rounds = max(len(probe.blocks_ms) for probe in probes)
    logs_NR = np.full((len(probes), rounds), np.nan)
    for index, probe in enumerate(probes):
        for number, block in enumerate(probe.blocks_ms):
            if block:
                logs_NR[index, number] = np.log(max(float(np.median(block)), 1e-6))
    slow_R = _round_slowness(logs_NR)
    kept_R = _quiet(slow_R)
    usual = float(np.median(slow_R[kept_R]))
    timings = tuple(_timing(probe, slow_R - usual, kept_R) for probe in probes)
    drift = float(np.exp(slow_R[kept_R].max() - slow_R[kept_R].min()))
    return Rounds(timings, len(slow_R), int(kept_R.sum()), drift)


def _round_slowness(logs_NR: np.ndarray) -> np.ndarray:
    """[R], the log of how slow each round was, by medians of rows and columns in turn (Tukey's median polish).

    Each round has at least one time.
    """
    slow_R = np.zeros(logs_NR.shape[1])
    for _ in range(10):
        probe_N1 = np.nanmedian(logs_NR - slow_R, axis=1, keepdims=True)
        slow_R = np.nanmedian(logs_NR - probe_N1, axis=0)
    return slow_R


def _quiet(slow_R: np.ndarray) -> np.ndarray:
    """[R] bool: rounds near the quieter quarter; all of them where too few would remain."""
    quiet_R = slow_R <= np.quantile(slow_R, 0.25) + np.log(_DISTURBED)
    return quiet_R if quiet_R.sum() >= min(LEAST_ROUNDS, len(slow_R)) else np.ones(len(slow_R), bool)


def _timing(probe: Probe, slow_R: np.ndarray, kept_R: np.ndarray) -> Timing:
    blocks = [
        [sample / float(np.exp(slow)) for sample in block]
        for block, slow, kept in zip(probe.blocks_ms, slow_R, kept_R)
        if block and kept
    ] or [block for block in probe.blocks_ms if block]  # only ever timed in rounds that were left out
    samples = [sample for block in blocks for sample in block]
    medians = [float(np.median(block)) for block in blocks]
    return Timing(float(np.median(medians)), float(np.percentile(samples, 95)), tuple(samples))
