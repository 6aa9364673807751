"""Ranks that step together beside vLLM's own busy loops: no pass may differ."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

pytestmark = pytest.mark.vllm


def test_no_pass_differs(vllm_version: str) -> None:
    from validate.ranks import rank_cases, run_rank_case

    outcomes = [each for case in rank_cases(16, vllm_version, 5) if (each := run_rank_case(case))]
    assert not [f"{each.of.case.name}: {each.first_divergence}" for each in outcomes if each.divergent_passes]
    assert sum(each.passes for each in outcomes) >= 10_000
    assert sum(each.dummies for each in outcomes) >= 1_000
    configs = [each.of.case.config for each in outcomes]
    assert {config.async_scheduling for config in configs} == {False, True}
    assert max(config.prefill_schedule_interval for config in configs) > 1


@pytest.mark.parametrize("wrong", [{"dp_sync_interval": 7}, {"prefill_schedule_interval": 3}])
def test_a_wrong_rule_is_found(vllm_version: str, wrong: dict[str, int]) -> None:
    """The comparison can fail: the simulator has other ranks than vLLM."""
    from simsched.engine.simulator import simulate
    from simsched.policies.spec import make_policy
    from simsched.routers.spec import make_router
    from validate.ranks import rank_cases
    from validate.virtual_ranks import play_ranks

    given = next(
        each for each in islice(rank_cases(40, vllm_version, 5), 40)
        if each.case.config.prefill_schedule_interval == 1 and each.case.trace.arrival_time[-1] > 5
        and each.case.config.dp_sync_interval is None
    )  # fmt: skip
    case = replace(given.case, config=given.case.config.model_copy(update=wrong))
    lines: list[dict[str, object]] = []
    record = simulate(
        case.trace, make_policy(case.policy), case.cost, case.config, leap=False, step_log=lines.append,
        num_replicas=given.num_ranks, router=make_router("random"),
    )  # fmt: skip
    assert record.replica is not None
    right = given.case
    real = play_ranks(
        right.trace, record.replica, given.num_ranks, right.policy, right.cost, right.config, right.scheduler
    )
    ours = [(line["time"], line["dummy"]) for line in lines if line["replica"] == 0]
    theirs = [(line["time"], line["dummy"]) for line in real[0]]
    assert ours != theirs[: len(ours)]
