"""What the tokens of each request are, as far as other requests have the same: prompts and answers as paths
of a tree.

A path is a list of stretches, each up to a token and with the node whose content it is. Two requests have
the same tokens as far as their paths have the same nodes; the node of a stretch stands for everything before
it, too. A stretch that a prompt fills only in part holds the first tokens of its node.

- With `hash_ids` these alone decide: a node for each id and all before it. The answer of a turn that another
  names as its `parent` is named by that one's ids: its prompt contains it.
- Otherwise a turn begins with as much of its previous turn's prompt and answer as `sessions.history` says.
- Everything else is a request's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simsched.workload.sessions import history
from simsched.workload.trace import IntArray, Trace


class Stretch(NamedTuple):
    """The tokens of a request from the stretch before it up to place `end`."""

    node: int
    end: int


Path = list[Stretch]


def shares(trace: Trace) -> bool:
    """May two requests of it have tokens in common?"""
    hashed = trace.hash_ids is not None and trace.hash_block_size is not None
    return hashed or trace.session_id is not None or trace.parent is not None


def contents(trace: Trace) -> list[Path] | None:
    """The paths of all requests, over prompt and answer; None where no two of them can share anything."""
    if trace.hash_ids is not None and trace.hash_block_size is not None:
        return _by_hash_ids(trace, trace.hash_block_size)
    return _by_history(trace) if shares(trace) else None


def _by_history(trace: Trace) -> list[Path]:
    before, known = history(trace)
    paths: list[Path] = []
    totals = (trace.num_prompt_tokens + trace.num_output_tokens).tolist()
    for row, (parent, tokens, total) in enumerate(zip(before.tolist(), known.tolist(), totals, strict=True)):
        path: Path = []
        if parent >= 0 and tokens:
            for stretch in paths[parent]:
                node, end = stretch
                path.append(stretch if end <= tokens else Stretch(node, tokens))
                if end >= tokens:
                    break
        path.append(Stretch(row, total))
        paths.append(path)
    return paths


def _by_hash_ids(trace: Trace, size: int) -> list[Path]:
    assert trace.hash_ids is not None
    own = len(trace)  # nodes from here on are named by ids
    nodes: dict[tuple[int, int], int] = {}  # (node of the block before, hash id) -> node
    walks: list[list[int]] = []
    for ids in trace.hash_ids:
        walk: list[int] = []
        node = -1
        for hash_id in ids:
            node = nodes.setdefault((node, hash_id), own + len(nodes))
            walk.append(node)
        walks.append(walk)
    prompts = trace.num_prompt_tokens.tolist()
    answers = trace.num_output_tokens.tolist()
    following = _first_that_goes_on(trace, size)
    paths: list[Path] = [[] for _ in walks]
    for row in reversed(range(own)):  # a turn's followers come after it, and are done before it
        prompt, answer = prompts[row], answers[row]
        named = min(len(walks[row]) * size, prompt)
        child = following.get(row)
        if child is not None:
            # the block that the answer begins in is named by the one who has all of it
            walks[row] = [*walks[row][: prompt // size], *walks[child][prompt // size :]]
            named = min(len(walks[row]) * size, prompts[child], prompt + answer)
        nodes_of = enumerate(walks[row][: -(-named // size)], start=1)
        paths[row] = [Stretch(node, min(at * size, named)) for at, node in nodes_of]
        if named < prompt + answer:
            paths[row].append(Stretch(row, prompt + answer))
    return paths


def _first_that_goes_on(trace: Trace, size: int) -> dict[int, int]:
    """For each turn the first one that names it as its parent, if it has its prompt: row -> row."""
    if trace.parent is None:
        return {}
    assert trace.hash_ids is not None
    before, _ = history(trace.with_columns(session_id=None))
    found: dict[int, int] = {}
    for row, parent in enumerate(before.tolist()):
        if parent < 0 or parent in found:
            continue
        full = int(trace.num_prompt_tokens[parent]) // size
        ours, theirs = trace.hash_ids[row], trace.hash_ids[parent]
        longer = trace.num_prompt_tokens[row] > trace.num_prompt_tokens[parent]
        if longer and len(theirs) >= full and tuple(ours[:full]) == tuple(theirs[:full]):
            found[parent] = row
    return found


def shared_stretches(paths: Sequence[Path]) -> list[tuple[Stretch, ...]]:
    """For each request the part of its prompt and answer that others have too, with an edge for a node.

    An edge is what the same requests (two or more) share, so a path has few of them; then tokens follow that
    are a request's own.
    """
    reached: defaultdict[int, list[int]] = defaultdict(list)  # node -> where each that has it ends
    for path in paths:
        for node, end in path:
            reached[node].append(end)
    # of a node each part that the same requests have: where it ends, and how many they are
    parts: dict[int, list[tuple[int, int]]] = {}
    for node, ends in reached.items():
        if len(ends) > 1:
            ends.sort()
            parts[node] = [
                (end, len(ends) - at) for at, end in enumerate(ends) if not at or end != ends[at - 1]
            ]
    edges: dict[tuple[int, int], Stretch] = {}  # by its first node and the end of that part
    shared: list[tuple[Stretch, ...]] = []
    befores: list[int] = []  # how many have the last edge of each
    for row, path in enumerate(paths):
        found: list[Stretch] = []
        before, rest = 0, path
        if len(path) > 1 and (parent := path[-2].node) < row and paths[parent] == path[:-1]:
            # it goes on from all of an earlier one
            found, before, rest = list(shared[parent]), befores[parent], path[-1:]
        for node, end in rest:
            for stop, count in parts.get(node, ()):
                if stop > end or count < 2:
                    break
                if count == before:
                    found[-1] = Stretch(found[-1].node, stop)  # the same requests as before
                else:
                    edge = edges.get((node, stop))
                    if edge is None:
                        edge = edges[node, stop] = Stretch(len(edges), stop)
                    found.append(edge)
                before = count
        shared.append(tuple(found))
        befores.append(before)
    return shared


def shared_tokens(trace: Trace, within: IntArray | None = None) -> list[int] | None:
    """Of each prompt the tokens that earlier requests have too, in prompt or (but for its last token) answer:
    what a prefix cache without end would hold; None where no two requests can share anything.

    `within`: (n,) only those count that have the same number there.
    """
    paths = contents(trace)
    if paths is None:
        return None
    if within is not None:
        # a node of its own for each group
        nodes: dict[tuple[int, int], int] = {}
        paths = [
            [Stretch(nodes.setdefault((group, node), len(nodes)), end) for node, end in path]
            for group, path in zip(within.tolist(), paths, strict=True)
        ]
    reached: dict[int, int] = {}  # node -> the furthest token that anyone before has of it
    found = []
    prompts, answers = trace.num_prompt_tokens.tolist(), trace.num_output_tokens.tolist()
    for path, prompt, answer in zip(paths, prompts, answers, strict=True):
        tokens = 0
        for node, end in path:
            known = min(end, prompt, reached.get(node, 0))
            tokens = max(tokens, known)
            if known < min(end, prompt):
                break
        found.append(tokens)
        for node, end in path:
            reached[node] = max(reached.get(node, 0), min(end, prompt + answer - 1))
    return found


def shared_with_any(trace: Trace) -> IntArray:
    """(n,) leading prompt tokens that another request of the trace has too, whenever it comes."""
    paths = contents(trace)
    found = np.zeros(len(trace), dtype=np.int64)
    if paths is None:
        return found
    furthest: dict[int, list[int]] = {}  # node -> the two furthest tokens that requests have of it
    for path in paths:
        for node, end in path:
            furthest[node] = sorted([*furthest.get(node, ()), end], reverse=True)[:2]
    for row, (path, prompt) in enumerate(zip(paths, trace.num_prompt_tokens.tolist(), strict=True)):
        for node, end in path:
            ends = furthest[node]
            others = ends[1] if ends[0] == end and len(ends) > 1 else ends[0] if ends[0] > end else 0
            found[row] = max(int(found[row]), min(end, others, prompt))
            if others < min(end, prompt):
                break
    return found
