"""What reaches a scheduler: one request with all that is known of it, made once from the trace's columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from math import isnan
from typing import Any, NamedTuple

from simsched.engine.facts import NO_FACTS, Facts
from simsched.workload.content import Stretch, contents, shared_stretches
from simsched.workload.sessions import turn_numbers
from simsched.workload.trace import FloatArray, Trace


class Quantiles:
    """The column of `length_quantiles`."""

    def __init__(self, points: FloatArray) -> None:
        self._points = points

    def of(self, row: int) -> tuple[float, ...]:
        """Those of one request."""
        return tuple(self._points[row].tolist())


class Arrival(NamedTuple):
    """A request as its scheduler gets it. Views take from it what a policy may see."""

    row: int
    """Its place in the trace, and so in the record."""
    arrival_time: float
    """Seconds on the run's clock."""
    num_prompt_tokens: int
    num_output_tokens: int
    """The true length of its answer: for the engine alone, which ends it there."""
    request_id: str
    random_id: int = 0
    """In place of the request id, where ids are random strings (`random_ties`)."""
    priority: int = 0
    score: float | None = None
    predicted_class: int | None = None
    predicted_length: float | None = None
    quantiles: Quantiles | None = None
    """The column of `length_quantiles`: there are many to a request, and few policies ask."""
    tenant: str | None = None
    session_id: str | None = None
    facts: Facts = NO_FACTS
    content: Sequence[Stretch] = ()
    """What its tokens are, prompt and answer (`workload.content`); empty: nobody else's."""
    prefix: Sequence[Stretch] = ()
    """The part of them that other requests have too, with edges for nodes."""

    @property
    def length_quantiles(self) -> tuple[float, ...] | None:
        """Points of the distribution of its answer's length that is predicted, in tokens."""
        return None if self.quantiles is None else self.quantiles.of(self.row)


class Arrivals:
    """The arrivals of a trace, from its columns."""

    def __init__(
        self, trace: Trace, random_ids: Sequence[int] | None = None, with_content: bool = True
    ) -> None:
        """`with_content`: does anybody look at what their tokens are? Finding that out takes time."""
        self._trace = trace
        self._with_content = with_content
        self._random_ids = random_ids
        self._prompts: list[int] = trace.num_prompt_tokens.tolist()
        self._outputs: list[int] = trace.num_output_tokens.tolist()
        self._ids = trace.request_id
        self._columns: tuple[Any, ...] = ()  # the others, once anybody asks: an uncontended run does not
        self._contents: Sequence[Sequence[Stretch]] | None = None  # likewise
        self._prefixes: Sequence[Sequence[Stretch]] | None = None

    def _others(self) -> tuple[Any, ...]:
        """The columns behind the request id, in the order of an arrival's fields."""
        if not self._columns:
            trace = self._trace
            n = len(trace)
            nothing: list[None] = [None] * n
            zeros = [0] * n
            prefixes = self.prefixes()
            self._columns = (
                zeros if self._random_ids is None else self._random_ids,
                zeros if trace.priority is None else trace.priority.tolist(),
                nothing if trace.score is None else trace.score.tolist(),
                nothing if trace.predicted_class is None else trace.predicted_class.tolist(),
                nothing if trace.predicted_length is None else trace.predicted_length.tolist(),
                nothing if trace.length_quantiles is None else [Quantiles(trace.length_quantiles)] * n,
                nothing if trace.tenant is None else trace.tenant,
                nothing if trace.session_id is None else trace.session_id,
                _facts(trace),
                self._contents,
                prefixes,
            )
        return self._columns

    def prefixes(self) -> Sequence[Sequence[Stretch]]:
        """Of each request, by row, what `Arrival.prefix` says."""
        if self._prefixes is None:
            paths = contents(self._trace) if self._with_content else None
            nothing: list[tuple[Stretch, ...]] = [()] * len(self._trace)
            self._contents = nothing if paths is None else paths
            self._prefixes = nothing if paths is None else shared_stretches(paths)
        return self._prefixes

    def make(self, row: int, time: float) -> Arrival:
        """The request in this row arrives at this time, in seconds."""
        request_id = str(row) if self._ids is None else self._ids[row]
        others = [column[row] for column in self._others()]
        return _make(Arrival, (row, time, self._prompts[row], self._outputs[row], request_id, *others))

    def make_several(self, first: int, times: Sequence[float]) -> list[Arrival]:
        """Those from this row on, at these times; each costs a third of what it costs alone."""
        rows = range(first, first + len(times))
        ids = map(str, rows) if self._ids is None else self._ids[first : rows.stop]
        columns = [column[first : rows.stop] for column in (self._prompts, self._outputs)]
        others = [column[first : rows.stop] for column in self._others()]
        return list(map(_make, repeat(Arrival), zip(rows, times, *columns, ids, *others, strict=True)))


def _facts(trace: Trace) -> Sequence[Facts]:
    """One object a request; the same one for all, if there is nothing to say."""
    n = len(trace)
    times = (trace.slo_ttft, trace.slo_tpot, trace.deadline)
    columns = (trace.request_class, trace.session_id, trace.parent, *times)
    if all(each is None for each in columns):
        return [NO_FACTS] * n
    nothing: list[None] = [None] * n
    seconds = (
        nothing if each is None else [None if isnan(value) else value for value in each.tolist()]
        for each in times
    )
    sessions: Sequence[str | None] = nothing if trace.session_id is None else trace.session_id
    classes: Sequence[str | None] = nothing if trace.request_class is None else trace.request_class
    parents: Sequence[tuple[str, ...]] = [()] * n if trace.parent is None else trace.parent
    facts = zip(*seconds, classes, sessions, turn_numbers(sessions), parents, strict=True)
    return list(map(_make, repeat(Facts), facts))


_make = tuple.__new__
"""`Arrival` or `Facts` from a tuple, in half the time."""


def arrivals_of(trace: Trace) -> list[Arrival]:
    """The requests of a trace, arriving as it says."""
    return Arrivals(trace).make_several(0, trace.arrival_time.tolist())
