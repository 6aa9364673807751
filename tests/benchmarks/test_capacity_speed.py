"""Seconds of `simsched capacity` for five policies on the default workload: 20 s on two cores is the goal.

Processor time of one process is judged, as two cores share the arms.
"""

from __future__ import annotations

import time

import pytest

from simsched.capacity import Question, arm_rates
from simsched.sweep.study import make_study

pytestmark = pytest.mark.benchmark_suite

POLICIES = "fcfs,mlfq,ranking,ranking(preemptive=false),srtf"
GOAL = 40.0
"""Seconds of two cores."""


def test_capacity_of_five_policies() -> None:
    start = time.process_time()
    rates, _ = arm_rates(make_study({"policy": POLICIES, "num_runs": 1}), Question(), jobs=1)
    seconds = time.process_time() - start
    found = ", ".join(f"{arm.name} {arm.stable.rate:.1f}" for arm in rates)
    print(f"\n{seconds:.1f} s of processor time, on two cores {seconds / 2:.0f} s elapsed: {found}")
    by_name = {arm.name: arm for arm in rates}
    assert by_name["mlfq"].recovers.rate < by_name["mlfq"].stable.rate
    assert seconds < GOAL
