"""Conversations that are small enough for a CPU.

`python -m validate.small_sessions FILE` writes a trace of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from simsched.workload.lengths import QuantileTable, lognormal
from simsched.workload.named_sessions import SessionWorkload, ThinkTime
from simsched.workload.trace_io import write_trace

SMALL = SessionWorkload(
    "small",
    turns=QuantileTable.of({0: 2, 50: 4, 100: 8}),
    first=lognormal(150, 0.5, 32, 400),
    added=lognormal(50, 0.6, 4, 150),
    output=lognormal(40, 0.6, 2, 120),
    think=ThinkTime(0.5, 0.5, 3.0),
    source="made up, for replays on a CPU",
    longest=1000,
)

if __name__ == "__main__":
    write_trace(SMALL.generate(160, arrivals="sessions(2)", seed=3), Path(sys.argv[1]))
