"""A user's own policy or router, tried on a few requests before a study writes anything."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from simsched.cost_model.base import StepFeatures
from simsched.engine.simulator import simulate
from simsched.engine.step_cost import step_cost
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.policies.class_checks import check_class_attributes, class_attributes
from simsched.policies.user_policy import (
    TRIES,
    UNSEEDED,
    PolicyError,
    asked_in_every_step,
    expected_instead,
)
from simsched.sweep.inputs import Inputs
from simsched.text.table import counted
from simsched.workload.trace import Trace

REHEARSED = 20
"""Requests that a user's own policy is tried on,"""
REHEARSED_TOKENS = 100
"""and the most output tokens of each; of prompt tokens ten times that."""

SECONDS_PER_STEPPED_TOKEN = 1e-5
"""What an output token takes where a run goes step by step, on a usual machine."""


def what_stepping_takes(inputs: Inputs) -> str | None:
    """A line on a policy for which the simulator has to step, as it announces nothing; None: it leaps."""
    policy = inputs.policy
    inner: Policy = getattr(policy, "inner", policy)
    if type(inner).next_change is not Policy.next_change:
        return None
    seconds = int(inputs.trace.num_output_tokens.sum()) * SECONDS_PER_STEPPED_TOKEN
    return (
        f"{policy.name}: has no next_change, so that where requests wait a run goes step by step: about "
        f"{seconds:.2g} s for {counted(len(inputs.trace), 'request')}, more where many wait"
    )


def rehearse(name: str, inputs: Inputs) -> None:
    """Run a user's own policy on a few short requests that compete for a few slots.

    Most of its mistakes show at once, before anything is written: what it raises, and a `next_change` that
    promises more than it keeps, since taking its word then gives other results than asking in every step,
    what all of its kind share, which would carry over from one cell to the next, and numbers that nothing
    seeds.

    Raises:
        PolicyError: one of them.
    """
    cost, short = inputs.cost, _few(inputs)
    crowded = inputs.config.model_copy(update={"max_num_seqs": min(4, inputs.config.max_num_seqs)})

    def times(policy: Policy, leap: bool) -> tuple[list[float], list[int]]:
        record = simulate(short, deepcopy(policy), cost, crowded, leap=leap)
        return np.nan_to_num(record.finish_time, nan=-1.0).tolist(), record.num_preemptions.tolist()

    asked = asked_in_every_step(inputs.policy)
    shared = class_attributes(inputs.policy)
    try:
        stepping = times(asked, leap=False)
        differs = times(inputs.policy, leap=True) != stepping
        unlike_itself = differs and any(times(asked, leap=False) != stepping for _ in range(TRIES))
    except PolicyError:
        raise
    except InputError:
        return  # such as requests that displace each other for ever, as they may not on the whole engine
    check_class_attributes(inputs.policy, shared, name)
    if unlike_itself:
        raise PolicyError(f"policy {name}: {UNSEEDED}")
    if differs:
        raise PolicyError(
            f"policy {name}: next_change promises that priority() stays, and it does not: asked in every "
            f"step, it gives other results; expected {expected_instead(inputs.policy)}"
        )


def rehearse_router(inputs: Inputs) -> None:
    """Start the cell's router and, where it is a user's own, let it choose for a few short requests.

    Raises:
        InputError: it can't be started with so many replicas, or what the router does wrong.
    """
    router = inputs.router
    assert router is not None
    deepcopy(router).start(inputs.num_replicas, inputs.seed)
    if not type(router).is_own:
        return
    few = _few(inputs)
    chosen = []
    try:
        for _ in range(2):
            record = simulate(
                few, deepcopy(inputs.policy), inputs.cost, inputs.config, num_replicas=inputs.num_replicas,
                router=deepcopy(router), units=inputs.units, seed=inputs.seed,
            )  # fmt: skip
            chosen.append(None if record.replica is None else record.replica.tolist())
    except InputError as error:
        if str(error).startswith("router "):
            raise
        return
    if chosen[0] != chosen[1]:
        raise InputError(
            f"router {router.name}: two runs of one seed choose differently, as it draws numbers that "
            "nothing seeds; expected self.random, which has the seed of the run"
        )


def _few(inputs: Inputs) -> Trace:
    """The first requests, cut short: half at once, then one at a time while the others are being served."""
    few = inputs.trace.take(np.arange(min(REHEARSED, len(inputs.trace))))
    later = np.maximum(0, np.arange(len(few)) - len(few) // 2)
    return few.with_columns(
        arrival_time=later * 10 * step_cost(inputs.cost, inputs.config).step_time(StepFeatures(N=1)),
        num_prompt_tokens=np.minimum(few.num_prompt_tokens, 10 * REHEARSED_TOKENS),
        num_output_tokens=np.minimum(few.num_output_tokens, REHEARSED_TOKENS),
        closed_loop_users=None,
        think_times=None,
        hash_ids=None,
    )
