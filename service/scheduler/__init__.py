"""Who is answered next, with which plan, together with whom; and who is told at once that it cannot be done.

    submit -> ladder      the plans that may answer (asked for, and narrower)
           -> admission   refused at once if its deadline, or another's, could not be kept
           -> waiting     in order of priority, fair shares and deadlines
    runner -> choice      the widest plans with which all that wait are in time; a batch where that is cheaper
           -> engine      `run_batch`; each member gets its own answer or its own error
           -> costs       what it took, for the next prediction

`desk` holds the logic, without threads, clocks and event loops: tests drive it in simulated time. `scheduler` puts it
behind an event loop and threads.
"""

from __future__ import annotations

from .errors import Late, Refused, Unavailable
from .job import Job, Outcome
from .scheduler import Scheduler
from .stats import SchedulerMetrics, SchedulerStats

__all__ = [
    "Job",
    "Late",
    "Outcome",
    "Refused",
    "Scheduler",
    "SchedulerMetrics",
    "SchedulerStats",
    "Unavailable",
]
