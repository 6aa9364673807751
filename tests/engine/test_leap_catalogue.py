"""Leaping gives the reference's schedule under every setting of the policies from the literature."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.engine.base import CannotLeap
from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.engine.vllm_v1 import changes
from simsched.errors import InputError
from simsched.policies import uniboost
from simsched.policies.base import Policy, Priority
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.request import RequestView
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, configs, conversations, same, trace, traces, with_owners

AGING = [f"sjf-aging(form={form})" for form in ("vllm", "trtllm", "trtllm-cached", "sglang", "ewsjf")]
LEAP = [
    "mc-sf",
    "svf",
    "a-min",
    "past-future",
    "past-future(window=5,reserved=0.2)",
    "p-pas",
    "p-pas(plus=true,small=24,large=200,long_prefill=300)",
    "fair-batching",
    "fair-batching(ttft=0.2,tpot=0.013)",
    "qoserve",
    "qoserve(alpha=0,relegated=0.5,ttft=0.3,tpot=0.013,min_chunk=4)",
    *AGING,
    "sjf-aging(form=sglang,size=output,preemptive=true,aging_tokens=200)",
    "sjf-aging(form=trtllm,preemptive=true,length_median=300,time_median=0.5)",
    "sjf-aging(form=vllm,size=output,length_median=100,time_median=0.3)",
    "sjf-aging(form=trtllm-cached,aging=0.9)",
    "sjf-aging(form=ewsjf,class_width=50)",
    "uniboost",
    "uniboost(gamma=0.5,preemptive=true,time_per_token=0.002)",
    "uniboost(adaptive=true)",
    "uniboost-guard",
    "uniboost-guard(first=0.05,factor=1.5,gamma=0.5,preemptive=true)",
    "tie",
    "tie(batch_size=3,decay_seconds=0.5,max_length=200)",
    "tie(preemptive=true,beta=3)",
    "gittins",
    "sagesched",
    "trail",
    "trail(c=0)",
    "trail(c=100,every=1)",
    "trail(c=0.2,every=30)",
    "elis",
    "elis(every=7)",
    "lpm",
    "lpm(longest_queue=5,in_batch_check=100,in_batch_shared=16)",
    "lpm(preemptive=true,longest_queue=3,in_batch_check=-1)",
    "dfs-weight",
    "dfs-weight(preemptive=true)",
    "hrrn",
    "hrrn(longest_queue=4,in_batch_shared=60)",
    "hrrn(service=output)",
    "edf",
    "edf(preemptive=true)",
    "least-slack",
    "least-slack(preemptive=true,time_per_token=0.01)",
    "least-slack(form=vllm)",
    "uncached-first",
    "uncached-first(starvation_steps=30)",
    "vtc",
    "dlpm",
    "dlpm(quantum=300)",
    "vtc(input_weight=0,output_weight=1)",
    "plas",
    "plas(quantum=0.05,levels=4,starvation_ratio=2)",
    "plas(preemptive=false,quantum=0.3)",
    "atlas",
    "atlas(quantum=0.05,levels=4,starvation_ratio=2)",
    "atlas(preemptive=false,quantum=0.3)",
]
"""Those that leap."""
STEP = ["sjf-aging(form=vllm,preemptive=true,length_median=300,time_median=0.5)"]
"""Those whose running requests change places because time goes by."""


def outcome(trace: Trace, spec: str, config: EngineConfig, leap: bool) -> RunRecord | str:
    """The record, or the message where requests displace each other for ever."""
    try:
        return simulate(trace, make_policy(spec), Linear(), config, leap=leap)
    except InputError as error:
        return str(error)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    spec=st.sampled_from(LEAP + STEP),
    trace=st.one_of(traces(), conversations()),
    config=configs(),
    ahead=st.booleans(),
)
def test_leaping_equals_stepping(spec: str, trace: Trace, config: EngineConfig, ahead: bool) -> None:
    """Synchronous and one step ahead, with and without shared prefixes."""
    config = config.model_copy(update={"async_scheduling": ahead})
    trace = with_owners(trace, len(trace))
    stepped = outcome(trace, spec, config, False)
    leapt = outcome(trace, spec, config, True)
    if isinstance(stepped, str) or isinstance(leapt, str):
        assert stepped == leapt
    else:
        same(stepped, leapt)


@pytest.mark.parametrize("spec", LEAP)
def test_it_leaps(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In overload too, where somebody waits."""

    def refused(reason: str) -> CannotLeap:
        raise AssertionError(reason)

    monkeypatch.setattr(changes, "CannotLeap", refused)
    config = engine_config(max_num_seqs=16, num_gpu_blocks=400, max_model_len=1500)
    assert simulate(with_owners(trace(60, 20.0, 5), 1), make_policy(spec), Linear(), config).finished.all()


@pytest.mark.parametrize(("rate", "blocks"), [(12.0, 400), (30.0, 5000)])
def test_quanta_are_added_alike(rate: float, blocks: int) -> None:
    """One step ahead, where a tenant counts as waiting while its first step is under way."""
    tenants = np.random.default_rng(1).integers(5, size=250)
    requests = trace(250, rate, 7).with_columns(tenant=[f"t{each}" for each in tenants])
    config = engine_config(
        max_num_seqs=64, num_gpu_blocks=blocks, max_model_len=1500, max_num_batched_tokens=1024,
        async_scheduling=True,
    )  # fmt: skip
    stepped, leapt = (outcome(requests, "dlpm(quantum=300)", config, leap) for leap in (False, True))
    assert not isinstance(stepped, str)
    assert not isinstance(leapt, str)
    same(stepped, leapt)


@pytest.mark.parametrize("spec", [*AGING[:1], "hrrn(service=output)", "least-slack(form=vllm)", "vtc"])
def test_nobody_is_asked_while_nobody_can_be_admitted(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all places are taken only whoever arrives is asked, though all that wait move all the time."""
    policy = make_policy(spec)
    cls = type(policy)
    asked = []
    priority = cls.priority

    def counted(self: Policy, request: RequestView, now: float) -> Priority:
        asked.append(now)
        return priority(self, request, now)

    monkeypatch.setattr(cls, "priority", counted)
    n = 60
    outputs = np.full(n, 300)
    requests = with_owners(trace(n, 200.0, 5), 1).with_columns(
        num_output_tokens=outputs, predicted_length=outputs.astype(float), session_id=None
    )
    config = engine_config(max_num_seqs=4, num_gpu_blocks=2000, max_model_len=2000)
    record = simulate(requests, policy, Linear(), config)
    arrived = record.arrival_time.max() + 0.1
    first_done = record.finish_time.min()
    assert first_done > 2 * arrived
    assert not [now for now in asked if arrived < now < first_done]
    assert len(asked) < n * n / 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=traces(), config=configs(), ahead=st.booleans())
def test_gamma_is_refitted_alike(trace: Trace, config: EngineConfig, ahead: bool) -> None:
    """Often, and from few requests."""
    config = config.model_copy(update={"async_scheduling": ahead})
    spec = "uniboost(adaptive=true,gamma=2,time_per_token=0.003,preemptive=true)"
    with (
        mock.patch.object(uniboost, "_LEAST_SAMPLES", 3),
        mock.patch.object(uniboost, "_INTERVAL", 0.25),
    ):
        stepped = outcome(trace, spec, config, False)
        leapt = outcome(trace, spec, config, True)
    if isinstance(stepped, str) or isinstance(leapt, str):
        assert stepped == leapt
    else:
        same(stepped, leapt)
