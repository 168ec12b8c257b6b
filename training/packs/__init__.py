"""New tasks for a bundle that is finished: the backbone stays as it is, what a task needs for itself is trained.

Reading order: `learning` (a network with one task more), `kinds` (how a task of a kind is trained and judged), `rooms`
and `folder` (samples), `trainer`, `measuring`, and `run`, which puts them together.
"""
