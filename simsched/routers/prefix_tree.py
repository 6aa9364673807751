"""The approximate radix tree of SGLang's and vLLM's routers: which prompts were sent to which replica.

Source: tree.rs of sglang-router 0.3.2 and vllm-router 0.1.17, which agree. A node holds a piece of the
prompts that go through it, and for each replica that has been sent one of them the time of its last use, in
numbers of operations on the tree. Only the node that a prompt ends in is used by it, so a piece that is
passed through is thrown out as soon as nothing is left behind it.

Two things of the real trees nobody can know. One in eight matches counts as a use, by a number that all
operations in the process have in common: what it is at the first request depends on how its workers were
registered (here it is 0). And which replica a piece counts for, once the one that had it first has lost it,
is up to the seed of a hash map (here the one that got it next).

There, pieces are characters; here they are tokens, named by the stretches of a prompt (`Stretch`): two
prompts have the same token at a place if the same edge covers it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from heapq import heapify, heappop, heappush

from simsched.workload.content import Stretch

Piece = tuple[Hashable, int]
"""An edge, or what stands for a prompt's own tokens, and where it ends."""


class Node:
    """Tokens `start` to `end` of every prompt that goes through it."""

    __slots__ = ("children", "end", "first", "parent", "pieces", "start", "used")

    def __init__(self, parent: Node | None, start: int, pieces: list[Piece], first: int) -> None:
        self.parent = parent
        self.start = start
        self.pieces = pieces
        self.end = pieces[-1][1] if pieces else start
        self.first = first
        """The replica that it was made for, as long as that has it."""
        self.used: dict[int, int] = {}
        """Replica -> when it was last used there; 0: only passed through."""
        self.children: dict[Hashable, Node] = {}
        """Edge that the child begins with -> child."""

    def cut(self, at: int) -> Node:
        """Split it at a token: this keeps what is behind, the new node before it what is in front."""
        place = next(place for place, (_, end) in enumerate(self.pieces) if end > at)
        edge = self.pieces[place][0]
        begins = self.pieces[place - 1][1] if place else self.start
        head = self.pieces[:place] if begins == at else [*self.pieces[:place], (edge, at)]
        upper = Node(self.parent, self.start, head, self.first)
        upper.used = dict(self.used)
        upper.children[edge] = self
        self.parent, self.start, self.pieces = upper, at, self.pieces[place:]
        return upper


class PrefixTree:
    """The prompts sent to each of some replicas."""

    def __init__(self, num_replicas: int) -> None:
        self.tokens = [0] * num_replicas
        """Of each replica, a shared piece counted once."""
        self._root = Node(None, 0, [], -1)
        self._operations = 0

    def insert(self, prefix: Sequence[Stretch], num_prompt_tokens: int, replica: int) -> None:
        """A prompt goes to this replica: the part that others share, then tokens of its own."""
        pieces: list[Piece] = list(prefix)
        if num_prompt_tokens > (pieces[-1][1] if pieces else 0):
            pieces.append((object(), num_prompt_tokens))
        node, place, at = (
            self._root,
            0,
            0,
        )  # the pieces before `place`, and its tokens up to `at`, are in `node`
        while place < len(pieces):
            edge = pieces[place][0]
            child = node.children.get(edge)
            if child is None:
                leaf = Node(node, at, pieces[place:], replica)
                node.children[edge] = leaf
                leaf.used[replica] = self._now()
                self.tokens[replica] += leaf.end - leaf.start
                return
            place, at = _along(child, pieces, place)
            if at < child.end:
                child = node.children[edge] = child.cut(at)
            if replica not in child.used:
                child.used[replica] = 0
                self.tokens[replica] += child.end - child.start
            node = child
        node.used[replica] = self._now()

    def match(self, prefix: Sequence[Stretch]) -> tuple[int, int | None]:
        """How many tokens of a prompt are anywhere, and the replica that the last of them was first sent to,
        or another that has it where that one has lost it. One in eight of these calls uses the node."""
        node, place, at = self._root, 0, 0
        while place < len(prefix):
            child = node.children.get(prefix[place][0])
            if child is None:
                break
            place, at = _along(child, prefix, place)
            node = child
            if at < child.end:
                break
        now = self._now()
        if node is self._root:
            return 0, None
        if node.first not in node.used:
            node.first = self.another(node.used, at)
        if now % 8 == 0 and node.first in node.used:
            node.used[node.first] = now
        return at, node.first

    def another(self, holders: Iterable[int], matched: int) -> int:
        """Which replica stands for a node that the one it was made for has lost, where so many tokens match:
        the real tree takes any of its holders (the first in a hash map with a seed of its own)."""
        return next(iter(holders))

    def matched_by(self, prefix: Sequence[Stretch]) -> list[int]:
        """How many of a prompt's first tokens each replica has."""
        matched = [0] * len(self.tokens)
        node, place, at = self._root, 0, 0
        holders: list[int] | None = None
        while place < len(prefix):
            child = node.children.get(prefix[place][0])
            if child is None:
                break
            place, at = _along(child, prefix, place)
            holders = [each for each in (child.used if holders is None else holders) if each in child.used]
            for replica in holders:
                matched[replica] = at
            node = child
            if not holders or at < child.end:
                break
        return matched

    def evict(self, max_tokens: int) -> None:
        """Throw out, of each replica that has more than so many tokens, the ends of prompts that were used
        least recently, until it has no more."""
        if max(self.tokens) <= max_tokens:
            return
        ends: list[tuple[int, int, int, Node]] = []  # the number makes those of one time comparable
        nodes = [self._root]
        for node in nodes:
            nodes += node.children.values()
            for replica, used in node.used.items():
                if not _goes_on(node, replica):
                    ends.append((used, len(ends), replica, node))
        heapify(ends)
        number = len(ends)
        while ends:
            _, _, replica, node = heappop(ends)
            if self.tokens[replica] <= max_tokens:
                continue
            self.tokens[replica] -= node.end - node.start
            del node.used[replica]
            parent = node.parent
            if parent is None:
                continue
            if not node.children and not node.used:
                del parent.children[node.pieces[0][0]]
            if replica in parent.used and not _goes_on(parent, replica):
                number += 1
                heappush(ends, (parent.used[replica], number, replica, parent))

    def _now(self) -> int:
        now = self._operations
        self._operations += 1
        return now


def _along(node: Node, pieces: Sequence[Piece], place: int) -> tuple[int, int]:
    """Follow pieces through a node that begins with the one at `place`: the first that does not end within
    it or before, and how many tokens are the same."""
    at = node.start
    for edge, end in node.pieces:
        wanted, stop = pieces[place]
        if wanted != edge:
            break
        at = min(end, stop)
        if stop <= end:
            place += 1
        if stop != end or place == len(pieces):
            break
    return place, at


def _goes_on(node: Node, replica: int) -> bool:
    return any(replica in child.used for child in node.children.values())
