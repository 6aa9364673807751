"""Lower bounds: below every schedule of tiny instances, below every policy, and never trivially small."""

from __future__ import annotations

import heapq
from itertools import count, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.bounds import lower_bounds, mean_busy_time, srpt_completion, step_lines
from simsched.cost_model.base import StepFeatures
from simsched.cost_model.models import LinearCost, TableCost
from simsched.engine.config import EngineConfig, engine_config
from simsched.workload.content import shared_with_any
from simsched.workload.trace import Trace

Cost = LinearCost | TableCost
LINEAR = LinearCost(t0=0.01, a=1e-4, b=5e-5, c=1e-7, d=3e-9)
EAGER = LinearCost(t0=0.01, a=1e-4, b=1e-4, c=1e-7, d=3e-9, h=1e-4, floor=0.013)
TABLE = TableCost(
    c=8e-8, d=3e-9, h=2e-5, knots=(1, 64, 65, 128, 256, 512), g=(0.01, 0.012, 0.014, 0.013, 0.02, 0.05)
)
# attention and recomputation dear, so that the terms that are small in practice decide
STEEP = LinearCost(t0=0.5, a=0.3, b=0.8, c=0.05, d=0.04)
BUMPY = TableCost(c=0.1, d=0.02, h=0.1, knots=(1, 2, 3, 4), g=(0.5, 2.0, 1.0, 1.5))
COSTS = pytest.mark.parametrize("cost", [LINEAR, EAGER, TABLE, STEEP, BUMPY], ids=str)


def config(**options: object) -> EngineConfig:
    return engine_config(**{"num_gpu_blocks": 400, "max_model_len": 2048, **options})  # type: ignore[arg-type]


def make_trace(arrivals: list[float], prompts: list[int], outputs: list[int], **columns: object) -> Trace:
    return Trace(np.array(arrivals, float), np.array(prompts), np.array(outputs)).with_columns(**columns)


def exhaustive_optimum(trace: Trace, cost: Cost, engine: EngineConfig, weight: list[float]) -> float:
    """Least sum of weight * latency over every schedule of an engine that may run any set of requests, in
    any chunks, drop and recompute any of them, and wait for arrivals: Dijkstra over its states."""
    n = len(trace)
    arrival, prompt = trace.arrival_time.tolist(), trace.num_prompt_tokens.tolist()
    output = trace.num_output_tokens.tolist()
    ticket = count()
    # state: clock, then (computed, emitted) of each request; the cost is the weighted time spent unfinished
    start = (0.0, tuple((0, 0) for _ in range(n)))
    queue = [(0.0, next(ticket), start)]
    seen = set()

    def waiting_cost(begin: float, end: float, state: tuple[tuple[int, int], ...]) -> float:
        unfinished = (i for i in range(n) if state[i][1] < output[i])
        return sum(weight[i] * max(0.0, end - max(begin, arrival[i])) for i in unfinished)

    while queue:
        spent, _, node = heapq.heappop(queue)
        if node in seen:
            continue
        seen.add(node)
        now, state = node
        active = [i for i in range(n) if state[i][1] < output[i] and arrival[i] <= now]
        later = [t for t in arrival if t > now]
        if not active and not later:
            return spent
        if later:
            then = min(later)
            heapq.heappush(queue, (spent + waiting_cost(now, then, state), next(ticket), (then, state)))
        choices = []
        for i in active:
            computed, emitted = state[i]
            known = prompt[i] + emitted
            kept = (known - 1) // engine.block_size * engine.block_size if engine.enable_prefix_caching else 0
            options = [(0, computed)]
            for begin in {computed, min(kept, computed)}:
                options += [(tokens, begin) for tokens in range(1, known - begin + 1)]
            choices.append(options)
        for picks in product(*choices):
            chosen = [(i, tokens, begin) for i, (tokens, begin) in zip(active, picks, strict=True) if tokens]
            if not chosen or len(chosen) > engine.max_num_seqs:
                continue
            if sum(tokens for _, tokens, _ in chosen) > engine.max_num_batched_tokens:
                continue
            P = N = S = K = 0
            Q = 0.0
            after = list(state)
            for i, tokens, begin in chosen:
                emitted = state[i][1]
                known = prompt[i] + emitted
                if tokens == 1 and emitted and begin + 1 == known:
                    N, K = N + 1, K + begin + 1
                else:
                    P, S, Q = P + tokens, S + 1, Q + tokens * (begin + tokens / 2)
                after[i] = (begin + tokens, emitted + (begin + tokens == known))
            end = now + cost.step_time(StepFeatures(P=P, N=N, S=S, K=K, Q=Q))
            node = (end, tuple(after))
            heapq.heappush(queue, (spent + waiting_cost(now, end, state), next(ticket), node))
    raise AssertionError("no schedule ends")


@COSTS
@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize(
    ("arrivals", "prompts", "outputs"),
    [
        ([0.0], [3], [3]),
        ([0.0, 0.0], [2, 1], [2, 3]),
        ([0.0, 0.0], [3, 1], [1, 2]),
        ([0.0, 0.4], [2, 1], [3, 1]),
        ([0.0, 0.0, 0.0], [1, 2, 1], [2, 1, 1]),
    ],
)
def test_below_the_exhaustive_optimum(
    cost: Cost, caching: bool, arrivals: list[float], prompts: list[int], outputs: list[int]
) -> None:
    trace = make_trace(arrivals, prompts, outputs)
    engine = config(max_num_seqs=2, max_num_batched_tokens=3, block_size=2, enable_prefix_caching=caching)
    bounds = lower_bounds(trace, cost, engine)
    n = len(trace)
    for name, weight in (
        ("mean_e2el_ms", [1.0] * n),
        ("mean_latency_per_token_ms", [1.0 / tokens for tokens in outputs]),
    ):
        best = exhaustive_optimum(trace, cost, engine, weight) / n * 1e3
        assert bounds[name] <= best * (1 + 1e-9)
        assert bounds[name] >= 0.3 * best  # a bound of next to nothing would pass everything else


@COSTS
@pytest.mark.parametrize("preset", ["vllm-v1", "vllm-0.4.1-ltr"])
def test_lines_are_below_every_step(cost: Cost, preset: str) -> None:
    engine = config(preset=preset, max_num_seqs=40, max_num_batched_tokens=300)
    lines = step_lines(cost, engine)
    most = 300 if preset == "vllm-v1" else 5000
    sizes = [*range(301), *range(301, most + 1, 97)]
    for P, N in product(sizes, (0, 1, 2, 7, 39, 40)):
        if 0 < P + N <= most:
            S = min(P, 1)
            time = cost.step_time(StepFeatures(P=P, N=N, S=S))
            for line in lines:
                below = line.fixed + line.decode * N + line.chunk * S + line.prefill * P
                assert below <= time * (1 + 1e-12)


def test_a_request_alone_meets_its_bound() -> None:
    trace = make_trace([0.0], [100], [50])
    alone = LINEAR.step_time(StepFeatures(P=100, S=1, Q=5000)) + sum(
        LINEAR.step_time(StepFeatures(N=1, K=100 + k)) for k in range(1, 50)
    )
    bounds = lower_bounds(trace, LINEAR, config(enable_prefix_caching=False))
    assert bounds["mean_e2el_ms"] == pytest.approx(alone * 1e3)
    assert bounds["mean_latency_per_token_ms"] == pytest.approx(alone * 1e3 / 50)


def test_one_slot_is_a_single_machine() -> None:
    """With one slot and one prompt token, work is exact: SRPT's bound is SRPT's mean."""
    cost = LinearCost(t0=0.02, a=0.0, b=0.0, c=0.0, d=0.0)
    rng = np.random.default_rng(3)
    outputs = rng.integers(1, 60, 200)
    arrivals = np.sort(rng.uniform(0, 100, 200))
    bounds = lower_bounds(
        make_trace(arrivals.tolist(), [1] * 200, outputs.tolist()), cost, config(max_num_seqs=1)
    )
    srpt = srpt_completion(arrivals, outputs * 0.02) - arrivals
    assert bounds["mean_e2el_ms"] == pytest.approx(srpt.mean() * 1e3)


def test_srpt_by_hand() -> None:
    # the long job is displaced twice, and never again by a longer one
    completion = srpt_completion(np.array([0.0, 1.0, 3.0, 20.0]), np.array([10.0, 1.0, 2.0, 1.0]))
    assert completion.tolist() == [13.0, 2.0, 5.0, 21.0]


def test_mean_busy_time_by_hand() -> None:
    # 0: works over [0, 1] and [2, 4]; 1 (three times the weight) over [1, 2]
    mean = mean_busy_time(np.array([0.0, 1.0]), np.array([3.0, 1.0]), np.array([1.0, 3.0]))
    assert mean.tolist() == pytest.approx([(0.5 + 6.0) / 3.0, 1.5])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=5))
@settings(deadline=None)
def test_mean_busy_time_bounds_every_order(jobs: list[tuple[int, int, int]]) -> None:
    """Against every list schedule of unit-time pieces, by the weighted completion it implies."""
    jobs.sort()
    arrival, work, weight = (np.array(column, float) for column in zip(*jobs, strict=True))
    bound = float((weight * (mean_busy_time(arrival, work, weight) + work / 2)).sum())
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(len(jobs))
        left, now, total = work.copy(), 0.0, 0.0
        while left.any():
            ready = [j for j in order if left[j] and arrival[j] <= now]
            now += 1
            if ready:
                left[ready[0]] -= 1
                total += weight[ready[0]] * now * (left[ready[0]] == 0)
        assert bound <= total + 1e-9


def test_shared_prefixes_count_as_free() -> None:
    trace = make_trace(
        [0.0, 0.0, 0.0], [100, 100, 40], [5, 5, 5], hash_ids=[(1, 2), (1, 3), (4,)], hash_block_size=64
    )
    assert shared_with_any(trace).tolist() == [64, 64, 0]
    with_sharing = lower_bounds(trace, LINEAR, config())
    without = lower_bounds(trace, LINEAR, config(enable_prefix_caching=False))
    assert with_sharing["mean_e2el_ms"] < without["mean_e2el_ms"]


def test_kv_memory_tightens_the_bound() -> None:
    rng = np.random.default_rng(1)
    trace = make_trace([0.0] * 200, [500] * 200, rng.integers(50, 500, 200).tolist())
    roomy = lower_bounds(trace, LINEAR, config(num_gpu_blocks=100_000))
    tight = lower_bounds(trace, LINEAR, config(num_gpu_blocks=300))
    assert tight["mean_e2el_ms"] > 1.5 * roomy["mean_e2el_ms"]


def test_a_closed_loop_has_no_bounds() -> None:
    trace = make_trace([0.0, 0.0], [10, 10], [5, 5], closed_loop_users=1)
    assert lower_bounds(trace, LINEAR, config()) == {}


POLICIES = ["fcfs", "mlfq(base_quantum=0.02)", "srtf", "sjf", "ljf", "ranking", "po", "classification"]


@st.composite
def workloads(draw: st.DrawFn) -> Trace:
    n = draw(st.integers(2, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    burst = draw(st.booleans())
    arrivals = np.zeros(n) if burst else np.sort(rng.exponential(1.0, n).cumsum() * 0.05)
    outputs = rng.integers(1, 40, n)
    blocks = draw(st.booleans())
    return Trace(
        arrivals,
        rng.integers(1, 60, n),
        outputs,
        score=outputs + rng.normal(0, 10, n),
        predicted_class=(outputs // 10).astype(np.int64),
        predicted_length=np.maximum(1.0, outputs + rng.normal(0, 10, n)),
        hash_ids=[(0, *rng.integers(1, 3, 3).tolist()) for _ in range(n)] if blocks else None,
        hash_block_size=16 if blocks else None,
    )


@pytest.mark.parametrize("preset", ["vllm-v1", "vllm-0.4.1-ltr"])
@pytest.mark.parametrize("policy", POLICIES)
@given(
    trace=workloads(),
    cost=st.sampled_from([LINEAR, EAGER, TABLE, STEEP, BUMPY]),
    options=st.fixed_dictionaries(
        {
            "max_num_seqs": st.sampled_from([1, 3, 16]),
            "max_num_batched_tokens": st.sampled_from([16, 64, 512]),
            "num_gpu_blocks": st.sampled_from([16, 40, 400]),
            "block_size": st.sampled_from([8, 16]),
        }
    ),
    caching=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_no_policy_beats_the_bound(
    preset: str, policy: str, trace: Trace, cost: Cost, options: dict[str, int], caching: bool
) -> None:
    from simsched.engine.simulator import simulate
    from simsched.policies.spec import make_policy

    v1 = {"enable_prefix_caching": caching} if preset == "vllm-v1" else {}
    engine = engine_config(preset, max_model_len=128, **options, **v1)
    predicted = trace.with_columns(predicted_length=trace.num_output_tokens.astype(float))
    oracle = policy in ("srtf", "sjf", "ljf")
    record = simulate(predicted if oracle else trace, make_policy(policy), cost, engine, leap=False)
    latency = record.finish_time - record.arrival_time
    bounds = lower_bounds(trace, cost, engine)
    assert bounds["mean_e2el_ms"] <= latency.mean() * 1e3 * (1 + 1e-9)
    per_token = (latency / trace.num_output_tokens).mean() * 1e3
    assert bounds["mean_latency_per_token_ms"] <= per_token * (1 + 1e-9)
