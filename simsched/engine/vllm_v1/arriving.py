"""Who arrives in an uncontended run. The run keeps no more of a request than its number."""

from __future__ import annotations

from simsched.engine.arrival import Arrival
from simsched.engine.source import Source, TraceSource


class Arriving:
    """The requests that the run takes from the source, from number `first` on."""

    def __init__(self, source: Source, first: int) -> None:
        self.rows = source if isinstance(source, TraceSource) else None
        """The source, if its requests come in the order of the trace: then numbers are rows, and an `Arrival`
        is made only where it is asked for."""
        self.numbered = 0 if self.rows is not None else first
        """The number of the first in these lists:"""
        self.prompts: list[int] = [] if self.rows is None else self.rows.prompts
        self.outputs: list[int] = [] if self.rows is None else self.rows.outputs
        self.times = None if self.rows is None else self.rows.times
        """When each arrives, where that is known before."""
        self.arrivals: list[Arrival] = []
        """Of those that have arrived, where there are no `rows`."""

    def arrival(self, number: int) -> Arrival:
        """The request of this number, which has arrived."""
        return self.arrivals[number - self.numbered] if self.rows is None else self.rows.arrival(number)

    def since(self, first: int, upto: int) -> list[Arrival]:
        """Those of the numbers from `first` on, the latest being `upto` less one."""
        if self.rows is None:
            return self.arrivals[first - self.numbered :]
        return [self.rows.arrival(number) for number in range(first, upto)]
