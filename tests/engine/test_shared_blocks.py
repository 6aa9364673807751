"""The KV cache as runs of blocks, against the block-by-block one."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.engine.arrival import arrivals_of
from simsched.engine.vllm_v1.kv_cache import KVCache
from simsched.engine.vllm_v1.shared_blocks import SharedBlocks
from simsched.workload.content import contents, shared_stretches
from simsched.workload.trace import Trace


def prompts(lengths: list[int], ids: list[tuple[int, ...]], chunk: int) -> Trace:
    n = len(lengths)
    return Trace(
        np.zeros(n), np.array(lengths), np.ones(n, dtype=np.int64), hash_ids=ids, hash_block_size=chunk
    )


def test_the_tree_has_an_edge_for_what_the_same_requests_share() -> None:
    trace = prompts([40, 40, 60, 10], [(1, 2), (1, 2), (1, 2, 3), (7,)], 20)
    # chunks 1 and 2 have the same visitors; 3 and 7 have one each
    assert shared_stretches(contents(trace)) == [((0, 40),), ((0, 40),), ((0, 40),), ()]


def test_paths_part_where_the_ids_do() -> None:
    trace = prompts([40, 40, 25, 40], [(1, 2), (1, 2), (1, 3), (1, 3)], 20)
    # a prompt of 25 has five tokens of its second chunk; the rest of the last one is its own
    assert shared_stretches(contents(trace)) == [
        ((0, 20), (1, 40)), ((0, 20), (1, 40)), ((0, 20), (2, 25)), ((0, 20), (2, 25))
    ]  # fmt: skip


def test_a_block_is_of_the_stretch_that_its_last_token_is_in() -> None:
    runs = SharedBlocks(20, 8)
    for number, arrival in enumerate(arrivals_of(prompts([40, 40, 25], [(1, 2), (1, 2), (1, 3)], 20))):
        runs.arrived(number, arrival.prefix)
    runs.begin(0, [])
    runs.allocate(5)
    runs.fill(0, 40)
    # two blocks are of the first stretch; the third, with tokens 16 to 23, is of the second
    assert [sum(piece.end - piece.start for piece in runs.lookup(1, n)[0]) for n in (41, 17, 16)] == [5, 2, 1]
    assert [sum(piece.end - piece.start for piece in runs.lookup(2, n)[0]) for n in (25, 17, 16)] == [2, 2, 1]


def story(seed: int, num_actions: int) -> None:
    """Requests of few ids begin, grow in their prompts and beyond, are preempted, come back and finish, as
    no scheduler would have them: runs and blocks must tell the same of it."""
    draw = random.Random(seed)
    chunk, size, total = draw.choice([1, 4, 6, 10]), draw.choice([1, 2, 4]), draw.randint(8, 40)
    lengths = [draw.randint(1, 60) for _ in range(num_actions + 8)]
    ids = [tuple(int(draw.random() < 0.2) for _ in range(draw.randint(0, -(-n // chunk)))) for n in lengths]
    trace = prompts(lengths, ids, chunk)
    cache, runs = KVCache(total, size, caching=True), SharedBlocks(total, size)
    for number, arrival in enumerate(arrivals_of(trace)):
        cache.arrived(number, arrival)
        runs.arrived(number, arrival.prefix)
    known = list(lengths)
    tokens: dict[int, int] = {}  # of those that hold blocks
    owner = list(range(8))  # slot -> request; a finished one is replaced by a new one
    for _ in range(num_actions):
        slot = draw.randrange(8)
        index = owner[slot]
        num_free = cache.num_free
        if index not in tokens:
            hits = cache.lookup(index, known[index])
            found, _ = runs.lookup(index, known[index])
            new = min(known[index], len(hits) * size + draw.randint(1, 30))
            if cache.needed(index, new, hits) <= num_free:
                cache.allocate(index, new, hits)
                runs.begin(index, found)
                runs.allocate(-(-new // size) - len(hits))
                runs.fill(index, new)
                tokens[index] = new
        elif draw.random() < 0.6:
            new = tokens[index] + draw.randint(1, 30)
            needed = cache.needed(index, new)
            if needed <= num_free:
                cache.allocate(index, new)
                runs.allocate(needed)
                runs.fill(index, new)
                tokens[index] = new
                known[index] = max(known[index], new)
        else:
            finished = draw.random() < 0.3
            cache.free(index, finished)
            assert runs.release(index, tokens.pop(index), finished) == cache.num_free - num_free
            if finished:
                owner[slot] = max(owner) + 1
        for each in owner:
            if each not in tokens:
                hits = cache.lookup(each, known[each])
                found, held = runs.lookup(each, known[each])
                assert len(hits) == (found[-1].end if found else 0)
                assert cache.needed(each, known[each], hits) == -(-known[each] // size) - held


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 30))
def test_runs_tell_the_same_story_as_blocks(seed: int) -> None:
    story(seed, 80)
