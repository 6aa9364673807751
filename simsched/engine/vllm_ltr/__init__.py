"""Preset `vllm-0.4.1-ltr`: the paper's fork of vLLM 0.4.1, equal to it step for step."""

from __future__ import annotations

from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.vllm_ltr.base import LtrEngine
from simsched.engine.vllm_ltr.by_policy import ByPolicy
from simsched.engine.vllm_ltr.fcfs import FcfsEngine
from simsched.engine.vllm_ltr.mlfq import MlfqEngine
from simsched.policies.base import Policy
from simsched.policies.mlfq import Mlfq


def make_fork(
    policy: Policy,
    config: ResolvedConfig,
    recorder: Recorder,
    *,
    leap: bool = True,
    padded: bool = False,
) -> LtrEngine:
    """The fork's scheduler under this policy: FCFS and MLFQ have paths of their own.

    With `padded`, steps say how much the sampler pads (`StepFeatures.padding`).
    """
    engine: LtrEngine
    if policy.builtin == "fcfs":
        engine = FcfsEngine(config, recorder, leap=leap)
    elif policy.builtin == "mlfq" and isinstance(policy, Mlfq):
        engine = MlfqEngine(config, recorder, policy, leap=leap)
    else:
        engine = ByPolicy(policy, config, recorder, leap=leap)
    if padded:
        engine.measure_padding()
    return engine
