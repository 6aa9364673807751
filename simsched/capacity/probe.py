"""One arm at one request rate: is it steady over an hour, does a burst drain, how many keep the objective?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from simsched.metrics import Requests
from simsched.slo import Slo
from simsched.steady import SteadyState, mean_backlog, steady_state
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.inputs import prepare
from simsched.sweep.requests import requests_of
from simsched.sweep.run import run
from simsched.workload.trace import Trace

HOUR = 3600.0
"""Seconds of arrivals that decide whether a rate is stable,"""
HALF_HOUR = 1800.0
"""and whether a burst drains."""
GLANCE = 900.0
"""Seconds that are enough where a backlog plainly grows, or a burst is plainly gone."""
PLAINLY = 0.03
"""Of the arrivals, the share that a backlog keeps where it plainly grows."""
BACK = 1.5
"""A burst is gone where no more than so many times the usual requests are left."""
DRAINING = 0.002
"""Of the arrivals, the share by which a backlog at least shrinks where it drains at all."""


@dataclass(frozen=True)
class Probe:
    """What was seen of one arm at one rate, from an empty engine."""

    rate: float
    """Requests/s."""
    steady: bool
    backlog: float
    """Requests in the system behind the warm-up, in the mean."""
    growth: float
    """Requests/s by which they become more."""
    attained: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Group of requests ("" = all) -> the share that keeps each condition of the objective."""


class Prober:
    """Runs one arm at any rate over one seed's requests (common random numbers); rates are tried once."""

    def __init__(
        self,
        arm: Arm,
        load: Load,
        *,
        slo: Slo | None = None,
        group: str | None = None,
        hour: float = HOUR,
    ) -> None:
        """Args:
        arm: what serves.
        load: what is offered; its rate and duration are replaced.
        slo: an objective whose attainment is wanted.
        group: a column of the trace (`tenant`, `request_class`, `priority`) whose values are judged apart.
        hour: seconds of arrivals that decide.
        """
        self.arm, self.load, self.slo, self.group, self.hour = arm, load, slo, group, hour
        self._probes: dict[float, Probe] = {}
        self._unclear = 0.0
        """The largest rate at which a glance did not show a growing backlog: nor will it below."""
        self._drains: dict[tuple[float, int], bool] = {}

    @property
    def probes(self) -> list[Probe]:
        """All that were made, by their rate."""
        return [self._probes[rate] for rate in sorted(self._probes)]

    def probe(self, rate: float) -> Probe:
        """From an empty engine: a glance where the backlog plainly grows, else the hour."""
        if rate not in self._probes:
            self._probes[rate] = self._glance(rate) or self._seen(rate, *self._run(rate, self.hour))
        return self._probes[rate]

    def _glance(self, rate: float) -> Probe | None:
        """None: it says nothing."""
        if rate < self._unclear or self.hour <= GLANCE:
            return None
        requests, trace, state = self._run(rate, GLANCE)
        if state is None or state.requests.low < PLAINLY * rate:
            self._unclear = rate
            return None
        return self._seen(rate, requests, trace, state)

    def drains(self, rate: float, burst: int, usual: float, glance: bool = True) -> bool:
        """Does a burst of so many requests at the start drain, while others arrive at this rate?

        It does if no more than about `usual` requests are left in the system, or they become fewer; it does
        not where what the burst has made the engine recompute keeps them there. `glance`: will a part of the
        half hour do?
        """
        if (rate, burst) not in self._drains:
            seen = self._drained(rate, burst, usual, GLANCE) if glance and self.hour > GLANCE else None
            if seen is None:
                seen = self._drained(rate, burst, usual, min(HALF_HOUR, self.hour), last=True)
            self._drains[rate, burst] = bool(seen)
        return self._drains[rate, burst]

    def _drained(
        self, rate: float, burst: int, usual: float, seconds: float, last: bool = False
    ) -> bool | None:
        """None: not to be told yet."""
        requests, _, state = self._run(rate, seconds, burst)
        end = float(requests.arrival.max())
        edges = np.linspace(0.75 * end, end, 11)
        if mean_backlog(requests.arrival, requests.finish, edges).min() <= BACK * usual:
            return True
        if state is None:
            return False
        if last:
            return state.requests.slope < -DRAINING * rate
        if state.requests.high < -DRAINING * rate:
            return True
        return False if state.requests.low > PLAINLY * rate else None

    def _run(self, rate: float, seconds: float, burst: int = 0) -> tuple[Requests, Trace, SteadyState | None]:
        load = replace(self.load, request_rate=rate)
        if load.trace is None:
            load = replace(load, num_requests=max(1, round(rate * seconds)), duration=None)
        trace, _ = requests_of(load)
        window = None
        if burst:
            trace = with_burst(trace, load, burst)
            window = (0.25 * float(trace.arrival_time[-1]), float(trace.arrival_time[-1]))
        inputs = prepare(Cell(load, self.arm), trace=trace)
        requests = Requests.of_record(run(inputs))
        state = steady_state(
            requests.arrival, requests.first_token, requests.finish, requests.num_output_tokens, window
        )
        return requests, inputs.trace, state

    def _seen(self, rate: float, requests: Requests, trace: Trace, state: SteadyState | None) -> Probe:
        if state is None:
            return Probe(rate, False, 0.0, 0.0)
        window = (state.warmup_end, state.arrivals_end)
        backlog = float(mean_backlog(requests.arrival, requests.finish, np.array(window))[0])
        attained: dict[str, tuple[float, ...]] = {}
        if self.slo is not None:
            attained[""] = tuple(self.slo.attainment(requests, window))
            for name, rows in groups_of(trace, self.group).items():
                attained[name] = tuple(self.slo.attainment(requests.take(rows), window))
        return Probe(rate, state.steady, backlog, state.requests.slope, attained)


def groups_of(trace: Trace, column: str | None) -> dict[str, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Value of a column -> the indices of its requests; nothing where the trace lacks the column."""
    values: Sequence[object] | None = getattr(trace, column) if column else None
    if values is None:
        return {}
    texts = np.array([str(value) for value in values])
    return {str(value): np.flatnonzero(texts == value) for value in np.unique(texts)}


def with_burst(trace: Trace, load: Load, burst: int) -> Trace:
    """The requests with `burst` more of the same kind in front, all of them there at 0."""
    n = len(trace)
    if load.workload is not None:
        longer, _ = requests_of(replace(load, num_requests=n + burst))
        more = longer.take(np.arange(n, n + burst))
    else:
        more = trace.take(np.arange(min(burst, n)))
    return join(more.with_columns(arrival_time=np.zeros(len(more))), trace)


def join(first: Trace, second: Trace) -> Trace:
    """Two traces of the same columns, one behind the other."""
    columns: dict[str, object] = {}
    for name in second.columns():
        if name == "request_id":
            continue
        a, b = getattr(first, name), getattr(second, name)
        columns[name] = np.concatenate([a, b]) if isinstance(a, np.ndarray) else [*a, *b]
    columns["request_id"] = [str(i) for i in range(len(first) + len(second))]
    return second.with_columns(**columns)
