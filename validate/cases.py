"""What lock-step compares: small workloads and engines in which every rule of the scheduler matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simsched.cost_model.base import CostModel
from simsched.cost_model.models import LinearCost
from simsched.engine.config import ResolvedConfig, engine_config
from simsched.policies.base import hooks_of, registered
from simsched.policies.spec import make_policy
from simsched.predictors.spec import apply_predictor
from simsched.vllm_versions import OLDEST, OPTIONS_SINCE, parse_version, rules_of
from simsched.workload.trace import Trace

# About an A100 with Llama-3-8B. No two steps take the same time, so nothing coincides by chance.
COST = LinearCost(t0=0.0110317, a=5.3211e-5, b=6.4237e-5, c=8.0713e-8, d=3.6829e-9)

BUILTIN = ("fcfs", "priority")
"""Policies that vLLM has itself."""

VARIANTS = ("priority(preemptive=true)", "ranking(starvation_threshold=40,starvation_period=5)")
"""Settings that take another path than the defaults of the registered policies."""


@dataclass(frozen=True)
class Case:
    """One policy on one engine; both sides play it."""

    name: str
    policy: str
    scheduler: str
    """`builtin`: vLLM's own class; `policy`: ours."""
    trace: Trace
    config: ResolvedConfig
    cost: CostModel = COST
    group: str = "cases"
    """What it is one of."""
    may_livelock: bool = False
    """Drawn at random: requests may displace each other for ever. The simulator stops there with an error, up
    to which the two are compared."""


@dataclass(frozen=True)
class Setting:
    """An engine and the workload that strains it."""

    engine: dict[str, Any]
    num_requests: int
    request_rate: float
    prompt: float
    """Median prompt length, in tokens; lognormal with sigma 1."""
    output: float
    """Median output length."""
    shared: bool = False
    """Prompts share prefixes (`hash_ids`)."""
    turns: bool = False
    """Requests are turns of conversations, whose prompts hold the answers before them (`parent`)."""


SETTINGS: dict[str, Setting] = {
    "tiny": Setting(
        {"max_num_seqs": 8, "max_num_batched_tokens": 256, "num_gpu_blocks": 2000}, 35, 3.0, 100, 60
    ),
    "pressure": Setting(
        {"max_num_seqs": 16, "max_num_batched_tokens": 512, "num_gpu_blocks": 100}, 50, 4.0, 100, 60
    ),
    "no-caching": Setting(
        {
            "max_num_seqs": 16,
            "max_num_batched_tokens": 512,
            "num_gpu_blocks": 100,
            "enable_prefix_caching": False,
        },
        50, 4.0, 100, 60,
    ),
    "shared-prefixes": Setting(
        {"max_num_seqs": 16, "max_num_batched_tokens": 512, "num_gpu_blocks": 120}, 50, 4.0, 200, 60, True
    ),
    "threshold": Setting(
        {
            "max_num_seqs": 16,
            "max_num_batched_tokens": 256,
            "num_gpu_blocks": 120,
            "long_prefill_token_threshold": 48,
            "watermark": 0.03,
            "scheduler_reserve_full_isl": False,
        },
        50, 4.0, 150, 60,
    ),
    "conversations": Setting(
        {"max_num_seqs": 16, "max_num_batched_tokens": 512, "num_gpu_blocks": 120},
        60, 4.0, 40, 60, turns=True,
    ),
    "a100": Setting({"num_gpu_blocks": 8000}, 320, 60.0, 150, 100),
}  # fmt: skip
MAX_MODEL_LEN = 1024

RANDOM_POLICIES = (
    "fcfs", "priority", "priority(preemptive=true)", "sjf", "ljf", "srtf", "srtf(preemptive=false)", "po",
    "ranking", "ranking(preemptive=false)", "ranking(starvation_threshold=15,starvation_period=40)",
    "srtf(starvation_threshold=40,starvation_period=60)", "classification(max_length=500)",
    "classification(buckets=percentile,num_buckets=4)", "mlfq", "mlfq(base_quantum=0.2,threshold=3)",
    "mlfq(starvation_seconds=0.7)", "fastserve", "fastserve(base_quantum=0.1)",
)  # fmt: skip

CATALOGUE = (
    "mc-sf", "svf", "a-min", "past-future", "past-future(window=5,reserved=0.2)",
    "p-pas", "p-pas(plus=true,small=24,large=200,long_prefill=300)",
    "fair-batching", "fair-batching(ttft=0.2,tpot=0.013)",
    "qoserve", "qoserve(alpha=0,relegated=0.5,ttft=0.3,tpot=0.013,min_chunk=4)",
    *(f"sjf-aging(form={form})" for form in ("vllm", "trtllm", "trtllm-cached", "sglang", "ewsjf")),
    "sjf-aging(form=sglang,size=output,preemptive=true,aging_tokens=200)",
    "sjf-aging(form=vllm,preemptive=true,length_median=300,time_median=0.5)",
    "sjf-aging(form=trtllm-cached,aging=0.9)", "sjf-aging(form=ewsjf,class_width=50)",
    "tie", "tie(batch_size=4,decay_seconds=0.5,max_length=200)", "gittins", "sagesched",
    "trail", "trail(c=0)", "trail(c=0.2,every=30)", "elis", "elis(every=7)",
    "lpm", "lpm(longest_queue=5,in_batch_check=100,in_batch_shared=16)", "lpm(in_batch_check=-1)",
    "dfs-weight", "dfs-weight(preemptive=true)", "hrrn", "hrrn(longest_queue=4,in_batch_shared=60)",
    "hrrn(service=output)", "edf", "edf(preemptive=true)", "least-slack",
    "least-slack(preemptive=true,time_per_token=0.01)", "least-slack(form=vllm)",
    "uncached-first", "uncached-first(starvation_steps=30)", "vtc", "vtc(input_weight=0,output_weight=1)",
    "dlpm", "dlpm(quantum=300)",
    "plas", "plas(quantum=0.02,levels=4,starvation_ratio=3)", "plas(preemptive=false,quantum=0.1)",
    "atlas", "atlas(quantum=0.02,levels=4,starvation_ratio=3)", "atlas(preemptive=false,quantum=0.1)",
    "uniboost", "uniboost(gamma=0.5,preemptive=true,time_per_token=0.002)", "uniboost(adaptive=true)",
    "uniboost-guard", "uniboost-guard(first=0.05,factor=1.5,gamma=0.5,preemptive=true)",
)  # fmt: skip
"""Policies from the literature: `lockstep --random N --policy catalogue` draws from them."""


def workload(name: str, setting: Setting, seed: int) -> Trace:
    """Poisson arrivals, lognormal lengths, three client priorities; some prompts with shared prefixes."""
    stream = np.random.default_rng([seed, len(name), setting.num_requests])
    n = setting.num_requests
    prompts = np.clip(stream.lognormal(np.log(setting.prompt), 1.0, n), 4, MAX_MODEL_LEN // 2).astype(int)
    outputs = np.clip(stream.lognormal(np.log(setting.output), 1.0, n), 1, MAX_MODEL_LEN // 2 - 1).astype(int)
    block = 32
    hash_ids = None
    if setting.shared:
        # a few system prompts, each continued in a few ways; the rest of a prompt is its own
        hash_ids = []
        for index, prompt in enumerate(prompts):
            system, branch = stream.integers(4), stream.integers(3)
            shared = [int(100 * system + depth) for depth in range(3)]
            shared += [int(1000 + 100 * system + 10 * branch + depth) for depth in range(2)]
            own = [10_000 + 100 * index + depth for depth in range(-(-int(prompt) // block))]
            depth = int(stream.integers(0, 6))
            hash_ids.append(tuple((shared[:depth] + own)[: -(-int(prompt) // block)]))
    trace = Trace(
        arrival_time=np.cumsum(stream.exponential(1 / setting.request_rate, n)),
        num_prompt_tokens=prompts,
        num_output_tokens=outputs,
        priority=stream.integers(0, 3, n),
        hash_ids=hash_ids,
        hash_block_size=None if hash_ids is None else block,
        name=name,
    )
    return _as_turns(trace, stream) if setting.turns else _with_owners(trace, seed)


def _with_owners(trace: Trace, seed: int) -> Trace:
    """The same requests of four tenants, in sessions; where prompts share no prefixes, with parents, too."""
    n = len(trace)
    stream = np.random.default_rng([seed, n, 1])
    owned = trace.with_columns(tenant=[f"t{i}" for i in stream.integers(4, size=n)])
    owned = owned.with_columns(session_id=[f"s{i}" if i < 8 else None for i in stream.integers(10, size=n)])
    if trace.hash_ids is not None:
        return owned
    # each of these goes on from one or two before it, with nothing of their prompts and answers in its own
    parents = [tuple(str(each) for each in {*stream.integers(row, size=2).tolist()}) for row in range(1, n)]
    rows = stream.random(n) < 0.5
    kept = [() if not row or not rows[row] else parents[row - 1] for row in range(n)]
    return owned.with_columns(parent=kept, history_length=np.zeros(n, dtype=np.int64))


def _as_turns(trace: Trace, stream: np.random.Generator) -> Trace:
    """Three of four requests go on from one of the eight before, with all of its prompt and answer or (one of
    four of these) a part, and then with what was their prompt."""
    prompts, outputs = trace.num_prompt_tokens.tolist(), trace.num_output_tokens.tolist()
    parents: list[tuple[str, ...]] = []
    histories = []
    for index in range(len(trace)):
        parent = index - int(stream.integers(1, 9))
        before = prompts[parent] + outputs[parent] if parent >= 0 else 0
        kept = int(stream.integers(1, before + 1)) if before and stream.random() < 0.25 else before
        goes_on = 0 < kept + prompts[index] <= MAX_MODEL_LEN // 2 and before > 0 and stream.random() < 0.75
        parents.append((str(parent),) if goes_on else ())
        histories.append(kept if goes_on else -1)
        prompts[index] += kept * goes_on
    return trace.with_columns(
        num_prompt_tokens=np.array(prompts), parent=parents, history_length=np.array(histories)
    )


def builtin_cases(version: str, seed: int = 0) -> Iterator[Case]:
    """Every policy on every setting, synchronous and asynchronous; vLLM's own policies also on its class.

    Args:
        version: of the vLLM that the simulator is compared with.
    """
    policies = [*sorted(registered()), *VARIANTS]
    for asynchronous in (False, True):
        for name, setting in SETTINGS.items():
            trace = workload(name, setting, seed)
            config = engine_config(
                vllm_version=version,
                max_model_len=MAX_MODEL_LEN,
                async_scheduling=asynchronous,
                **setting.engine,
            )
            for policy in policies:
                filled, _ = apply_predictor(None, make_policy(policy), trace, seed=seed)
                if policy in BUILTIN:
                    yield Case(name, policy, "builtin", filled, config)
                yield Case(name, policy, "policy", filled, config)
            first = next(policy for policy in policies if policy.startswith("srtf"))
            filled, _ = apply_predictor(None, make_policy(first), trace, seed=seed)
            decodes_first = config.model_copy(update={"decodes_first": True})
            yield Case(f"{name}, decodes first", first, "policy", filled, decodes_first)


def random_cases(
    count: int,
    version: str,
    seed: int = 0,
    *,
    policies: Sequence[str] = RANDOM_POLICIES,
    kv_pressure: bool = False,
    shared_prefixes: bool = False,
    group: str = "random",
) -> Iterator[Case]:
    """Engines, workloads and policies drawn at random, every option with a chance to meet every other.

    Args:
        count: so many.
        version: of the vLLM that the simulator is compared with; options that it lacks stay off.
        seed: the same cases for the same seed, those options apart.
        policies: to draw from.
        kv_pressure: never many more KV blocks than the longest request needs.
        shared_prefixes: always, with prefix caching.
        group: what the cases are called.
    """
    for number in range(count):
        stream = np.random.default_rng([seed, number])

        def one_of(*choices: Any, stream: np.random.Generator = stream) -> Any:
            return choices[int(stream.integers(len(choices)))]

        block = one_of(16, 16, 32)
        spare = (1, 8, 30) if kv_pressure else (1, 8, 30, 100, 500)
        setting = Setting(
            {
                "max_num_seqs": one_of(1, 4, 8, 16, 32),
                "max_num_batched_tokens": one_of(64, 128, 256, 512, 1024),
                "block_size": block,
                # from no more than the longest request needs to plenty
                "num_gpu_blocks": MAX_MODEL_LEN // block + 1 + int(one_of(*spare)),
                "long_prefill_token_threshold": one_of(0, 0, 32, 100),
                "watermark": one_of(0.0, 0.0, 0.02, 0.1),
                "scheduler_reserve_full_isl": one_of(True, True, False),
                "enable_prefix_caching": one_of(True, True, False) or shared_prefixes,
                "async_scheduling": one_of(True, False),
                "decodes_first": one_of(True, False, False),
            },
            num_requests=int(one_of(20, 40, 60)),
            request_rate=float(one_of(2.0, 6.0, 20.0, 1000.0)),
            prompt=float(one_of(20, 100, 250)),
            output=float(one_of(5, 40, 100)),
            shared=one_of(True, False) or shared_prefixes,
        )
        policy = one_of(*policies)
        trace = workload(f"random-{number}", setting, seed)
        filled, _ = apply_predictor(None, make_policy(policy), trace, seed=seed)
        limits = _random_limits(one_of, setting.engine)
        newer = [name for name in limits if parse_version(version) < OPTIONS_SINCE.get(name, OLDEST)]
        for name in newer:
            del limits[name]
        if hooks_of(make_policy(policy)) & {"token_budget", "chunk"}:  # they need it
            limits["enable_chunked_prefill"] = True
        if rules_of(version).engine_has_prefill_cadence:
            intervals = np.random.default_rng([seed, number, 2])
            limits["prefill_schedule_interval"] = int(intervals.choice([1, 1, 2, 3, 8]))
        config = engine_config(
            vllm_version=version, max_model_len=MAX_MODEL_LEN, **{**setting.engine, **limits}
        )
        builtin = policy in BUILTIN and not config.decodes_first and one_of(True, False)
        scheduler = "builtin" if builtin else "policy"
        yield Case(f"{group}-{number}", policy, scheduler, filled, config, group=group, may_livelock=True)


def _random_limits(one_of: Callable[..., Any], engine: dict[str, Any]) -> dict[str, Any]:
    """What most engines leave off: limits below the batch's, a threshold that adapts, prompts as a whole."""
    limits: dict[str, Any] = {
        "max_num_active_seqs": one_of(None, None, max(1, engine["max_num_seqs"] // 2)),
        "max_num_scheduled_tokens": one_of(None, None, engine["max_num_batched_tokens"] * 5 // 8),
        "long_prefill_token_threshold_adaptive": one_of(False, True),
    }
    if one_of(True, False, False, False, False):
        limits["max_num_queued_reqs"] = one_of(None, 5, 20)
        limits["max_num_queued_tokens"] = one_of(None, 200, 900)
    if one_of(True, True, True, False):
        return limits
    # vLLM wants the longest prompt to fit a step
    return {
        **limits,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": MAX_MODEL_LEN,
        "max_num_scheduled_tokens": None,
    }


def quick_cases(version: str) -> Iterator[Case]:
    """A dozen cases that meet every rule and option in which versions differ, in a quarter of a minute."""
    wanted = {
        "threshold": ("fcfs", "srtf", "mlfq"),
        "pressure": ("priority", "srtf"),
        "shared-prefixes": ("priority",),
    }
    for case in builtin_cases(version):
        if case.policy in wanted.get(case.name, ()):
            yield replace(case, group="quick")
    if parse_version(version) < OPTIONS_SINCE["max_num_active_seqs"]:
        return
    for name, setting, options in (
        ("active", SETTINGS["pressure"], {"max_num_active_seqs": 4}),
        ("adaptive", SETTINGS["threshold"], {"long_prefill_token_threshold_adaptive": True}),
        ("refusing", SETTINGS["pressure"], {"max_num_queued_reqs": 24, "max_num_queued_tokens": 1200}),
    ):
        trace = workload(name, setting, seed=0)
        filled, _ = apply_predictor(None, make_policy("srtf"), trace, seed=0)
        for asynchronous in (False, True):
            config = engine_config(
                vllm_version=version, max_model_len=MAX_MODEL_LEN, async_scheduling=asynchronous,
                **{**setting.engine, **options},
            )  # fmt: skip
            yield Case(name, "srtf", "policy", filled, config, group="quick")


def release_cases(version: str) -> Iterator[Case]:
    """Everything that a version must agree in to be supported."""
    yield from builtin_cases(version)
    yield from random_cases(100, version)
    yield from random_cases(60, version, 1, policies=("priority",), kv_pressure=True, group="priority")
    yield from random_cases(64, version, 2, kv_pressure=True, shared_prefixes=True, group="shared")
