"""Which tokens two requests have in common, by hand and against token lists that are built one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.workload.content import Path, contents, shared_tokens, shared_with_any
from simsched.workload.trace import Trace


def tokens_of(path: Path) -> list[tuple[int, int]]:
    """A token for each place of a path: its node and the place."""
    places = [0, *(end for _, end in path)]
    return [(node, at) for (node, _), (start, end) in zip(path, pairwise(places), strict=True)
            for at in range(start, end)]  # fmt: skip


def in_common(first: Path, second: Path) -> int:
    pairs = zip(tokens_of(first), tokens_of(second), strict=False)
    return next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs),
                min(first[-1].end, second[-1].end))  # fmt: skip


def trace_of(prompts: list[int], answers: list[int], **columns: object) -> Trace:
    return Trace(np.arange(len(prompts), dtype=np.float64), np.array(prompts), np.array(answers), **columns)  # type: ignore[arg-type]


SAME = {"parent": [(), ("0",)]}


@pytest.mark.parametrize(
    ("prompts", "columns", "common"),
    [
        ([10, 30], {}, None),
        ([10, 30], {"session_id": ["a", "b"]}, 0),
        ([10, 30], {"session_id": ["a", "a"]}, 15),  # prompt and answer
        ([10, 14], {"session_id": ["a", "a"]}, 0),  # too short to hold them
        ([10, 14], {"session_id": ["a", "a"], "history_length": np.array([-1, 12])}, 12),
        ([10, 30], {"parent": [(), ("0",)]}, 15),
        ([10, 30], {"hash_ids": [(1, 2), (1, 2, 3, 4, 5)], "hash_block_size": 6}, 10),  # no parent, no answer
        ([10, 30], {"hash_ids": [(1, 2), (1, 9, 3, 4, 5)], "hash_block_size": 6}, 6),
        ([10, 30], {"hash_ids": [(1, 2), (1, 9, 3, 4, 5)], "hash_block_size": 6, **SAME}, 15),
        ([10, 30], {"hash_ids": [(1, 2), (8, 9, 3, 4, 5)], "hash_block_size": 6, **SAME}, 0),
        ([12, 30], {"hash_ids": [(1, 2), (1, 2, 3)], "hash_block_size": 6, **SAME}, 17),
        # one session is no parent: the ids alone decide
        ([10, 30], {"hash_ids": [(1,), (7, 8, 3)], "hash_block_size": 12, "session_id": ["a", "a"]}, 0),
    ],
)  # fmt: skip
def test_two_turns(prompts: list[int], columns: dict[str, object], common: int | None) -> None:
    trace = trace_of(prompts, [5, 5], **columns)
    paths = contents(trace)
    if common is None:
        assert paths is None
        return
    assert paths is not None
    assert in_common(*paths) == common
    assert [path[-1].end for path in paths] == [prompts[0] + 5, prompts[1] + 5]
    # of an answer the last token is never computed, so it is never cached
    assert shared_tokens(trace) == [0, min(common, prompts[0] + 4)]


def test_siblings_share_only_what_their_parent_has() -> None:
    trace = trace_of([10, 40, 50], [5, 5, 5], request_id=["a", "b", "c"], parent=[(), ("a",), ("a",)])
    paths = contents(trace)
    assert paths is not None
    assert in_common(paths[1], paths[2]) == 15


def test_the_answer_is_named_by_the_first_turn_that_goes_on() -> None:
    ids = [(1, 2), (1, 2, 3, 4), (1, 2, 7, 8)]
    trace = trace_of([12, 24, 24], [8, 4, 4], hash_ids=ids, hash_block_size=6, parent=[(), ("0",), ("0",)])
    paths = contents(trace)
    assert paths is not None
    assert in_common(paths[0], paths[1]) == 20
    assert in_common(paths[0], paths[2]) == 12


@st.composite
def sessions(draw: st.DrawFn) -> Trace:
    """Turns of a few sessions, most of which go on from an earlier one."""
    n = draw(st.integers(1, 12))
    prompts, answers, parents, known = [], [], [], []
    for row in range(n):
        parent = draw(st.integers(-1, row - 1))
        answers.append(draw(st.integers(1, 9)))
        total = prompts[parent] + answers[parent] if parent >= 0 else 0
        prompts.append(draw(st.integers(1, 12)) + (total if draw(st.booleans()) else 0))
        parents.append((str(parent),) if parent >= 0 else ())
        given = parent >= 0 and draw(st.booleans())
        known.append(draw(st.integers(0, min(total, prompts[row]))) if given else -1)
    return trace_of(prompts, answers, parent=parents, history_length=np.array(known))


@given(sessions())
@settings(max_examples=200, deadline=None)
def test_paths_are_the_tokens_built_one_by_one(trace: Trace) -> None:
    built: list[list[int]] = []
    fresh = 0
    for row in range(len(trace)):
        tokens: list[int] = []
        assert trace.parent is not None
        assert trace.history_length is not None
        if trace.parent[row]:
            before = built[int(trace.parent[row][0])]
            kept = int(trace.history_length[row])
            if kept < 0:
                kept = len(before) if trace.num_prompt_tokens[row] >= len(before) else 0
            tokens = before[:kept]
        missing = int(trace.num_prompt_tokens[row] + trace.num_output_tokens[row]) - len(tokens)
        built.append(tokens + list(range(fresh, fresh + missing)))
        fresh += missing
    paths = contents(trace)
    assert paths is not None
    shared = shared_tokens(trace)
    assert shared is not None
    anyone = [0] * len(trace)
    for row, path in enumerate(paths):
        best = 0
        for other in range(row):
            pairs = zip(built[row], built[other], strict=False)
            same = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs),
                        min(len(built[row]), len(built[other])))  # fmt: skip
            assert in_common(path, paths[other]) == same
            anyone[row] = max(anyone[row], min(same, int(trace.num_prompt_tokens[row])))
            anyone[other] = max(anyone[other], min(same, int(trace.num_prompt_tokens[other])))
            best = max(best, min(same, len(built[other]) - 1, int(trace.num_prompt_tokens[row])))
        assert shared[row] == best
    assert shared_with_any(trace).tolist() == anyone
