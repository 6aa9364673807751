"""Workloads of claims about tenants, classes and programs, which no named workload has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from simsched.workload.named import named_workload
from simsched.workload.trace import Trace

LIMITS: Final = {"chat": 15.0, "batch": 120.0}
"""Seconds from arrival to the end of the answer that are asked, by class."""


def two_tenants() -> Trace:
    """1,000 LMSYS-like requests; of three, one is of the tenant `one` and two are of `two`."""
    plain = named_workload("lmsys").generate(1000, 1.0, seed=1)
    owners = np.random.default_rng(1).random(len(plain)) < 1 / 3
    return _bare(plain).with_columns(tenant=["one" if each else "two" for each in owners])


def tenants_with_prefixes() -> Trace:
    """800 requests of three tenants with equal shares, each with three texts of 1,536 tokens; a prompt is
    one of its tenant's texts and some 100 tokens of its own."""
    random = np.random.default_rng(2)
    n, size, blocks = 800, 512, 3
    tenants = random.integers(3, size=n)
    texts = 10 * tenants + random.integers(3, size=n)
    prompts = size * blocks + np.clip(random.lognormal(math.log(100), 0.6, n), 8, 400).astype(np.int64)
    return Trace(
        np.zeros(n), prompts, np.clip(random.lognormal(math.log(60), 0.6, n), 4, 300).astype(np.int64),
        tenant=[f"t{each}" for each in tenants],
        hash_ids=[tuple(int(100 * text + depth) for depth in range(blocks)) for text in texts],
        hash_block_size=size,
    )  # fmt: skip


def two_classes() -> Trace:
    """1,500 LMSYS-like requests, half of them `chat` and half `batch`, with their limits as deadlines."""
    plain = named_workload("lmsys").generate(1500, 1.0, seed=3)
    chat = np.random.default_rng(3).random(len(plain)) < 0.5
    classes = ["chat" if each else "batch" for each in chat]
    return _bare(plain).with_columns(
        request_class=classes, deadline=np.array([LIMITS[each] for each in classes])
    )


def programs() -> Trace:
    """200 programs, one every 0.5 s in the mean: of four, three are a chain of 1 to 6 calls, and one is 2 to
    4 rounds of 6 calls side by side and one that joins them. Calls have some 300 tokens in and 150 out,
    nothing of what was said before, and no think time."""
    random = np.random.default_rng(4)
    times: list[float] = []
    parents: list[tuple[str, ...]] = []
    sessions: list[str] = []
    start = 0.0

    def call(program: int, after: tuple[str, ...]) -> str:
        times.append(math.nan if after else start)
        parents.append(after)
        sessions.append(f"p{program}")
        return str(len(times) - 1)

    for program in range(200):
        start += float(random.exponential(0.5))
        after: tuple[str, ...] = ()
        if random.random() < 0.75:
            for _ in range(int(random.integers(1, 7))):
                after = (call(program, after),)
        else:
            after = (call(program, ()),)
            for _ in range(int(random.integers(2, 5))):
                side_by_side = tuple(call(program, after) for _ in range(6))
                after = (call(program, side_by_side),)
    n = len(times)
    first = np.array(times)
    waits = np.isnan(first)
    return Trace(
        np.where(waits, 0.0, first),
        np.clip(random.lognormal(math.log(250), 0.6, n), 16, 2000).astype(np.int64),
        np.clip(random.lognormal(math.log(120), 0.7, n), 4, 800).astype(np.int64),
        request_id=[str(row) for row in range(n)], session_id=sessions, parent=parents,
        history_length=np.zeros(n, dtype=np.int64), think_times=np.where(waits, 0.0, math.nan),
    )  # fmt: skip


def _bare(plain: Trace) -> Trace:
    """Its lengths alone: arrivals are drawn for each run."""
    return Trace(np.zeros(len(plain)), plain.num_prompt_tokens, plain.num_output_tokens)


TRACES: Final[dict[str, Callable[[], Trace]]] = {
    "tenants": two_tenants,
    "tenants-texts": tenants_with_prefixes,
    "classes": two_classes,
    "programs": programs,
}
"""By the names of their files."""
