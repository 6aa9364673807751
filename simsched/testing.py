"""What every policy owes its engine, tried: for tests of your own.

from simsched.testing import check_policy

def test_mine():
    check_policy(Mine)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np

from simsched.cost_model.models import LinearCost
from simsched.engine.config import ResolvedConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.plugins import construct
from simsched.policies.base import HOOKS as DECISIONS
from simsched.policies.base import Policy
from simsched.policies.class_checks import check_class_attributes, class_attributes
from simsched.policies.guarded import (
    GuardedEngine,
    GuardedRequest,
    guard_class,
    guarded_all,
    guarded_of,
    undeclared_by,
)
from simsched.policies.spec import make_policy
from simsched.policies.user_policy import (
    HOOKS,
    TRIES,
    UNSEEDED,
    PolicyError,
    expected_instead,
    watched,
)
from simsched.record import RunRecord
from simsched.workload.trace import Trace

__all__ = ["PolicyError", "check_policy", "workloads"]

COST = LinearCost(t0=0.011, a=5.3e-5, b=6.4e-5, c=8.1e-8, d=3.7e-9)
"""About an A100 with Llama-3-8B; no two steps take the same time, so that nothing coincides by chance."""
Make = Callable[[], Policy]


def check_policy(policy: type[Policy] | Policy | str, *, seeds: int = 2) -> None:
    """Run a policy on small workloads that strain every rule of the engine.

    Checked is that all requests finish; that it reads nothing but `simsched.request.RequestView` and, where
    it decides more than an order, `simsched.policies.engine_view.EngineView`, and sets nothing there; that
    `priority`, `next_change`, `victim`, `token_budget` and `chunk` change nothing and answer alike when asked
    twice, in the form that they should; that an engine which takes the policy's word for when priorities
    change, and one which asks in every step, do the same; that it decides the same whatever answers are yet
    to come; and that two of its kind share no memory. Engines: with many and few places, tokens and KV
    blocks, synchronous and one step ahead, with and without prefix caching.

    Args:
        policy: a class, an object or a specification, such as `"./mine.py:Mine(cap=512)"`.
        seeds: workloads of each kind.

    Raises:
        PolicyError: it breaks the contract: one line that says which part.
        InputError: it can't be made.
    """
    make, name = _maker(policy)
    _check_memory(make, name)
    shared = class_attributes(one := make())
    for trace in workloads(seeds):
        for config in _engines():
            _check_run(make, name, trace, config)
            check_class_attributes(one, shared, name)
    _check_future(make, name)


def _maker(policy: type[Policy] | Policy | str) -> tuple[Make, str]:
    """What makes a fresh policy, watched if it comes from outside, and its name."""
    if isinstance(policy, str):
        return lambda: make_policy(policy), policy
    cls = policy if isinstance(policy, type) else type(policy)
    name = cls.__name__
    own = cls if cls.__module__.startswith("simsched.") and issubclass(cls, Policy) else watched(cls, name)
    if own is not cls:
        own.name = vars(cls).get("name") or name  # an inherited name is another policy's
    if isinstance(policy, type):
        return lambda: construct("policy", own, name, {}), name
    held = deepcopy(policy)
    held.__class__ = own
    return lambda: deepcopy(held), name


def workloads(seeds: int = 2) -> Iterator[Trace]:
    """Small workloads with all that a trace may say of requests: few at a time, many, sharing prefixes."""
    for seed in range(seeds):
        for rate in (2.0, 40.0):
            plain = _requests(40, rate, seed)
            yield plain
            yield _sharing(plain, seed)


def _requests(n: int, rate: float, seed: int) -> Trace:
    random = np.random.default_rng([seed, n])
    outputs = np.clip(random.lognormal(3.5, 1.0, n), 1, 300).astype(np.int64)
    return Trace(
        arrival_time=np.cumsum(random.exponential(1 / rate, n)),
        num_prompt_tokens=np.clip(random.lognormal(4.3, 1.0, n), 1, 600).astype(np.int64),
        num_output_tokens=outputs,
        score=np.log(outputs) + random.normal(0, 1, n),
        predicted_class=np.digitize(outputs, [16, 64, 200]),
        predicted_length=outputs * random.lognormal(0, 0.5, n),
        length_quantiles=np.sort(outputs[:, None] * random.lognormal(0, 0.7, (n, 5)), axis=1),
        priority=random.integers(0, 3, n),
        tenant=[f"tenant-{i}" for i in random.integers(3, size=n)],
        request_class=["chat" if i else "batch" for i in random.integers(2, size=n)],
        session_id=[f"session-{i}" if i < 6 else None for i in random.integers(8, size=n)],
        history_length=np.zeros(n, dtype=np.int64),
        slo_ttft=random.choice([0.5, 5.0, np.nan], n),
        slo_tpot=random.choice([0.05, np.nan], n),
        deadline=random.choice([5.0, 60.0, np.nan], n),
        name=f"{n} requests at {rate:g}/s, seed {seed}",
    )


def _sharing(plain: Trace, seed: int) -> Trace:
    """The same requests; their prompts begin with one of three texts, or a part of it."""
    random = np.random.default_rng([seed, 1])
    texts, depths = random.integers(3, size=len(plain)), random.integers(5, size=len(plain))
    ids = [tuple(range(100 * text, 100 * text + depth)) for text, depth in zip(texts, depths, strict=True)]
    return plain.with_columns(hash_ids=ids, hash_block_size=32, name=f"{plain.name}, sharing prefixes")


def _engines() -> Iterator[ResolvedConfig]:
    for ahead in (False, True):
        engines: tuple[dict[str, Any], ...] = (
            {"max_num_seqs": 4, "max_num_batched_tokens": 256, "num_gpu_blocks": 400},
            {"max_num_seqs": 16, "max_num_batched_tokens": 128, "num_gpu_blocks": 100},
            {"max_num_seqs": 8, "num_gpu_blocks": 120, "enable_prefix_caching": False},
        )
        for options in engines:
            yield engine_config(max_model_len=1000, async_scheduling=ahead, **options)


def _check_run(make: Make, policy_name: str, trace: Trace, config: ResolvedConfig) -> None:
    engine = f"max_num_seqs {config.max_num_seqs}, {config.num_gpu_blocks} KV blocks"
    where = f"policy {policy_name}: {trace.name}, {engine}"

    def run(change: Callable[[Policy], Policy], leap: bool) -> RunRecord | str:
        try:
            return simulate(trace, change(make()), COST, config, leap=leap)
        except PolicyError:
            raise
        except InputError as error:
            return str(error)  # such as requests that displace each other for ever

    stepped, leapt = (
        run(lambda policy: _guarded(policy, policy_name), False),
        run(lambda policy: policy, True),
    )
    if isinstance(stepped, str) or isinstance(leapt, str):
        if stepped != leapt:
            raise PolicyError(f"{where}: {stepped if isinstance(stepped, str) else leapt}")
        return
    refused = np.zeros(len(trace), dtype=bool) if stepped.rejected is None else stepped.rejected
    if not (stepped.finished | refused).all():
        raise PolicyError(f"{where}: {int((~stepped.finished).sum())} requests never finish")
    for name in ("first_scheduled_time", "first_token_time", "finish_time", "num_preemptions"):
        if not np.array_equal(getattr(stepped, name), getattr(leapt, name), equal_nan=True):
            for _ in range(TRIES):
                again = run(lambda policy: _guarded(policy, policy_name), False)
                if isinstance(again, str) or not np.array_equal(
                    again.finish_time, stepped.finish_time, equal_nan=True
                ):
                    raise PolicyError(f"policy {policy_name}: {UNSEEDED}")
            raise PolicyError(
                f"{where}: {name} differs between an engine that takes its word for when priorities change "
                f"and one that asks in every step; expected {expected_instead(make())}"
            )


_ASKED_TWICE = ("priority", "next_change", "victim", "token_budget", "chunk")
"""They answer, and change nothing."""


def _guarded(policy: Policy, name: str) -> Policy:
    """The same policy, which sees what it may and no more, and whose answers are asked for twice."""
    cls = type(policy)

    def watched(hook: str) -> Callable[..., Any]:
        method = getattr(cls, hook)
        where = f"policy {name}: {hook}"
        guard = guard_class(where, undeclared_by(policy))

        def call(self: Policy, *given: Any) -> Any:
            seen = [_seen(each, guard) for each in given]
            answer = guarded_of(method(self, *seen))
            if hook in _ASKED_TWICE and guarded_of(method(self, *seen)) != answer:
                of = f" of request {given[0].request_id}" if hook in HOOKS else ""
                raise PolicyError(
                    f"{where}{of}, asked twice, gives two answers; expected the same at the same time"
                )
            return answer

        return call

    every = (*HOOKS, "on_queue", *DECISIONS)
    hooks = {hook: watched(hook) for hook in every if getattr(cls, hook) is not getattr(Policy, hook)}
    same = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    kept = {"builtin": cls.builtin}
    try:
        policy.__class__ = type(cls.__name__, (cls,), {**same, **kept, **hooks})
    except TypeError:
        return policy  # a class with slots can't be guarded
    return policy


def _seen(given: Any, guard: type[GuardedRequest]) -> Any:
    """An argument of a hook, guarded: a request, several, an engine, or the time."""
    if isinstance(given, int | float):
        return given
    if isinstance(given, list | tuple):
        return guarded_all(given, guard)
    return GuardedEngine(given, guard) if hasattr(given, "num_free_blocks") else guard(given)


def _check_future(make: Make, name: str) -> None:
    """Requests that differ in their true length alone are served alike until the first is done."""
    base = _requests(30, 0.0001, 7)
    short = base.with_columns(
        arrival_time=base.arrival_time * 0.0, num_output_tokens=np.full(len(base), 200, dtype=np.int64)
    )
    config = engine_config(max_num_seqs=4, max_num_batched_tokens=256, num_gpu_blocks=400, max_model_len=1000)
    logs = []
    for trace in (short, short.with_columns(num_output_tokens=short.num_output_tokens + 90)):
        log: list[dict[str, Any]] = []
        try:
            simulate(trace, make(), COST, config, step_log=log.append)
        except PolicyError:
            raise
        except InputError:
            return  # requests that displace each other for ever
        logs.append([(line["scheduled"], line["preempted"]) for line in log[:190]])
    if logs[0] != logs[1]:
        raise PolicyError(
            f"policy {name}: serves requests in another order when only answers to come are longer; expected "
            "a policy that does not see the future"
        )


def _check_memory(make: Make, name: str) -> None:
    one, other = vars(make()), vars(make())
    for field, value in one.items():
        if isinstance(value, dict | list | set | Policy) and value is other.get(field):
            raise PolicyError(
                f"policy {name}: two objects share {field}; expected one each (field(default_factory=...))"
            )
