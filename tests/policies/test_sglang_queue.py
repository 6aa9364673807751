"""SGLang's orders of the queue: walks, fallbacks and who is put off, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.base import Moved, Policy
from simsched.policies.dfs_weight import DfsWeight, walk
from simsched.policies.hrrn import Hrrn
from simsched.policies.lpm import LongestPrefixMatch
from simsched.policies.spec import make_policy
from simsched.request import RequestView
from simsched.workload.trace import Trace
from tests.engine.scenarios import Linear, same, shared_prefixes, trace
from tests.policies.view import Blocks, View


def waiting(*paths: str, cached: Sequence[int] | None = None) -> list[Any]:
    """Requests whose prompts are these blocks, a letter each, all cached or the first so many."""
    found = []
    for place, path in enumerate(paths):
        names = Blocks(path[: end + 1] for end in range(len(path)))
        blocks = len(path) if cached is None else cached[place]
        view = View(str(place), arrival_time=float(place), prompt_blocks=names, num_cached_tokens=16 * blocks)
        found.append(view)
    return found


@pytest.mark.parametrize(
    ("paths", "order"),
    [
        # without anything in common they are in order of arrival, and who has nothing cached comes last
        (["", "a", "b"], "120"),
        # most requests first, those that end at a node after its children
        (["a", "b", "bc", "bd", "bd"], "34210"),
        # as many below: the child with the earliest request
        (["ax", "by", "ax", "by"], "0213"),
        # a long way without a fork is one edge
        (["abcdef", "abc", "abcdef", "xyz"], "0213"),
        # the heaviest child is looked for at each node anew: 4 below a, of these 1 at ab and 2 at ac
        (["ab", "ac", "ac", "ad", "e", "e", "e"], "1203456"),
    ],
)
def test_the_walk(paths: list[str], order: str) -> None:
    assert "".join(each.request_id for each in walk(waiting(*paths))) == order


def naive(views: Sequence[Any], prefix: str = "") -> list[Any]:
    """The walk as it is said: into the heaviest child first, and last who ends here."""
    here = [each for each in views if text(each) == prefix]
    children: dict[str, list[Any]] = {}
    for each in views:
        if len(text(each)) > len(prefix):
            children.setdefault(text(each)[len(prefix)], []).append(each)
    heaviest = sorted(children, key=lambda child: -len(children[child]))  # stable: the earliest first
    return [*(each for child in heaviest for each in naive(children[child], prefix + child)), *here]


def text(view: Any) -> str:
    return view.prompt_blocks[-1] if view.prompt_blocks else ""


@given(st.lists(st.text("abc", max_size=5), max_size=12))
def test_the_walk_is_that_of_the_tree(paths: list[str]) -> None:
    views = waiting(*paths)
    assert walk(views) == naive(views)


def test_only_the_cached_part_counts() -> None:
    assert [each.request_id for each in walk(waiting("ab", "cd", "cd", cached=[2, 1, 0]))] == ["0", "1", "2"]


def test_dfs_weight_names_those_that_have_moved() -> None:
    policy = DfsWeight()
    views = waiting("a", "b")
    assert set(policy.on_queue(views, 0.0)) == {"0", "1"}
    assert [policy.priority(each, 0.0) for each in views] == [(1, 0), (1, 1)]
    views = waiting("a", "b", "b")
    assert set(policy.on_queue(views, 1.0)) == {"0", "1", "2"}
    assert [policy.priority(each, 1.0) for each in views] == [(1, 2), (1, 0), (1, 1)]
    assert not policy.on_queue(views, 2.0)
    views[0].steps_run = 1
    assert policy.priority(views[0], 2.0) == (0, 0.0)


def test_a_long_queue_is_served_in_order() -> None:
    policy = LongestPrefixMatch(longest_queue=2)
    views = waiting("abcd", "xyzvw")
    assert not policy.on_queue(views, 0.0)
    assert [policy.priority(each, 0.0) for each in views] == [(1, -64), (1, -80)]
    views = waiting("abcd", "xyzvw", "m")
    assert set(policy.on_queue(views, 0.0)) == {"0", "1", "2"}
    assert [policy.priority(each, 0.0) for each in views] == [(1, 0.0), (1, 1.0), (1, 2.0)]
    assert set(policy.on_queue(views[:2], 0.0)) == {"0", "1"}
    assert policy.priority(views[2], 0.0) == (
        1,
        2.0,
    )  # it has been admitted, and keeps its place until it runs
    assert LongestPrefixMatch().longest_queue == 128


def test_one_of_those_that_share_what_is_not_cached_keeps_its_place() -> None:
    """Two blocks of 16 are the 32 tokens; request 2 has more than 32 in the cache, 3 shares one block."""
    views = waiting("abc", "abd", "abcde", "ax", "ab", cached=[0, 2, 3, 0, 0])
    policy = LongestPrefixMatch()
    assert set(policy.on_queue(views, 0.0)) == {"1", "4"}
    assert [policy.priority(each, 0.0)[1] for each in views] == [0, inf, -48, 0, inf]
    assert LongestPrefixMatch(in_batch_check=-1).on_queue(views, 0.0) == []
    assert LongestPrefixMatch(in_batch_shared=33).on_queue(views, 0.0) == []
    assert LongestPrefixMatch(in_batch_shared=16, in_batch_check=16).on_queue(views, 0.0) == ["3", "4"]
    hrrn = Hrrn()
    assert set(hrrn.on_queue(views, 10.0)) == {"1", "4"}
    views[0].num_prompt_tokens = 50
    assert hrrn.priority(views[0], 10.0) == (1, -10.0 / 50)
    assert hrrn.priority(views[1], 10.0) == (1, inf)


class Spy(Policy):
    """Writes down what it is told of the queue and of prompts."""

    reads_prompts = True
    reads_cache = True

    def __init__(self) -> None:
        self.preemptive = False
        self.told: list[list[tuple[str, int]]] = []
        self.blocks: dict[str, list[Any]] = {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def on_arrival(self, request: RequestView, now: float) -> None:
        blocks = request.prompt_blocks
        self.blocks[request.request_id] = [blocks[block] for block in range(len(blocks))]

    def priority(self, request: RequestView, now: float) -> float:
        return request.arrival_time

    def on_queue(self, waiting: Sequence[RequestView], now: float) -> Moved:
        self.told.append([(each.request_id, each.num_cached_tokens) for each in waiting])
        return None


@pytest.mark.parametrize("leap", [False, True])
def test_what_a_policy_is_told_of_prompts_and_queue(leap: bool) -> None:
    """Blocks of 16: prompts of 40 tokens (2 blocks), 50 (3) and 40 begin alike with 32 tokens."""
    spy = Spy()
    work = Trace(
        np.zeros(3), np.array([40, 50, 40]), np.array([2, 1, 1]),
        hash_ids=[(1,), (1, 2), (1,)], hash_block_size=32,
    )  # fmt: skip
    config = engine_config(max_num_seqs=1, num_gpu_blocks=50, max_model_len=100)
    simulate(work, spy, Linear(), config, leap=leap)
    assert [len(blocks) for blocks in spy.blocks.values()] == [2, 3, 2]
    assert spy.blocks["0"] == spy.blocks["2"] == spy.blocks["1"][:2]
    # the first is admitted; once its prompt is there, the others find it
    assert spy.told[0] == [("0", 0), ("1", 0), ("2", 0)]
    assert spy.told[-1] == [("2", 32)]
    assert [("1", 32), ("2", 32)] in spy.told


@pytest.mark.parametrize("leap", [False, True])
def test_without_a_cache_prompts_have_no_blocks(leap: bool) -> None:
    spy = Spy()
    work = Trace(np.zeros(2), np.array([40, 50]), np.array([2, 1]))
    config = engine_config(max_num_seqs=1, num_gpu_blocks=50, max_model_len=100, enable_prefix_caching=False)
    simulate(work, spy, Linear(), config, leap=leap)
    assert spy.blocks == {"0": [], "1": []}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), rate=st.sampled_from([5.0, 50.0]))
def test_a_short_enough_queue_makes_lpm_fcfs(seed: int, rate: float) -> None:
    """With `longest_queue=0` nobody is ever sorted."""
    work = shared_prefixes(trace(30, rate, seed), seed)
    config = engine_config(max_num_seqs=4, num_gpu_blocks=200, max_model_len=1500)
    orders = LongestPrefixMatch(longest_queue=0), make_policy("fcfs")
    same(*(simulate(work, each, Linear(), config) for each in orders))
