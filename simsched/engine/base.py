"""The Scheduler protocol: what the simulator asks of an engine, whichever vLLM it imitates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from simsched.cost_model.base import StepFeatures


@dataclass(slots=True)
class Batch:
    """One scheduled step. Requests are named by their index in the trace."""

    features: StepFeatures
    scheduled: dict[int, int] = field(default_factory=dict)
    """Tokens per request, in batch order. A leaping scheduler may leave it empty when nobody logs."""
    preempted: Sequence[int] = ()
    swapped_out: Sequence[int] = ()
    swapped_in: Sequence[int] = ()


class Scheduler(Protocol):
    """schedule -> (the simulator asks the cost model and waits) -> update."""

    def add_request(self, index: int, now: float) -> None:
        """A request (by its index in the trace) has arrived."""

    def has_unfinished(self) -> bool:
        """Is any request waiting, running or swapped out?"""

    def schedule(self, now: float) -> Batch | None:
        """Form the next batch as vLLM would; None when nothing can run."""

    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """How often this batch may repeat, absent arrivals: at most `steps` (>= 1) steps in all, the last of
        which starts before `time` (seconds on the clock). (1, inf) when it may not repeat."""

    def update(self, batch: Batch, now: float, steps: int = 1) -> Sequence[int]:
        """`steps` steps of this batch are done by `now`; returns the requests that finished."""
