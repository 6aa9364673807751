"""Chats in a cache that holds little more than the longest of them: an uncontended run evicts what stepping
evicts, and finds what it finds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from simsched.engine.config import ResolvedConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.routers.spec import make_router
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, same
from tests.engine.test_leap_async import costs


@dataclass
class Lengths:
    """Tokens that a turn adds, and tokens of its answer: of few values many end in the same step."""

    added: list[int]
    answers: list[int]


LENGTHS = [
    Lengths([16], [16]),
    Lengths([1, 16, 32], [1, 16, 17]),
    Lengths([1, 16, 32], [8, 24, 33]),
    Lengths(list(range(1, 50)), list(range(1, 60))),
]


@st.composite
def chats(draw: st.DrawFn) -> Trace:
    """A few sessions that start together or one after the other, of as many turns each."""
    sessions, turns = draw(st.integers(2, 7)), draw(st.integers(2, 6))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    lengths = draw(st.sampled_from(LENGTHS))
    thinks = draw(st.sampled_from([[0.0], [0.0, 0.05, 0.5], [0.3, 1.0, 2.0]]))
    starts = np.cumsum(random.random(sessions) * draw(st.sampled_from([0.0, 0.02, 0.3, 1.0])))
    so_far = [0] * sessions
    prompts, answers, think_times = [], [], []
    for turn in range(turns):
        for session in range(sessions):
            prompts.append(so_far[session] + int(random.choice(lengths.added)))
            answers.append(int(random.choice(lengths.answers)))
            so_far[session] = prompts[-1] + answers[-1]
            think_times.append(math.nan if turn == 0 else float(random.choice(thinks)))
    n = len(prompts)
    return Trace(
        np.concatenate([starts, np.full(n - sessions, starts[-1])]), np.array(prompts), np.array(answers),
        session_id=[f"s{row % sessions}" for row in range(n)], think_times=np.array(think_times),
        priority=random.integers(0, 2, n),
    )  # fmt: skip


@st.composite
def tight(draw: st.DrawFn, work: Trace) -> ResolvedConfig:
    """An engine with room for the longest turn and some blocks, or for several such turns."""
    size = draw(st.sampled_from([4, 8, 16]))
    longest = int((work.num_prompt_tokens + work.num_output_tokens).max())
    blocks = -(-longest // size)
    more = draw(st.integers(2, 14) if draw(st.booleans()) else st.integers(1, 4).map(lambda n: n * blocks))
    return engine_config(
        num_gpu_blocks=blocks + more, block_size=size, max_model_len=longest + 16,
        max_num_seqs=draw(st.sampled_from([3, 16])),
        max_num_batched_tokens=draw(st.sampled_from([24, 60, 200, 2048])),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.05])), scheduler_reserve_full_isl=draw(st.booleans()),
    )  # fmt: skip


@pytest.mark.parametrize("ahead", [False, True])
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_leaping_equals_stepping(ahead: bool, data: st.DataObject) -> None:
    work = data.draw(chats())
    config = data.draw(tight(work)).model_copy(update={"async_scheduling": ahead})
    cost = data.draw(costs()) if ahead else Linear()
    spec = data.draw(st.sampled_from(["fcfs", "fcfs", "priority"]))
    router = data.draw(st.sampled_from([None, None, "least-requests", "session", "vllm-dp"]))

    def run(leap: bool) -> RunRecord:
        if router is None:
            return simulate(work, make_policy(spec), cost, config, leap=leap)
        behind = make_router(router)
        return simulate(work, make_policy(spec), cost, config, leap=leap, num_replicas=2, router=behind)

    stepping, leaping = run(False), run(True)
    assert stepping.num_cached_tokens is not None
    event("hits" if stepping.num_cached_tokens.any() else "no hits")
    event("preemptions" if stepping.num_preemptions.any() else "no preemptions")
    same(stepping, leaping)
    np.testing.assert_array_equal(leaping.num_cached_tokens, stepping.num_cached_tokens)
