"""Random small engines under heavy traffic: slots, tokens and KV blocks all bind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from simsched.cost_model.models import LinearCost
from simsched.engine.admissible import check_admissible
from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.base import hooks_of, registered
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.workload.trace import Trace
from tests.invariants.checks import Step

COST = LinearCost(t0=0.01137, a=5.31e-5, b=6.41e-5, c=8.07e-8, d=3.7e-9, per_waiting=1e-6)
STARVATION = "starvation_threshold={},starvation_period={}"
VARIANTS = {
    "vllm-v1": ["priority(preemptive=true)", "sjf(preemptive=true)", "mlfq(starvation_seconds=0.2)"],
    "vllm-0.4.1-ltr": [],
}


@dataclass(frozen=True)
class Case:
    """What a run starts from."""

    trace: Trace
    policy: str
    config: EngineConfig

    @property
    def hooks(self) -> frozenset[str]:
        """The decisions beyond order that its policy takes."""
        return hooks_of(make_policy(self.policy))

    def record(self, *, leap: bool) -> RunRecord:
        """Simulate without one."""
        return simulate(self.trace, make_policy(self.policy), COST, self.config, leap=leap)

    def run(self) -> tuple[list[Step], RunRecord]:
        """Simulate with a step log."""
        steps: list[Step] = []
        try:
            record = simulate(self.trace, make_policy(self.policy), COST, self.config, step_log=steps.append)
        except InputError as error:
            # preempting by recompute, some settings never get anywhere: noticed, not an endless loop
            assume("displace each other" not in str(error))
            raise
        return steps, record


def policies(preset: str) -> list[str]:
    """Every registered policy that the preset takes, and those of their variants that preempt otherwise than
    by default."""
    v1 = preset == "vllm-v1"
    return [*(name for name in registered() if v1 or not hooks_of(make_policy(name))), *VARIANTS[preset]]


@st.composite
def cases(draw: st.DrawFn, preset: str, name: str) -> Case:
    """A workload and an engine for this policy. The last request comes when all others have long gone: what
    it holds is all that is held then."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 24))
    prompts, outputs = rng.integers(1, draw(st.sampled_from([8, 90])), n), rng.integers(1, 40, n)
    gap = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5]))
    arrivals = np.cumsum(rng.exponential(1, n)).round(draw(st.sampled_from([1, 9]))) * gap
    users = draw(st.sampled_from([None, None, 1, 3]))
    if users is None and n > 1:
        arrivals[-1] = 1e5
    trace = Trace(
        np.zeros(n) if users else arrivals,
        prompts,
        outputs,
        request_id=[f"r{i}" for i in range(n)],
        score=rng.normal(size=n).round(draw(st.integers(0, 2))),
        predicted_class=rng.integers(0, 3, n),
        predicted_length=np.maximum(1, outputs + rng.integers(-3, 4, n)).astype(float),
        priority=rng.integers(0, 3, n),
        length_quantiles=np.sort(rng.integers(1, 60, (n, 3)).astype(float), axis=1),
        closed_loop_users=users,
        think_time=draw(st.sampled_from([0.0, 0.5])) if users else 0.0,
    )
    options: dict[str, object] = {
        "max_num_seqs": draw(st.integers(1, 8)),
        "max_num_batched_tokens": draw(st.sampled_from([3, 16, 40, 200])),
        "block_size": draw(st.sampled_from([1, 4, 16])),
        "max_model_len": 160,
        "watermark": draw(st.sampled_from([0.0, 0.01, 0.2])),
    }
    needed = int((prompts + outputs).max()) // int(str(options["block_size"]))
    options["num_gpu_blocks"] = needed + draw(st.integers(2, 8)) * draw(st.sampled_from([1, 10]))
    if preset == "vllm-v1":
        options["vllm_version"] = draw(st.sampled_from(["0.30.0", "0.33.0"]))
        options["enable_prefix_caching"] = draw(st.booleans())
        options["long_prefill_token_threshold"] = draw(st.sampled_from([0, 0, 7]))
        options["scheduler_reserve_full_isl"] = draw(st.booleans())
        options["decodes_first"] = draw(st.booleans())
        if options["enable_prefix_caching"] and draw(st.booleans()):
            chunks = [tuple(rng.integers(0, 2, -(-int(p) // 16)).tolist()) for p in prompts]
            trace = trace.with_columns(hash_ids=chunks, hash_block_size=16)
    policy = name
    # the fork's MLFQ is a queue discipline, which starvation control can't wrap
    wrapped = name != "fcfs" and (preset, name) != ("vllm-0.4.1-ltr", "mlfq")
    if wrapped and draw(st.booleans()):
        inside = name.partition("(")[2].rstrip(")")
        wrapper = STARVATION.format(draw(st.sampled_from([1, 5, 30])), draw(st.sampled_from([1, 4])))
        policy = f"{name.partition('(')[0]}({','.join(filter(None, [inside, wrapper]))})"
    config = engine_config(preset, **options)
    try:
        trace, _ = check_admissible(trace, config, skip_invalid=True)
    except InputError:
        assume(False)
    return Case(trace, policy, config)
