"""Which parts of the prompts are the same, from their `hash_ids`: a radix tree over all requests of a trace.

A chunk of a prompt is named by its id and everything before it. Chunks that the same requests share (two or
more of them) make one edge of the tree, so a prompt is a path of few edges, then tokens of its own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from simsched.workload.trace import Trace


class Stretch(NamedTuple):
    """Tokens of a prompt up to place `end` whose content is on this edge."""

    edge: int
    end: int


def shared_stretches(trace: Trace) -> list[tuple[Stretch, ...]]:
    """For each request the shared part of its prompt, in tokens.

    A last chunk that the prompt fills only in part holds the first tokens of that chunk.
    """
    assert trace.hash_ids is not None
    assert trace.hash_block_size is not None
    chunk = trace.hash_block_size
    nodes: dict[tuple[int, int], int] = {}  # (node of the chunk before, hash id) -> node; 0 is the root
    visits = [0]
    walks = []
    for ids in trace.hash_ids:
        node, walk = 0, []
        for hash_id in ids:
            node = nodes.setdefault((node, hash_id), len(visits))
            if node == len(visits):
                visits.append(0)
            visits[node] += 1
            walk.append(node)
        walks.append(walk)
    edges: dict[int, int] = {}  # its first node -> edge
    paths = []
    for walk, prompt in zip(walks, trace.num_prompt_tokens.tolist(), strict=True):
        counts = [visits[node] for node in walk]
        parts = [at for at, count in enumerate(counts) if not at or count != counts[at - 1]]  # others left
        path: list[Stretch] = []
        place = 0
        for start, stop in pairwise([*parts, len(walk)]):
            end = min(stop * chunk, prompt)
            if counts[start] > 1 and end > place:
                path.append(Stretch(edges.setdefault(walk[start], len(edges)), end))
                place = end
        paths.append(tuple(path))
    return paths
