"""Did the simulator's scheduler decide as the real engine did, step by step, on the real engine's clock?

Times of a real run differ from simulated ones, so schedules drift apart. Here the simulator is given what
the engine met (which requests had arrived, when each step began and ended) and asked only to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simsched.engine.recorder import Recorder
from simsched.engine.vllm_v1 import VllmV1
from simsched.policies.spec import make_policy
from validate.job import Job
from validate.lockstep import difference


def check_decisions(job: Job, steps: Sequence[dict[str, Any]], num_gpu_blocks: int) -> dict[str, Any]:
    """Steps compared, and where the first difference is (None: nowhere). Synchronous scheduling only."""
    names = job.trace.request_ids()
    index = {name: place for place, name in enumerate(names)}
    arrivals = np.array(job.trace.arrival_time)
    for step in steps:
        for name, time in step["arrived"].items():
            arrivals[index[name]] = time
    trace = job.trace.with_columns(arrival_time=arrivals)
    config = job.config.model_copy(update={"num_gpu_blocks": num_gpu_blocks})
    scheduler = VllmV1(trace, make_policy(job.policy), config, Recorder(trace))
    for number, step in enumerate(steps, start=1):
        start, end = step["time"], step["end"]
        for name in step["arrived"]:
            scheduler.add_request(index[name], start)
        batch = scheduler.schedule(start)
        while batch is None and scheduler.has_unfinished():
            batch = scheduler.schedule(start)  # it only made room
        ours: dict[str, Any] = {}
        if batch is not None:
            ours = {
                "scheduled": {names[each]: tokens for each, tokens in batch.scheduled.items()},
                "preempted": [names[each] for each in batch.preempted],
                "num_running": batch.num_running,
                "num_waiting": batch.num_waiting,
                "kv_blocks_used": batch.kv_blocks_used,
            }
        found = difference(step, ours) if ours else "the simulator has nothing to run"
        if batch is None or found:
            return {"steps": number, "first_difference": f"step {number}: {found}"}
        scheduler.update(batch, end, end - start, end - start)
    return {"steps": len(steps), "first_difference": None}
