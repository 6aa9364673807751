"""The Scheduler protocol: what the simulator asks of an engine, whichever vLLM it imitates.

A scheduler knows only what has arrived, and numbers it itself: 0, 1, 2, ... in the order of `add_request`. By
these numbers it tells the recorder when requests are first scheduled, get tokens, pause and finish (see
`recorder.py`). The replica owns the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from simsched.cost_model.base import StepFeatures
from simsched.engine.arrival import Arrival
from simsched.errors import CannotLeap as CannotLeap


@dataclass(slots=True)
class Batch:
    """One scheduled step. Requests are named by their number: how many arrived before."""

    features: StepFeatures
    scheduled: dict[int, int] = field(default_factory=dict)
    """Tokens per request, in batch order. A leaping scheduler leaves it empty: a logged run steps."""
    preempted: Sequence[int] = ()
    swapped_out: Sequence[int] = ()
    swapped_in: Sequence[int] = ()
    num_running: int = 0
    """After scheduling, before the update; likewise the next two."""
    num_waiting: int = 0
    kv_blocks_used: int = 0
    """Without the null block."""


class Scheduler(Protocol):
    """schedule -> (the replica asks the cost model and waits) -> update."""

    swaps: bool
    """Does it swap KV blocks to the CPU (and log that)?"""
    step_ends: list[float] | None
    """If not None, the replica appends the end of every step before `update` (leaps: of each step in
    them); the engine may shorten it at the front."""
    counters: dict[str, int]
    """Engine-specific counts (swaps, steps skipped, ...), for the record."""

    @property
    def num_running(self) -> int:
        """Requests in the running list."""

    @property
    def num_free_blocks(self) -> int:
        """KV blocks that no request holds, cached ones too."""

    @property
    def num_blocks(self) -> int:
        """KV blocks that requests may hold."""

    def add_request(self, arrival: Arrival, now: float) -> None:
        """A request has arrived; its number is how many came before."""

    def has_unfinished(self) -> bool:
        """Is any request waiting, running or swapped out?"""

    def schedule(self, now: float) -> Batch | None:
        """Form the next batch as vLLM would; None when nothing can run."""

    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """How often this batch may repeat, absent arrivals: at most `steps` (>= 1) steps in all, the last of
        which starts before `time` (seconds on the clock). (1, inf) when it may not repeat. Repeated steps
        are decodes and nothing else, each with one more token of context per sequence than the last."""

    def update(self, batch: Batch, now: float, first: float, last: float, steps: int = 1) -> Sequence[int]:
        """`steps` steps of this batch are done by `now`; the first took `first` seconds, the last `last`.
        Returns the requests that finished."""
