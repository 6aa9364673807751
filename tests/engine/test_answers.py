"""Answers as cached prefixes: a turn hits the full blocks of the prompt and answer that it goes on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass

from simsched.cost_model.models import LinearCost
from simsched.engine.base import Batch, CannotLeap
from simsched.engine.config import ResolvedConfig, engine_config
from simsched.engine.simulator import Unit, _Run, _simulate, simulate
from simsched.engine.vllm_v1.leaping import VllmV1Leap
from simsched.engine.vllm_v1.leaping_async_shared import AsyncSharedVllmV1Leap
from simsched.engine.vllm_v1.leaping_shared import SharedVllmV1Leap
from simsched.engine.vllm_v1.stepping_async import AsyncVllmV1
from simsched.errors import RunError
from simsched.metrics import summarize
from simsched.policies.base import NEVER, Change, Policy
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.request import RequestView
from simsched.request_table import request_table
from simsched.routers.spec import make_router
from simsched.workload.formats import load_trace
from simsched.workload.named import named_workload
from simsched.workload.trace import Trace
from tests.engine.scenarios import same

COST = LinearCost(t0=0.011, a=5.3e-5, b=6.4e-5, c=8.1e-8, d=3.7e-9)


def config(**options: object) -> ResolvedConfig:
    return engine_config("vllm-v1", **{"num_gpu_blocks": 500, "max_model_len": 4096, **options})


@dataclass(eq=False)
class MostCached(Policy):
    """Who finds most in the cache goes first, also before those who run."""

    preemptive: bool = True
    reads_cache = True

    def priority(self, request: RequestView, now: float) -> float:
        return -request.num_cached_tokens

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER


def run(trace: Trace, policy: str, settings: ResolvedConfig, leap: bool) -> RunRecord:
    """As it is asked for, or `CannotLeap`."""
    started = _Run(trace, (Unit(COST, settings),), settings, 0.0, 0, None)
    made = MostCached() if policy == "most-cached" else make_policy(policy)
    return _simulate(started, made, leap=leap)


def computed(trace: Trace, settings: ResolvedConfig, policy: str = "fcfs") -> int:
    """Prompt tokens that are computed (without preemptions), step by step."""
    steps: list[dict[str, dict[str, int]]] = []
    record = simulate(trace, make_policy(policy), COST, settings, step_log=steps.append)
    assert not record.num_preemptions.any()
    decodes = int((trace.num_output_tokens - 1).sum())
    return sum(sum(step["scheduled"].values()) for step in steps) - decodes


def test_the_hit_rate_counts_tokens_found_over_tokens_looked_up() -> None:
    trace = turns([80, 240], [49, 5], session_id=["a", "a"])
    for leap in (True, False):
        record = run(trace, "fcfs", config(), leap)
        assert record.num_cached_tokens is not None
        assert record.num_cached_tokens.tolist() == [0, 128]
        table = request_table(record)
        assert table["num_cached_tokens"].to_list() == [0, 128]
        assert table["prefix_cache_hit_rate"].to_list() == [0, 128 / 240]
        assert summarize(record)["prefix_cache_hit_rate"] == 128 / 320
    off = config(enable_prefix_caching=False)
    assert summarize(simulate(trace, make_policy("fcfs"), COST, off))["prefix_cache_hit_rate"] == 0


def turns(prompts: list[int], answers: list[int], gap: float = 60.0, **columns: object) -> Trace:
    n = len(prompts)
    return Trace(np.arange(n) * gap, np.array(prompts), np.array(answers), **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(("answer", "hit"), [(1, 80), (16, 80), (17, 96), (32, 96), (33, 112)])
def test_the_last_token_of_an_answer_is_not_cached(answer: int, hit: int) -> None:
    trace = turns([80, 80 + answer + 100], [answer, 5], session_id=["a", "a"])
    assert computed(trace, config()) == 80 + (180 + answer - hit)


@pytest.mark.parametrize("columns", [{}, {"session_id": ["a", "b"]}, {"session_id": ["a", None]}])
def test_without_a_session_nothing_is_shared(columns: dict[str, object]) -> None:
    assert computed(turns([80, 200], [50, 5], **columns), config()) == 280


def test_nothing_is_hit_without_prefix_caching() -> None:
    trace = turns([80, 200], [50, 5], session_id=["a", "a"])
    assert computed(trace, config(enable_prefix_caching=False)) == 280


def test_a_turn_that_comes_early_hits_what_is_there() -> None:
    """It waits for nobody: of an answer under way it hits the blocks that are full."""
    early = turns([64, 200], [100, 5], gap=0.5, session_id=["a", "a"])
    late = turns([64, 200], [100, 5], session_id=["a", "a"])
    tokens = computed(early, config())
    assert computed(late, config()) == 64 + 200 - 160
    assert 64 + 200 - 160 < tokens < 64 + 200 - 64


def test_the_qwen_bailian_chat(shared_cases: Path) -> None:
    """vLLM computes 24,640 prompt tokens of it; without the answers it would be 82,240."""
    trace, _ = load_trace(shared_cases / "06-qwen-bailian" / "chat.jsonl")
    roomy = config(num_gpu_blocks=50_000, max_model_len=8192)
    assert computed(trace, roomy) == 24_640
    assert computed(trace.with_columns(parent=None, session_id=None), roomy) == 82_240


@st.composite
def conversations(draw: st.DrawFn) -> Trace:
    """Turns of a few sessions, close together, with forks and cut histories; perhaps with hash ids."""
    n = draw(st.integers(2, 24))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    prompts, answers, parents, known = [], [], [], []
    for row in range(n):
        parent = int(random.integers(max(-1, row - 4), row)) if row else -1
        answers.append(int(random.integers(1, 90)))
        total = prompts[parent] + answers[parent] if parent >= 0 else 0
        prompts.append(min(900, total * int(random.random() < 0.8) + int(random.integers(1, 120))))
        parents.append((str(parent),) if parent >= 0 else ())
        most = min(total, prompts[row]) if parent >= 0 else 0
        known.append(int(random.integers(0, most + 1)) if random.random() < 0.2 else -1)
    times = np.sort(random.random(n) * n * draw(st.sampled_from([0.02, 0.2, 1.0, 10.0])))
    trace = Trace(
        times, np.array(prompts), np.array(answers), parent=parents, history_length=np.array(known),
        score=random.random(n), predicted_length=random.random(n) * 90, priority=random.integers(0, 3, n),
    )  # fmt: skip
    if draw(st.booleans()):
        trace = with_hash_ids(trace, draw(st.sampled_from([8, 16, 24])))
    return trace


def with_hash_ids(trace: Trace, size: int) -> Trace:
    """The same content, named by ids of blocks of the prompts."""
    from simsched.workload.content import contents

    paths = contents(trace)
    assert paths is not None
    names: dict[tuple[tuple[int, int], ...], int] = {}
    ids = []
    for path, prompt in zip(paths, trace.num_prompt_tokens.tolist(), strict=True):
        tokens = [node for (node, end), start in zip(path, [0, *(e for _, e in path)], strict=False)
                  for _ in range(start, end)][:prompt]  # fmt: skip
        chunks = [tuple(enumerate(tokens[: at + size])) for at in range(0, prompt, size)]
        ids.append(tuple(names.setdefault(chunk, len(names)) for chunk in chunks))
    return trace.with_columns(hash_ids=ids, hash_block_size=size)


def outcome(trace: Trace, policy: str, settings: ResolvedConfig, leap: bool) -> RunRecord | str:
    try:
        return run(trace, policy, settings, leap)
    except RunError as error:
        return str(error)


@pytest.mark.parametrize(
    "policy", ["fcfs", "priority", "srtf", "ranking", "mlfq(base_quantum=0.05)", "most-cached",
               "ranking(starvation_threshold=20,starvation_period=5)"]
)  # fmt: skip
@pytest.mark.parametrize("ahead", [False, True])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_leaping_equals_stepping(policy: str, ahead: bool, data: st.DataObject) -> None:
    """Also under preemption, and with requests passed over whose answers others hit."""
    trace = data.draw(conversations())
    blocks = data.draw(st.sampled_from([70, 90, 150, 1000]))
    options = config(
        num_gpu_blocks=blocks, max_model_len=1000, max_num_seqs=data.draw(st.sampled_from([2, 4, 16])),
        max_num_batched_tokens=data.draw(st.sampled_from([16, 24, 64, 512])), async_scheduling=ahead,
    )  # fmt: skip
    try:
        leaping = outcome(trace, policy, options, True)
    except CannotLeap:
        event("can't leap")
        return
    stepping = outcome(trace, policy, options, False)
    if isinstance(stepping, str) or isinstance(leaping, str):
        assert leaping == stepping
        return
    same(stepping, leaping)
    np.testing.assert_array_equal(leaping.num_cached_tokens, stepping.num_cached_tokens)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("replicas", "tokens"), [(1, 16_384), (1, 512), (2, 16_384)])
def test_while_nobody_waits_no_step_is_formed_by_itself(
    ahead: bool, replicas: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever arrives looks for its prefix in the uncontended run, too, also if its prompt takes several
    steps."""
    work = named_workload("chat-sessions").generate(150, arrivals="sessions(5)", seed=1)
    roomy = config(
        num_gpu_blocks=8000, max_model_len=16_384, max_num_batched_tokens=tokens, async_scheduling=ahead
    )
    scheduler = AsyncSharedVllmV1Leap if ahead else SharedVllmV1Leap
    calls = 0
    original = scheduler.schedule

    def counted(self: VllmV1Leap, now: float) -> Batch | None:
        nonlocal calls
        calls += 1
        return original(self, now)  # type: ignore[arg-type]

    def at_replicas(leap: bool) -> RunRecord:
        router = make_router("least-requests") if replicas > 1 else None
        return simulate(
            work, make_policy("fcfs"), COST, roomy, leap=leap, num_replicas=replicas, router=router
        )

    stepping = at_replicas(False)
    assert stepping.num_cached_tokens is not None
    assert stepping.num_cached_tokens.sum() > 0
    monkeypatch.setattr(scheduler, "schedule", counted)
    leaping = at_replicas(True)
    same(stepping, leaping)
    np.testing.assert_array_equal(leaping.num_cached_tokens, stepping.num_cached_tokens)
    # one of several replicas forms a step as it ceases to be idle; of 150 turns few find it so
    assert calls < (20 if replicas == 1 else 100)
    assert stepping.num_steps > 30_000


@pytest.mark.parametrize("policy", ["srtf", "mlfq"])
def test_preemption_of_sessions_is_leapt_over(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step ahead, with requests passed over whose answers others hit: the reference is not asked."""

    def never(self: AsyncVllmV1, now: float) -> None:
        raise AssertionError

    work = named_workload("chat-sessions").generate(120, arrivals="sessions(9)", seed=3)
    work = work.with_columns(predicted_length=work.num_output_tokens.astype(np.float64))
    tight = config(
        max_num_seqs=6, max_num_batched_tokens=256, num_gpu_blocks=1500, max_model_len=16_384,
        async_scheduling=True,
    )  # fmt: skip
    stepping = simulate(work, make_policy(policy), COST, tight, leap=False)
    assert stepping.num_preemptions.sum() > 0
    monkeypatch.setattr(AsyncVllmV1, "schedule", never)
    same(stepping, simulate(work, make_policy(policy), COST, tight))


@pytest.mark.parametrize("ahead", [False, True])
def test_who_waits_for_blocks_is_asked_again_when_an_answer_fills_one(ahead: bool) -> None:
    """The turn needs 18 blocks. It fits beside the answer under way (17 usable blocks and that one's last)
    only in a step in which the answer's last block is full, so that it can be hit. (One step ahead its last
    token is on its way then.)"""
    trace = turns([64, 280], [200, 5], gap=0.5, session_id=["a", "a"])
    tight = config(num_gpu_blocks=19, max_model_len=288, async_scheduling=ahead)
    leaping, stepping = (outcome(trace, "fcfs", tight, leap) for leap in (True, False))
    assert isinstance(leaping, RunRecord)
    assert isinstance(stepping, RunRecord)
    assert stepping.first_scheduled_time[1] < stepping.finish_time[0] or ahead
    assert leaping.first_scheduled_time.tolist() == stepping.first_scheduled_time.tolist()
    assert leaping.finish_time.tolist() == stepping.finish_time.tolist()


def test_one_that_is_passed_over_has_filled_a_block_that_others_hit() -> None:
    """The fourth's last block gets full as it decodes. It is then passed over, and the last one, which comes
    after that, finds the block: else it would be behind the fifth in the order."""
    trace = Trace(
        np.array([0.59, 1.16, 1.36, 1.43, 1.5, 1.52]),
        np.array([1, 40, 1, 127, 205, 268]),
        np.array([57, 83, 20, 5, 5, 1]),
        parent=[(), ("0",), (), ("1",), ("1",), ("3",)],
    )
    tight = config(num_gpu_blocks=150, max_model_len=1000, max_num_seqs=16, max_num_batched_tokens=16)
    leaping, stepping = (run(trace, "most-cached", tight, leap) for leap in (True, False))
    assert leaping.num_cached_tokens is not None
    assert leaping.num_cached_tokens[5] == 128
    same(stepping, leaping)
