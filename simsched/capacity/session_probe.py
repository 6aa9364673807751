"""One arm at one rate of sessions, whose later turns come when their answers have come.

The rate counts turns. It is reached only when as many sessions end as start, so the hour that decides follows
a run-in: until nearly all turns of the first sessions have come.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from simsched.capacity.probe import Probe, Prober
from simsched.steady import session_window, steady_state_of_sessions
from simsched.sweep.requests import file_of
from simsched.workload.named import named_workload
from simsched.workload.sessions import sessions_of
from simsched.workload.starts import thinking_before


class SessionProber(Prober):
    """Its rates are turns/s."""

    def probe(self, rate: float) -> Probe:
        """From an empty engine, without the run-in. Not steady where that takes more than half of the time:
        the answers of such an engine hold all later turns back."""
        if rate not in self._probes:
            began = perf_counter()
            self._probes[rate] = self._probe(rate)
            self._tell(self._probes[rate], began)
        return self._probes[rate]

    def _probe(self, rate: float) -> Probe:
        workload = self.load.workload
        run_in = named_workload(workload).run_in if workload is not None else self._thinking()
        requests, trace = self._run(rate, run_in + self.hour)
        start, end = session_window(sessions_of(trace), requests.arrival)
        late = start > (end / 2 if workload is None else end - self.hour / 2)
        times = requests.arrival, requests.first_token, requests.finish, requests.num_output_tokens
        state = None if late else steady_state_of_sessions(*times, (start, end))
        return self._seen(rate, state is not None and state.steady, requests, trace, state)

    def _thinking(self) -> float:
        """Seconds of think times before nearly all turns of the trace."""
        return float(np.percentile(thinking_before(file_of(self.load)[0]), 99.0))
