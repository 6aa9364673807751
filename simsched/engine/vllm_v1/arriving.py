"""Who arrives in an uncontended run. The run keeps no more of a request than its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simsched.engine.arrival import Arrival
from simsched.engine.source import Sessions, Source, TraceSource
from simsched.engine.vllm_v1.policy_order import PolicyOrder
from simsched.engine.vllm_v1.state import LeapingState
from simsched.workload.content import Stretch


class Arriving:
    """The requests that the run takes from the source, from number `first` on."""

    def __init__(self, source: Source, first: int) -> None:
        self.rows = source if isinstance(source, TraceSource) else None
        """The source, if its requests come in the order of the trace, so that numbers are rows."""
        self._source = source
        self._sessions = source if isinstance(source, Sessions) else None
        self._prefixes: Sequence[Sequence[Stretch]] | None = None  # by row, of sessions
        self.numbered = 0 if self.rows is not None else first
        """The number of the first in these lists:"""
        self.prompts: list[int] = [] if self.rows is None else self.rows.prompts
        self.outputs: list[int] = [] if self.rows is None else self.rows.outputs
        self.times = None if self.rows is None else self.rows.times
        """When each arrives, where that is known before."""
        self.came: list[int] = []
        """The rows of those that have arrived; none where numbers are rows."""
        self._arrivals: list[Arrival] = []  # where nothing else makes them

    def take(self) -> None:
        """The next one arrives, where numbers are no rows."""
        sessions = self._sessions
        if sessions is not None:
            row = sessions.take()
            self.prompts.append(sessions.prompts[row])
            self.outputs.append(sessions.outputs[row])
        else:
            arrival = self._source.pop()
            self._arrivals.append(arrival)
            row = arrival.row
            self.prompts.append(arrival.num_prompt_tokens)
            self.outputs.append(arrival.num_output_tokens)
        self.came.append(row)

    def arrival(self, number: int) -> Arrival:
        """The request of this number, which has arrived."""
        if self.rows is not None:
            return self.rows.arrival(number)
        place = number - self.numbered
        return self._arrivals[place] if self._sessions is None else self._sessions.arrival(self.came[place])

    def since(self, first: int, upto: int) -> list[Arrival]:
        """Those of the numbers from `first` up to `upto`."""
        return [self.arrival(number) for number in range(first, upto)]

    def to_compute(self, first: int, upto: int, found: Sequence[int]) -> list[tuple[int, int]]:
        """By number, how many tokens of their prompts these compute; `found`: those in the cache."""
        lengths = self.prompts[first - self.numbered : upto - self.numbered]
        return [(who, length - found[who]) for who, length in enumerate(lengths, first)]

    def prefix(self, number: int) -> Sequence[Stretch]:
        """What the request of this number has in common with others."""
        if self._sessions is None:
            return self.arrival(number).prefix
        if self._prefixes is None:
            self._prefixes = self._sessions.prefixes()
        return self._prefixes[self.came[number - self.numbered]]


def make_running(
    engine: LeapingState,
    policy_order: PolicyOrder | None,
    offsets: dict[int, int],
    starts: Mapping[int, float] | None,
    arriving: Arriving,
    now: float,
) -> None:
    """Make those of these decoding requests that have been no more than an offset so far.

    Args:
        offsets: by number.
        starts: when the first step of each began of whom the policy has not been told; None: of nobody.
    """
    running, first_token_time = engine.running, engine.recorder.first_token_time
    if policy_order is not None:
        policy_order.ask_unasked()
    for who, offset in offsets.items():
        request = running.get(who)
        if request is None:
            arrival = arriving.arrival(who)
            request = running[who] = engine.order.request(who, arrival, now)
            request.decode(offset)
        if policy_order is not None and starts is not None and who in starts and not request.ran:
            policy_order.began_before(request, starts[who], first_token_time[who])
