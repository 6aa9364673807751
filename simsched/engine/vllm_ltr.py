"""Preset `vllm-0.4.1-ltr`: the paper's fork of vLLM 0.4.1, equal to it step for step."""

from __future__ import annotations

from typing import Any

from simsched.engine.config import EngineConfig
from simsched.engine.recorder import Recorder
from simsched.engine.vllm_ltr_base import ForkEngine
from simsched.engine.vllm_ltr_fcfs import FcfsEngine
from simsched.engine.vllm_ltr_mlfq import MlfqEngine
from simsched.engine.vllm_ltr_order import OrderedEngine
from simsched.policies.base import Policy
from simsched.workload.trace import Trace


def make_fork(
    trace: Trace,
    policy: Policy,
    config: EngineConfig,
    recorder: Recorder,
    *,
    leap: bool = True,
    seed: int = 0,
) -> ForkEngine:
    """The fork's scheduler under this policy: FCFS and MLFQ have paths of their own."""
    if policy.name == "fcfs":
        return FcfsEngine(trace, config, recorder, leap=leap)
    if policy.name == "mlfq":
        own: Any = policy
        return MlfqEngine(
            trace, config, recorder, leap=leap, base_quantum=own.base_quantum, threshold=own.threshold
        )
    return OrderedEngine(trace, policy, config, recorder, leap=leap, seed=seed)
