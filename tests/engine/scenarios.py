"""Random workloads, engine options and costs for the engine's tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simsched.cost_model.base import StepFeatures
from simsched.engine.config import EngineConfig, engine_config
from simsched.record import RunRecord
from simsched.workload.trace import Trace

POLICIES = [
    "fcfs",
    "priority",
    "priority(preemptive=true)",
    "mlfq",
    "mlfq(base_quantum=0.2,threshold=3,starvation_seconds=0.5)",
    "fastserve",
    "sjf",
    "srtf",
    "srtf(preemptive=false)",
    "po",
    "classification",
    "ranking",
    "ljf",
    "ranking(starvation_threshold=20,starvation_period=5)",
    "mlfq(starvation_threshold=30,starvation_period=3)",
    "fcfs(starvation_threshold=20,starvation_period=5)",
]

STEP_KEYS = {
    "step", "time", "step_time", "scheduled", "preempted", "num_running", "num_waiting", "kv_blocks_used",
}  # fmt: skip
"""What each line of a step log says."""


@dataclass(frozen=True)
class Linear:
    """Coefficients without a common divisor: two different batches hardly ever take the same time."""

    t0: float = 0.0113
    a: float = 5.32e-5
    b: float = 6.42e-5
    c: float = 8.07e-8
    d: float = 3.68e-9

    def step_time(self, features: StepFeatures) -> float:
        f = features
        return self.t0 + self.a * f.P + self.b * f.N + self.d * f.Q + self.c * f.K

    def decode_line(
        self, N: int, num_waiting: int, num_ordered: int = 0, num_compared: int = 0
    ) -> tuple[float, float]:
        return self.t0 + self.b * N, self.c


def trace(n: int, rate: float, seed: int, *, longest: int = 1500, **columns: Any) -> Trace:
    """Log-normal lengths, Poisson arrivals (rate 0: all at once), and a column for every policy."""
    random = np.random.default_rng(seed)
    prompts = np.clip(random.lognormal(4.8, 1.1, n).astype(np.int64), 1, longest // 2)
    outputs = np.clip(random.lognormal(4.2, 1.2, n).astype(np.int64), 1, longest // 2)
    arrivals = np.cumsum(random.exponential(1 / rate, n)) if rate else np.zeros(n)
    made: dict[str, Any] = {
        "score": np.log(outputs) + random.normal(0, 1, n),
        "predicted_class": np.digitize(outputs, [32, 128, 512]),
        "predicted_length": outputs.astype(np.float64),
        "priority": random.integers(0, 3, n),
        "length_quantiles": np.sort(outputs[:, None] * random.lognormal(0, 0.7, (n, 5)), axis=1),
    }
    return Trace(arrivals, prompts, outputs, **(made | columns))


def shared_prefixes(plain: Trace, seed: int, chunk: int = 40) -> Trace:
    """The same requests, their prompts starting with one of a few system prompts (or all of it)."""
    random = np.random.default_rng(seed)
    systems = [tuple(int(i) for i in random.integers(0, 1 << 30, 6)) for _ in range(4)]
    ids, prompts = [], []
    for length in plain.num_prompt_tokens.tolist():
        path = systems[random.integers(4)][: int(random.integers(1, 7))]
        full = len(path) * chunk
        prompts.append(
            (full, max(1, full - int(random.integers(1, chunk))), full + length)[random.integers(3)]
        )
        ids.append(path)
    return plain.with_columns(
        num_prompt_tokens=np.array(prompts, dtype=np.int64), hash_ids=ids, hash_block_size=chunk
    )


def with_owners(plain: Trace, seed: int) -> Trace:
    """The same requests of four tenants, in sessions of some turns."""
    random = np.random.default_rng(seed)
    n = len(plain)
    tenants = [f"t{i}" for i in random.integers(4, size=n)]
    sessions = [f"s{i}" if i < 6 else None for i in random.integers(8, size=n)]
    return plain.with_columns(tenant=tenants, session_id=sessions, history_length=np.zeros(n, dtype=np.int64))


@st.composite
def conversations(draw: st.DrawFn) -> Trace:
    """`traces()` whose prompts share prefixes, of few ids: some are the same, others part early."""
    plain = draw(traces())
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    chunk = draw(st.sampled_from([16, 24, 40, 100]))
    ids = draw(st.sampled_from([1, 2, 4]))
    n = len(plain)
    lengths = np.where(random.random(n) < 0.5, plain.num_prompt_tokens, random.integers(1, 700, n))
    depth = random.integers(0, -(-lengths // chunk) + 1)
    return plain.with_columns(
        num_prompt_tokens=lengths,
        hash_ids=[tuple(random.integers(0, ids, d).tolist()) for d in depth],
        hash_block_size=chunk,
    )


@st.composite
def configs(draw: st.DrawFn) -> EngineConfig:
    """Engines with and without pressure on slots, tokens and KV blocks."""
    slots = draw(st.sampled_from([1, 3, 16, 64]))
    version = draw(st.sampled_from(["0.30.0", "0.32.0", "0.33.0"]))
    chunked = draw(st.sampled_from([True, True, True, False]))
    tokens = draw(st.sampled_from([64, 150, 512, 2048])) if chunked else draw(st.sampled_from([1500, 2048]))
    newer: dict[str, Any] = {}
    if version != "0.30.0":
        newer["max_num_active_seqs"] = draw(st.sampled_from([None, (slots + 1) // 2]))
        newer["long_prefill_token_threshold_adaptive"] = draw(st.booleans())
    return engine_config(
        "vllm-v1",
        vllm_version=version,
        max_num_seqs=slots,
        max_num_batched_tokens=tokens,
        max_num_scheduled_tokens=draw(st.sampled_from([None, None, tokens * 5 // 8])) if chunked else None,
        enable_chunked_prefill=chunked,
        **newer,
        num_gpu_blocks=draw(st.sampled_from([100, 160, 400, 5000])),
        max_model_len=1500,
        block_size=draw(st.sampled_from([16, 16, 32])),
        enable_prefix_caching=draw(st.booleans()),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 50])),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.05])),
        scheduler_reserve_full_isl=draw(st.booleans()),
    )


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Traces of 1 to 80 requests: idle, busy, overloaded, all at once, or closed loop."""
    closed = draw(st.sampled_from([None, None, None, 1, 7]))
    return trace(
        draw(st.integers(1, 80)),
        draw(st.sampled_from([0.0, 1.0, 20.0, 100.0])),
        draw(st.integers(0, 1 << 30)),
        longest=1500,
        closed_loop_users=closed,
        think_time=draw(st.sampled_from([0.0, 0.3])) if closed else 0.0,
    )


def same(one: RunRecord, other: RunRecord) -> None:
    """Both runs took the same decisions at the same times, to the last bit."""
    assert one.num_steps == other.num_steps
    assert one.end_time == other.end_time
    for name in (
        "arrival_time",
        "first_scheduled_time",
        "first_token_time",
        "finish_time",
        "num_preemptions",
        "max_itl",
    ):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.itl.count == other.itl.count
    np.testing.assert_array_equal(one.itl.counts, other.itl.counts)
