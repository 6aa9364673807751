"""What a request tells the policy scheduler: its columns of the trace, never its true output length."""

from __future__ import annotations

import json
import math

from simsched.vllm.view import HINT
from simsched.workload.sessions import turn_numbers
from simsched.workload.trace import SLOS, Trace


class Hints:
    """The hints of a trace's requests."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._turns = [] if trace.session_id is None else turn_numbers(trace.session_id)

    def of(self, index: int) -> dict[str, str | int | float]:
        """The `extra_args` (over HTTP: `vllm_xargs`) of request `index`."""
        trace = self._trace
        hints: dict[str, str | int | float] = {}
        if trace.score is not None:
            hints["score"] = float(trace.score[index])
        if trace.predicted_class is not None:
            hints["predicted_class"] = int(trace.predicted_class[index])
        if trace.predicted_length is not None:
            hints["predicted_length"] = float(trace.predicted_length[index])
        if trace.length_quantiles is not None:
            hints["length_quantiles"] = ",".join(map(repr, trace.length_quantiles[index].tolist()))
        if trace.priority is not None:
            hints["priority"] = int(trace.priority[index])
        if trace.tenant is not None:
            hints["tenant"] = trace.tenant[index]
        for name in SLOS:
            seconds = getattr(trace, name)
            if seconds is not None and not math.isnan(seconds[index]):
                hints[name] = float(seconds[index])
        if trace.request_class is not None and trace.request_class[index] is not None:
            hints["class"] = str(trace.request_class[index])
        if trace.session_id is not None and trace.session_id[index] is not None:
            hints["session_id"] = str(trace.session_id[index])
            turn = self._turns[index]
            assert turn is not None
            hints["turn"] = turn
        if trace.parent is not None and trace.parent[index]:
            hints["parents"] = json.dumps(trace.parent[index])
        return {HINT + name: value for name, value in hints.items()}
