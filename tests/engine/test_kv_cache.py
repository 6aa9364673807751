"""Block pool, prefix cache, and the free queue as runs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.engine.arrival import Arrival, arrivals_of
from simsched.engine.vllm_v1.free_queue import FreeQueue
from simsched.engine.vllm_v1.kv_cache import BlockKeys, KVCache
from simsched.workload.trace import Trace


def prompts(
    lengths: list[int], ids: list[tuple[int, ...]] | None = None, chunk: int | None = None
) -> list[Arrival]:
    n = len(lengths)
    outputs = np.ones(n, dtype=np.int64)
    trace = Trace(np.zeros(n), np.array(lengths), outputs, hash_ids=ids, hash_block_size=chunk)
    return arrivals_of(trace)


def block_keys(arrivals: list[Arrival], size: int) -> BlockKeys:
    keys = BlockKeys(size)
    for number, arrival in enumerate(arrivals):
        keys.arrived(number, arrival)
    return keys


def kv_cache(arrivals: list[Arrival], num_blocks: int, size: int, caching: bool) -> KVCache:
    cache = KVCache(num_blocks, size, caching)
    for number, arrival in enumerate(arrivals):
        cache.arrived(number, arrival)
    return cache


def test_equal_chunks_make_equal_blocks() -> None:
    arrivals = prompts([40, 40, 40, 25], [(1, 2), (1, 2), (1, 3), (1, 2)], 20)
    keys = block_keys(arrivals, 8)
    assert [keys.key(0, block) for block in range(5)] == [keys.key(1, block) for block in range(5)]
    # chunks differ from token 20 on: blocks 0 and 1 end before it
    assert [keys.key(0, block) == keys.key(2, block) for block in range(5)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    # the last chunk is filled by 5 tokens only, the first ones of chunk 2; block 3 goes on into the output
    assert [keys.key(0, block) == keys.key(3, block) for block in range(4)] == [True, True, True, False]


def test_an_id_means_its_chunk_only_after_the_same_prefix() -> None:
    keys = block_keys(prompts([16, 16], [(1, 7), (2, 7)], 8), 8)
    assert keys.key(0, 1) != keys.key(1, 1)


def test_prompt_beyond_the_ids_and_outputs_are_the_requests_own() -> None:
    keys = block_keys(prompts([32, 32], [(1,), (1,)], 8), 8)
    assert keys.key(0, 0) == keys.key(1, 0)
    assert keys.key(0, 1) != keys.key(1, 1)
    assert keys.key(0, 9) != keys.key(1, 9)


def test_a_hit_leaves_a_token_to_compute_and_counts_free_blocks_as_needed() -> None:
    cache = kv_cache(prompts([32, 32], [(1,), (1,)], 32), 10, 16, caching=True)
    cache.allocate(0, 32)
    assert len(cache.lookup(1, 32)) == 1
    assert cache.needed(1, 32, cache.lookup(1, 32)) == 1
    cache.free(0, finished=True)
    assert cache.num_free == 10
    assert cache.needed(1, 32, cache.lookup(1, 32)) == 2  # nobody holds the hit any more


def test_eviction_takes_the_tail_of_what_was_freed_first() -> None:
    cache = kv_cache(prompts([64, 1000]), 10, 16, caching=True)
    cache.allocate(0, 70)
    cache.free(0, finished=False)
    assert len(cache.lookup(0, 70)) == 4
    cache.allocate(1, 16 * 8)  # 6 free blocks without content, then two of the four
    assert len(cache.lookup(0, 70)) == 2


def test_without_caching_nothing_is_hit() -> None:
    cache = kv_cache(prompts([64, 64], [(1,), (1,)], 64), 10, 16, caching=False)
    cache.allocate(0, 64)
    assert cache.lookup(1, 64) == []


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 90), st.booleans()), max_size=60))
def test_runs_survive_as_blocks_do(actions: list[tuple[int, int, bool]]) -> None:
    """Requests come, grow, are preempted, come back and finish: runs and blocks tell the same story."""
    size, total = 8, 24
    cache = kv_cache(prompts([1] * 1000), total, size, caching=True)
    queue = FreeQueue()
    tokens: dict[int, int] = {}  # of those that hold blocks
    owner = list(range(6))  # slot -> request; a finished one is replaced by a new one
    fresh = 6
    for slot, amount, finish in actions:
        index = owner[slot]
        if index not in tokens:
            known = amount + 1
            hits = cache.lookup(index, known)
            assert len(hits) == min(queue.survivors(index), amount // size)
            if len(hits) < queue.survivors(index) or cache.needed(index, known, hits) > cache.num_free:
                continue  # the engine does not get here with fewer tokens than it left with
            cache.allocate(index, known, hits)
            queue.hit(index)
            queue.allocate(-(-known // size) - len(hits))
            tokens[index] = known
        elif finish:
            hashed, rest = divmod(tokens.pop(index), size)
            cache.free(index, finished=True)
            queue.put(hashed, 1 if rest else 0)
            owner[slot], fresh = fresh, fresh + 1
        elif amount % 2 and cache.needed(index, tokens[index] + amount) <= cache.num_free:
            blocks = cache.needed(index, tokens[index] + amount)
            tokens[index] += amount
            cache.allocate(index, tokens[index])
            queue.allocate(blocks)
        else:
            hashed, rest = divmod(tokens.pop(index), size)
            queue.leave(index, hashed, 1 if rest else 0, cache.num_free)
            cache.free(index, finished=False)
        for each in owner:
            if each not in tokens:
                assert queue.survivors(each) == len(cache.lookup(each, 10_000)), each
