"""The tree of cache-aware routers beside lists of what was sent, and its eviction on a tree drawn by hand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from simsched.routers.prefix_tree import PrefixTree
from simsched.routers.sent_prefixes import beginning
from simsched.workload.content import Stretch, shared_stretches
from tests.routers.requests import blocks

REPLICAS = 3


@st.composite
def prompts(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Texts over two letters, which share many beginnings, each with the replica that it goes to."""
    text = st.text("ab", min_size=1, max_size=12)
    return draw(st.lists(st.tuples(text, st.integers(0, REPLICAS - 1)), min_size=1, max_size=25))


def stretches(texts: list[str]) -> list[tuple[Stretch, ...]]:
    """Each text's shared beginning, from a trie of all."""
    nodes: dict[str, int] = {}
    paths = [
        [Stretch(nodes.setdefault(text[:end], len(nodes)), end) for end in range(1, len(text) + 1)]
        for text in texts
    ]
    return shared_stretches(paths)


def common(one: str, other: str) -> int:
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


@settings(max_examples=300, deadline=None)
@given(prompts())
def test_it_knows_what_was_sent_where(sent: list[tuple[str, int]]) -> None:
    texts = [text for text, _ in sent]
    tree = PrefixTree(REPLICAS)
    for number, (prefix, (text, replica)) in enumerate(zip(stretches(texts), sent, strict=True)):
        asked = beginning(prefix, len(text))
        before = sent[:number]
        longest = [
            max((common(text, each) for each, at in before if at == k), default=0) for k in range(REPLICAS)
        ]
        assert tree.matched_by(asked) == longest
        matched, holder = tree.match(asked)
        assert matched == max(longest)
        first = next((at for each, at in before if matched and common(text, each) >= matched), None)
        assert holder == first
        tree.insert(asked, len(text), replica)
        pieces = [
            {each[:end] for each, at in sent[: number + 1] if at == k for end in range(1, len(each) + 1)}
            for k in range(REPLICAS)
        ]
        assert tree.tokens == [len(of_replica) for of_replica in pieces]


@settings(max_examples=200, deadline=None)
@given(prompts(), st.integers(0, 40))
def test_what_is_thrown_out_is_an_end(sent: list[tuple[str, int]], limit: int) -> None:
    texts = [text for text, _ in sent]
    tree = PrefixTree(REPLICAS)
    found = [beginning(prefix, len(text)) for prefix, text in zip(stretches(texts), texts, strict=True)]
    for asked, (text, replica) in zip(found, sent, strict=True):
        tree.insert(asked, len(text), replica)
    full = [tree.matched_by(asked) for asked in found]
    tokens = list(tree.tokens)
    tree.evict(limit)
    for replica in range(REPLICAS):
        assert (
            tree.tokens[replica] == tokens[replica]
            if tokens[replica] <= limit
            else tree.tokens[replica] <= limit
        )
    left = [tree.matched_by(asked) for asked in found]
    assert all(
        one <= other
        for row, before in zip(left, full, strict=True)
        for one, other in zip(row, before, strict=True)
    )
    tree.evict(0)
    assert tree.tokens == [0] * REPLICAS
    assert all(tree.matched_by(asked) == [0] * REPLICAS for asked in found)
    tree.insert(found[0], len(texts[0]), 1)
    assert tree.matched_by(found[0])[1] == found[0][-1].end if found[0] else True


def test_a_piece_that_is_only_passed_through_goes_as_soon_as_nothing_is_behind_it() -> None:
    tree = PrefixTree(1)
    tree.insert(blocks(1, 2), 32, 0)  # one node of 32 tokens
    tree.insert(blocks(9), 16, 0)
    tree.insert(blocks(1, 3), 32, 0)  # cuts it: 16 passed through, then 2 and 3
    assert tree.tokens == [64]
    tree.evict(63)  # the oldest end: block 2
    assert tree.matched_by(blocks(1, 2)) == [16]
    assert tree.tokens == [48]
    tree.evict(47)  # block 9, which was sent before 3
    assert [tree.matched_by(blocks(*each))[0] for each in ((9,), (1, 3))] == [0, 32]
    tree.evict(31)  # block 3, the last end
    assert tree.matched_by(blocks(1, 3)) == [16]


def test_where_the_first_holder_has_lost_it_another_has_it() -> None:
    tree = PrefixTree(2)
    tree.insert(blocks(1), 16, 0)
    tree.insert(blocks(1), 16, 1)
    assert tree.match(blocks(1, 2)) == (16, 0)
    tree.insert(blocks(5), 16, 0)
    tree.evict(16)  # of replica 0 the older of two ends
    assert tree.match(blocks(1, 2)) == (16, 1)
