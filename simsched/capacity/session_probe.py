"""One arm at one rate of sessions, whose later turns come when their answers have come.

The rate counts turns. It is reached only when as many sessions end as start, so the hour that decides follows
a run-in: until nearly all turns of the first sessions have come.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simsched.capacity.probe import Probe, Prober, groups_of
from simsched.metrics import Requests
from simsched.steady import SteadyState, mean_backlog, steady_state
from simsched.sweep.cell import Cell
from simsched.sweep.inputs import prepare
from simsched.sweep.requests import requests_of
from simsched.sweep.run import run
from simsched.workload.named import named_workload
from simsched.workload.sessions import sessions_of
from simsched.workload.starts import last_start, thinking_before
from simsched.workload.trace import FloatArray, Trace

NEARLY_ALL = 99.0
"""Per cent of the turns that have come by the end of the run-in."""
_SAMPLE = 4000  # turns


class SessionProber(Prober):
    """Its rates are turns/s."""

    _thinking: float | None = None

    def probe(self, rate: float) -> Probe:
        """From an empty engine, without the run-in. Not steady where that takes more than half of the time:
        the answers of such an engine hold all later turns back."""
        if rate not in self._probes:
            self._probes[rate] = self._probe(rate)
        return self._probes[rate]

    def _probe(self, rate: float) -> Probe:
        load = replace(self.load, request_rate=rate)
        if load.trace is None:
            seconds = self._run_in() + self.hour
            load = replace(load, num_requests=max(1, round(rate * seconds)), duration=None)
        trace, _ = requests_of(load)
        inputs = prepare(Cell(load, self.arm), trace=trace)
        requests = Requests.of_record(run(inputs))
        start = float(np.percentile(_since_start(inputs.trace, requests), NEARLY_ALL))
        end = last_start(inputs.trace)
        late = start > (end - self.hour / 2 if load.trace is None else end / 2)
        state = None if late else _state(requests, start, end)
        if state is None:
            return Probe(rate, False, 0.0, 0.0)
        window = (state.warmup_end, end)
        backlog = float(mean_backlog(requests.arrival, requests.finish, np.array(window))[0])
        attained: dict[str, tuple[float, ...]] = {}
        if self.slo is not None:
            attained[""] = tuple(self.slo.attainment(requests, window))
            for name, rows in groups_of(inputs.trace, self.group).items():
                attained[name] = tuple(self.slo.attainment(requests.take(rows), window))
        return Probe(rate, state.steady, backlog, state.requests.slope, attained)

    def _run_in(self) -> float:
        """Seconds by which nearly all turns have come where answers take no time."""
        if self._thinking is None:
            sample = named_workload(self.load.workload or "").sample(_SAMPLE, self.load.seed)
            self._thinking = float(np.percentile(thinking_before(sample), NEARLY_ALL))
        return self._thinking


def _state(requests: Requests, start: float, end: float) -> SteadyState | None:
    """Behind the run-in and the warm-up of the queue, up to the last session's start: turns that come later
    are no load."""
    there = requests.take(np.flatnonzero(requests.arrival <= end))
    times = there.arrival, there.first_token, there.finish, there.num_output_tokens
    state = steady_state(*times)
    return state if state is None or state.warmup_end >= start else steady_state(*times, (start, end))


def _since_start(trace: Trace, requests: Requests) -> FloatArray:
    """(n,) seconds from the start of a request's session to its arrival."""
    session = sessions_of(trace)
    start = np.full(int(session.max()) + 1, np.inf)
    np.minimum.at(start, session, requests.arrival)
    since: FloatArray = requests.arrival - start[session]
    return since
