"""One arm at one request rate: is it steady over an hour, does a burst drain, how many keep the objective?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from simsched.engine.simulator import Watch
from simsched.metrics import Requests
from simsched.slo import Slo
from simsched.steady import SteadyState, Trend, growth, mean_backlog, steady_state
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.inputs import prepare
from simsched.sweep.requests import file_of, requests_of
from simsched.sweep.run import run
from simsched.text.table import short_number
from simsched.workload.copies import repeated
from simsched.workload.trace import FloatArray, Trace

Tried = Callable[[str, float], None]
"""Told what was tried and seen, and how many seconds that took."""


def unheard(what: str, seconds: float) -> None:
    """For a search that nobody watches."""


HOUR = 3600.0
"""Seconds of arrivals that decide whether a rate is stable,"""
HALF_HOUR = 1800.0
"""and whether a burst drains."""
GLANCES = 900.0, 1350.0, 1800.0, 2700.0
"""Seconds after which a backlog that plainly grows ends a run;"""
BURST_GLANCES = 450.0, 900.0, 1350.0
"""and a burst that is plainly gone."""
PLAINLY = 27.0
"""A backlog plainly grows by t seconds if it keeps the share PLAINLY / t of the arrivals: 3 % by 900 s."""
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
    refused: float = 0.0
    """The share of the requests that were refused. Such a request counts as one that waits for ever."""


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
        on_try: Tried = unheard,
    ) -> None:
        """Args:
        arm: what serves.
        load: what is offered; its rate and duration are replaced.
        slo: an objective whose attainment is wanted.
        group: a column of the trace (`tenant`, `request_class`, `priority`) whose values are judged apart.
        hour: seconds of arrivals that decide.
        on_try: called when a rate has been tried, with what was seen and how many seconds it took.
        """
        self.on_try = on_try
        self.arm, self.load, self.slo, self.group, self.hour = arm, load, slo, group, hour
        self._probes: dict[float, Probe] = {}
        self._drains: dict[tuple[float, int], bool] = {}

    @property
    def probes(self) -> list[Probe]:
        """All that were made, by their rate."""
        return [self._probes[rate] for rate in sorted(self._probes)]

    def probe(self, rate: float) -> Probe:
        """From an empty engine: the hour, or less of it where the backlog plainly grows."""
        if rate not in self._probes:
            began = perf_counter()
            until: float | None = None

            def is_told(now: float, arrival: FloatArray, finish: FloatArray) -> bool:
                nonlocal until
                until = now if _plainly_grows(growth(*_by(now, arrival, finish)), now, rate) else None
                return until is not None

            requests, trace = self._run(rate, self.hour, GLANCES, is_told)
            there = requests if until is None else requests.take(np.flatnonzero(requests.arrival <= until))
            state = steady_state(there.arrival, there.first_token, there.finish, there.num_output_tokens)
            steady = state is not None and state.steady and until is None
            seen = self._seen(rate, steady, requests, trace, state)
            self._probes[rate] = replace(seen, refused=float(there.rejected.mean()))
            self._tell(self._probes[rate], began)
        return self._probes[rate]

    def _tell(self, probe: Probe, began: float) -> None:
        how = "steady" if probe.steady else "not steady"
        self.on_try(f"{short_number(probe.rate)} req/s: {how}", perf_counter() - began)

    def drains(self, rate: float, burst: int, usual: float) -> bool:
        """Does a burst of so many requests at the start drain, while others arrive at this rate?

        It does if no more than about `usual` requests are left in the system, or they become fewer; it does
        not where what the burst has made the engine recompute keeps them there.
        """
        if (rate, burst) not in self._drains:
            began = perf_counter()
            drains: bool | None = None

            def is_told(now: float, arrival: FloatArray, finish: FloatArray) -> bool:
                nonlocal drains
                there = _by(now, arrival, finish)
                if _is_back(*there, now, usual):
                    drains = True
                elif _plainly_grows(growth(*there, (0.25 * now, now)), now, rate):
                    drains = False
                return drains is not None

            seconds = min(HALF_HOUR, self.hour)
            requests, _ = self._run(rate, seconds, BURST_GLANCES, is_told, burst)
            if drains is None:
                end = float(requests.arrival.max())
                slope = growth(requests.arrival, requests.finish, (0.25 * end, end))
                shrinks = slope is not None and slope.slope < -DRAINING * rate
                drains = shrinks or _is_back(requests.arrival, requests.finish, end, usual)
            self._drains[rate, burst] = drains
            how = "drains" if drains else "does not drain"
            what = f"{short_number(rate)} req/s: a burst of {burst:,} {how}"
            self.on_try(what, perf_counter() - began)
        return self._drains[rate, burst]

    def _run(
        self,
        rate: float,
        seconds: float,
        times: tuple[float, ...] = (),
        is_told: Callable[[float, FloatArray, FloatArray], bool] | None = None,
        burst: int = 0,
    ) -> tuple[Requests, Trace]:
        """So many seconds of arrivals, behind a burst; until `is_told`, if given, at one of these times."""
        load = lasting(replace(self.load, request_rate=rate), rate * seconds)
        trace, _ = requests_of(load)
        if burst:
            trace = with_burst(trace, load, burst)
        inputs = prepare(Cell(load, self.arm), trace=trace)
        watch = None
        if is_told is not None:
            last = float(np.nanmax(inputs.trace.arrival_time))
            watch = Watch(tuple(time for time in times if time < last), is_told)
        return Requests.of_record(run(inputs, watch=watch)), inputs.trace

    def _seen(
        self, rate: float, steady: bool, requests: Requests, trace: Trace, state: SteadyState | None
    ) -> Probe:
        if state is None:
            return Probe(rate, False, 0.0, 0.0)
        window = (state.warmup_end, state.arrivals_end)
        backlog = float(mean_backlog(requests.arrival, requests.finish, np.array(window))[0])
        attained: dict[str, tuple[float, ...]] = {}
        if self.slo is not None:
            attained[""] = tuple(self.slo.attainment(requests, window))
            for name, rows in groups_of(trace, self.group).items():
                attained[name] = tuple(self.slo.attainment(requests.take(rows), window))
        return Probe(rate, steady, backlog, state.requests.slope, attained)


def lasting(load: Load, number: float) -> Load:
    """The load with so many requests: a workload's are drawn, a trace that has fewer is repeated. Turns that
    wait for answers are repeated whole."""
    wanted = max(1, round(number))
    if load.trace is None:
        return replace(load, num_requests=wanted, duration=None)
    trace, _ = file_of(load)
    if len(trace) >= wanted:
        return load
    kept = wanted if trace.think_times is None else None
    return replace(load, copies=math.ceil(wanted / len(trace)), num_requests=kept, duration=None)


def _by(now: float, arrival: FloatArray, finish: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Who has arrived by now."""
    there = arrival <= now
    return arrival[there], finish[there]


def _plainly_grows(slope: Trend | None, now: float, rate: float) -> bool:
    return slope is not None and slope.low > PLAINLY / now * rate


def _is_back(arrival: FloatArray, finish: FloatArray, end: float, usual: float) -> bool:
    """Was the system, in the last quarter of the time, about as full as usual?"""
    edges = np.linspace(0.75 * end, end, 11)
    return bool(mean_backlog(arrival, finish, edges).min() <= BACK * usual)


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
    else:
        longer = repeated(trace, 1 + math.ceil(burst / n))
        trace = longer.take(np.arange(n))
    more = longer.take(np.arange(n, n + burst))
    return join(more.with_columns(arrival_time=np.zeros(len(more))), trace)


def join(first: Trace, second: Trace) -> Trace:
    """Two traces of the same columns and other requests, one behind the other."""
    columns: dict[str, object] = {}
    for name in second.columns():
        a, b = getattr(first, name), getattr(second, name)
        columns[name] = np.concatenate([a, b]) if isinstance(a, np.ndarray) else [*a, *b]
    columns["request_id"] = [*first.request_ids(), *second.request_ids()]
    return second.with_columns(**columns)
