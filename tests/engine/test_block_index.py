"""What a router hears of the engines' caches: late, and in whole blocks."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from pydantic.dataclasses import dataclass

from simsched.engine.block_index import BlockIndex
from simsched.engine.config import EngineConfig
from simsched.engine.prompt_blocks import Name
from simsched.engine.vllm_v1.kv_cache import KVCache
from simsched.errors import InputError
from simsched.routers.base import Replicas, Reporting, RoutedRequest, Router
from simsched.routers.spec import make_router
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.inputs import prepare
from simsched.sweep.run import run
from simsched.workload.content import Stretch
from tests.engine.test_kv_cache import prompts
from tests.routers.requests import Request

SESSIONS = Load(workload="chat-sessions(think_time=5)", arrivals="sessions(rate=2)", num_requests=60, seed=0)


def asked(*ids: int, tokens: int, size: int = 16) -> Any:
    """A request whose content is these nodes, each of one block."""
    (arrival,) = prompts([tokens])
    return arrival._replace(content=[Stretch(node, (at + 1) * size) for at, node in enumerate(ids)])


def stored(*blocks: tuple[int, int]) -> list[tuple[bool, tuple[int, int]]]:
    return [(True, block) for block in blocks]


def test_news_is_late_and_matches_are_from_the_start() -> None:
    index = BlockIndex([16, 16, 16], delay=0.05)
    index.note(0, 1.0, stored((7, 0), (8, 1), (9, 2)))
    index.note(1, 1.02, stored((7, 0), (8, 1)))
    index.note(2, 1.03, stored((8, 1)))  # nothing without the first
    request = asked(7, 8, 9, 10, tokens=70)
    for now, expected in (
        (1.04, [0, 0, 0]),
        (1.05, [48, 0, 0]),
        (1.07, [48, 32, 0]),
        (1.08, [48, 32, 0]),
    ):
        index.refresh(now)
        assert index.matched_by(request) == expected, now
    # a prompt that ends within a block has only the whole ones before
    assert index.matched_by(asked(7, 8, 9, tokens=47)) == [32, 32, 0]
    index.note(0, 2.0, [(False, (8, 1)), (True, (11, 3))])
    index.refresh(2.04)
    assert index.matched_by(request) == [48, 32, 0]
    index.refresh(2.05)
    assert index.matched_by(request) == [16, 32, 0]


def test_replicas_with_blocks_of_different_sizes() -> None:
    index = BlockIndex([16, 32], delay=0.0)
    index.note(0, 0.0, stored((7, 0), (7, 1)))
    index.note(1, 0.0, stored((7, 0)))
    index.refresh(0.0)
    request = asked(tokens=60)._replace(content=[Stretch(7, 60)])
    assert index.matched_by(request) == [32, 32]


def test_a_cache_tells_what_it_stores_hits_and_throws_out() -> None:
    ids = [(1, 2), (1, 2), (3, 4), (5,)]
    first, second, third, fourth = prompts([16, 17, 16, 20], ids, 8)
    cache = KVCache(4, 8, caching=True)
    cache.events = []
    for number, arrival in enumerate((first, second, third, fourth)):
        cache.arrived(number, arrival)
    a, b, c, d = (cache._keys.key(number, block) for number, block in ((0, 0), (0, 1), (2, 0), (2, 1)))

    def events() -> list[tuple[bool, Name]]:
        taken, cache.events = cache.events, []
        assert taken is not None
        return taken

    cache.allocate(0, 16)
    assert events() == [(True, a), (True, b)]
    cache.free(0, finished=True)
    assert events() == []
    hits = cache.lookup(1, 17)
    cache.allocate(1, 17, hits)
    assert events() == [(True, a), (True, b)]  # hit; the third block is not full
    cache.free(1, finished=True)
    cache.allocate(2, 16)  # two blocks: the one that was never filled, and the empty one that is left
    assert events() == [(True, c), (True, d)]
    cache.free(2, finished=True)
    cache.allocate(3, 20)  # three blocks: those given up first, from the tail
    told = events()
    assert told[:3] == [(False, b), (False, a), (False, d)]
    assert told[3:] == [(True, cache._keys.key(3, block)) for block in (0, 1)]


def test_what_is_believed_at_once_is_true() -> None:
    """With no delay: nothing that is gone, and all that is there but for second copies."""
    random = Random(1)
    ids = [tuple(random.choice([(1, 2, 3), (1, 2, 4), (1, 5, 6), (7, 8, 9)])[: random.randint(1, 3)])
           for _ in range(400)]  # fmt: skip
    arrivals = prompts([8 * len(each) + random.randint(0, 4) for each in ids], ids, 8)
    cache, index = KVCache(9, 4, caching=True), BlockIndex([4], delay=0.0)
    cache.events = []
    running: list[int] = []
    double = 0
    for number, arrival in enumerate(arrivals):
        cache.arrived(number, arrival)
        tokens = arrival.num_prompt_tokens
        while running and (random.random() < 0.3 or cache.needed(number, tokens) > cache.num_free):
            cache.free(running.pop(random.randrange(len(running))), finished=True)
        cache.allocate(number, tokens, cache.lookup(number, tokens))
        running.append(number)
        index.note(0, 0.0, cache.events)
        cache.events = []
        index.refresh(0.0)
        believed = set(index._holders[4])
        there = {key for key in cache._cached if key[0] >= 0}
        assert believed <= there
        double += len(there - believed)
    assert double < 200  # of thousands


def prepared(router: str | None, num_replicas: int | None = 3, **engine: Any) -> Cell:
    options = {"num_gpu_blocks": 530, "max_num_seqs": 8, **engine}
    arm = Arm(
        "fcfs", EngineConfig(**options), "a100-80gb/llama-3-8b", num_replicas=num_replicas, router=router
    )
    return Cell(SESSIONS, arm)


def finish_times(router: str | None, num_replicas: int | None = 3) -> list[float]:
    times: list[float] = run(prepare(prepared(router, num_replicas))).finish_time.tolist()
    return times


@pytest.mark.parametrize(("router", "without"), [("llm-d", "prefix=0"), ("dynamo", "overlap_credit=0")])
def test_news_that_never_comes_is_no_news(router: str, without: str) -> None:
    """So nothing of the caches reaches the router but by these events."""
    never = finish_times(f"{router}(kv_events=true,event_delay=1e6)")
    assert never == finish_times(f"{router}({without})")
    assert finish_times(f"{router}(kv_events=true)") != never


@dataclass(eq=False)
class Noting(Router):
    """In turn; notes what it has heard of the prompt's tokens at the replica."""

    delay: float = 0.0

    def start(self, num_replicas: int, seed: int) -> None:
        super().start(num_replicas, seed)
        self.heard: list[int] = []

    def reporting(self) -> Reporting:
        return Reporting(block_events=self.delay)

    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        assert replicas.blocks is not None
        chosen = len(self.heard) % len(replicas)
        self.heard.append(replicas.blocks.matched_by(request)[chosen])
        return chosen


@pytest.mark.parametrize("asynchronous", [False, True])
def test_with_room_the_next_turn_hits_what_the_router_has_heard_of(asynchronous: bool) -> None:
    """No block is thrown out, so what is believed when a turn arrives is what it hits there, or less: a step
    that is under way may store more."""
    engine = {"num_gpu_blocks": 20_000, "async_scheduling": asynchronous}
    inputs = prepare(prepared("round-robin", **engine))
    router = Noting()
    object.__setattr__(inputs, "router", router)
    record = run(inputs)
    order = np.argsort(record.arrival_time, kind="stable")
    assert record.cached_tokens is not None
    hits = record.cached_tokens[order].tolist()
    assert sum(router.heard) > 0.1 * int(inputs.trace.num_prompt_tokens.sum())
    for place, (hit, known) in enumerate(zip(hits, router.heard, strict=True)):
        assert known - 16 <= hit, place  # of a prompt that is cached whole, a last block is computed
    exact = sum(abs(hit - known) <= 16 for hit, known in zip(hits, router.heard, strict=True))
    assert exact > 0.95 * len(hits)
    assert all(a <= b for a, b in pairwise(record.arrival_time[order].tolist()))


def test_one_replica_gives_the_times_of_a_lone_engine() -> None:
    assert finish_times("llm-d(kv_events=true)", 1) == finish_times(None, None)


def test_it_needs_caches() -> None:
    with pytest.raises(InputError, match="router llm-d: kv_events are those of prefix caches; expected"):
        prepare(prepared("llm-d(kv_events=true)", enable_prefix_caching=False))


class Index:
    """An index that says always the same."""

    def __init__(self, matched: list[int]) -> None:
        self._matched = matched

    def matched_by(self, request: Any) -> list[int]:
        return self._matched


@pytest.mark.parametrize(
    ("matched", "kv_usage", "expected"),
    [
        ([0, 0, 0], [0.5, 0.2, 0.5], 1),  # nobody has any of it
        ([32, 0, 0], [0.9, 0.0, 0.0], 0),  # alone: 1, twice that against 0.9
        ([32, 64, 0], [0.0, 0.9, 0.0], 1),  # 0, 1 and 0
        ([16, 48, 80], [0.0, 0.0, 0.9], 2),  # 0, 0.5 and 1: 1, 2 and 2.1
        ([16, 48, 80], [0.0, 0.0, 1.0], 2),  # 1, 2 and 2: the tie is drawn
        ([64, 64, 0], [0.9, 0.3, 0.0], 1),
    ],
)
def test_llm_ds_precise_score(matched: list[int], kv_usage: list[float], expected: int) -> None:
    router = make_router("llm-d(kv_events=true)")
    router.start(3, 1)
    replicas = Replicas.idle(3)
    replicas.blocks = Index(matched)
    replicas.kv_usage[:] = kv_usage
    chosen = router.choose(Request("0", 100), replicas, 0.0)
    assert chosen == expected or (matched == [16, 48, 80] and kv_usage[2] == 1.0 and chosen == 1)
    assert router.reporting() == Reporting("scraped", 0.05, block_events=0.05)
