"""Decisions beyond order: leaping takes those of the reference, and they are what the contract says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.record import RunRecord
from simsched.workload.trace import Trace
from tests.engine.deciding import (
    Admits,
    AdmitsInLine,
    AdmitsSome,
    Budgets,
    Chooses,
    Chunks,
    RejectsSome,
    make,
)
from tests.engine.scenarios import Linear, configs, conversations, same, shared_prefixes, trace, traces

GATES = st.sampled_from([None, Admits, AdmitsInLine, AdmitsSome, RejectsSome])
SCENARIO = {
    "gate": GATES,
    "others": st.sets(st.sampled_from([Chooses, Budgets, Chunks])),
    "preemptive": st.booleans(),
    "left": st.booleans(),
    "config": configs(),
    "ahead": st.booleans(),
}


def outcome(trace: Trace, policy: Policy, config: EngineConfig, leap: bool) -> RunRecord | str:
    """The record, or the message where requests displace each other for ever, or a user waits in vain."""
    try:
        return simulate(trace, policy, Linear(), config, leap=leap)
    except InputError as error:
        return str(error)


def check(
    trace: Trace, gate: Any, others: set[Any], preemptive: bool, left: bool, config: EngineConfig, ahead: bool
) -> None:
    config = config.model_copy(update={"async_scheduling": ahead})
    parts = [*([] if gate is None else [gate]), *sorted(others, key=str)]

    def run(leap: bool) -> RunRecord | str:
        return outcome(trace, make(parts, preemptive=preemptive, left=left), config, leap)

    stepped, leapt = run(False), run(True)
    if isinstance(stepped, str) or isinstance(leapt, str):
        assert stepped == leapt
    else:
        same(stepped, leapt)
        assert stepped.rejected is not None
        assert leapt.rejected is not None
        assert (stepped.rejected == leapt.rejected).all()
        assert (stepped.finished | stepped.rejected).all()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=traces(), **SCENARIO)
def test_leaping_equals_stepping(trace: Trace, **scenario: Any) -> None:
    check(trace, **scenario)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=conversations(), **SCENARIO)
def test_leaping_equals_stepping_with_shared_prefixes(trace: Trace, **scenario: Any) -> None:
    check(trace, **scenario)


@pytest.mark.parametrize("gate", [None, AdmitsInLine, AdmitsSome, RejectsSome])
@pytest.mark.parametrize(
    ("preemptive", "ahead", "shared"), [(True, True, False), (True, False, True), (False, True, False)]
)
def test_under_pressure(gate: Any, preemptive: bool, ahead: bool, shared: bool) -> None:
    """Blocks are short in most steps, so that many victims are chosen."""
    config = engine_config(
        max_num_seqs=24, num_gpu_blocks=120, max_model_len=1500, max_num_batched_tokens=512, watermark=0.02
    )
    work = trace(50, 30.0, 3)
    if shared:
        work = shared_prefixes(work.with_columns(num_prompt_tokens=work.num_prompt_tokens // 2 + 1), 4)
    chosen = 0

    class Counts(Chooses):
        def victim(self, candidates: Any, engine: Any) -> Any:
            nonlocal chosen
            chosen += 1
            return super().victim(candidates, engine)

    check(work, gate, {Counts, Budgets, Chunks}, preemptive, False, config, ahead)
    assert chosen > 0
