"""Multi-level feedback queue, as in the paper: those that have run for long sink."""

from __future__ import annotations

from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import Change, Policy, Priority, register
from simsched.request import RequestView


class Place:
    """Where a request stands: its level, the service it had when it came there, and since when it waits."""

    __slots__ = ("level", "quantum", "service", "steps_run", "waits_since")

    def __init__(self, level: int, quantum: float, now: float) -> None:
        self.level = level
        self.quantum = quantum  # of its level
        self.service = 0.0
        self.waits_since = now
        self.steps_run = 0  # when it began to wait; it has run since if it has more


@register("mlfq")
@dataclass(eq=False)
class Mlfq(Policy):
    """A request starts at level 0. Once its service at level L exceeds `base_quantum * threshold ** L`
    seconds it sinks to L + 1 and starts anew there; there are as many levels as it takes."""

    base_quantum: float = Field(default=0.03, gt=0, lt=inf)
    """Seconds of service at level 0."""
    threshold: float = Field(default=2.0, ge=1, lt=inf)
    """Each level's quantum over that of the level above."""
    starvation_seconds: float | None = Field(default=None, gt=0, lt=inf)
    """Back to level 0 after so long without running; off by default, as in the paper's code."""

    builtin = "mlfq"

    def __post_init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._quanta = [self.base_quantum]
        self._whole = [Change(self.base_quantum)]  # announced to those who have just come to a level

    def first_level(self, request: RequestView) -> int:
        """The level it starts at."""
        return 0

    def quantum(self, level: int) -> float:
        """Seconds of service at this level."""
        quanta = self._quanta
        while level >= len(quanta):
            quanta.append(quanta[-1] * self.threshold)
            self._whole.append(Change(quanta[-1]))
        return quanta[level]

    def on_arrival(self, request: RequestView, now: float) -> None:
        level = self.first_level(request)
        self._places[request.request_id] = Place(level, self.quantum(level), now)

    def priority(self, request: RequestView, now: float) -> float:
        return self._places[request.request_id].level

    def next_change(self, request: RequestView, now: float) -> Change:
        place = self._places[request.request_id]
        left = place.quantum - (request.attained_service - place.service)
        if self.starvation_seconds is None or not place.level or request.steps_run > place.steps_run:
            return Change(left)
        return Change(after_service=left, after_time=place.waits_since + self.starvation_seconds - now)

    def on_change(self, request: RequestView, now: float) -> None:
        place = self._places[request.request_id]
        service = request.attained_service
        if service - place.service > place.quantum:
            place.level += 1
            place.quantum = self.quantum(place.level)
            place.service = service
        elif self._starves(place, request, now):
            place.level = 0
            place.quantum = self.quantum(0)
            place.service = service
            place.waits_since = now

    def advance(self, request: RequestView, now: float) -> tuple[Priority, Change]:
        place = self._places[request.request_id]
        service = request.attained_service
        if self.starvation_seconds is None and service - place.service > place.quantum:
            level = place.level = place.level + 1
            place.quantum = self.quantum(level)
            place.service = service
            return level, self._whole[level]
        return super().advance(request, now)

    def changes_while_waiting(self) -> bool:
        return self.starvation_seconds is not None

    def _starves(self, place: Place, request: RequestView, now: float) -> bool:
        return (
            self.starvation_seconds is not None
            and place.level > 0
            and request.steps_run == place.steps_run
            and now >= place.waits_since + self.starvation_seconds
        )

    def on_preempt(self, request: RequestView, now: float) -> None:
        place = self._places[request.request_id]
        place.waits_since = now
        place.steps_run = request.steps_run

    def on_finish(self, request: RequestView, now: float) -> None:
        del self._places[request.request_id]
