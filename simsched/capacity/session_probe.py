"""One arm at one rate of sessions, whose later turns come when their answers have come.

The rate counts turns. It is reached only when as many sessions end as start, so the hour that decides follows
a run-in: until nearly all turns of the first sessions have come.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simsched.capacity.probe import Probe, Prober, groups_of
from simsched.metrics import Requests
from simsched.steady import mean_backlog, session_window, steady_state_of_sessions
from simsched.sweep.cell import Cell
from simsched.sweep.inputs import prepare
from simsched.sweep.requests import requests_of
from simsched.sweep.run import run
from simsched.workload.named import named_workload
from simsched.workload.sessions import sessions_of


class SessionProber(Prober):
    """Its rates are turns/s."""

    def probe(self, rate: float) -> Probe:
        """From an empty engine, without the run-in. Not steady where that takes more than half of the time:
        the answers of such an engine hold all later turns back."""
        if rate not in self._probes:
            self._probes[rate] = self._probe(rate)
        return self._probes[rate]

    def _probe(self, rate: float) -> Probe:
        load = replace(self.load, request_rate=rate)
        if load.workload is not None:
            seconds = named_workload(load.workload).run_in + self.hour
            load = replace(load, num_requests=max(1, round(rate * seconds)), duration=None)
        trace, _ = requests_of(load)
        inputs = prepare(Cell(load, self.arm), trace=trace)
        requests = Requests.of_record(run(inputs))
        start, end = session_window(sessions_of(inputs.trace), requests.arrival)
        late = start > (end / 2 if load.workload is None else end - self.hour / 2)
        times = requests.arrival, requests.first_token, requests.finish, requests.num_output_tokens
        state = None if late else steady_state_of_sessions(*times, (start, end))
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
