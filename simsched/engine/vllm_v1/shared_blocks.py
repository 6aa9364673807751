"""vLLM's KV cache where prompts share prefixes, as runs of blocks (the leaping engine's).

The same blocks, hits and evictions as `kv_cache.py`, block by block, without looking at single blocks:

- What a block holds is known by its edge of the prefix tree (or the request whose own it is) and its place
  there. Blocks at successive places that were filled by one request and are held by the same ones are a run.
  A run is split where only a part of it is hit.
- All free blocks without content are at the front of the queue, so a number stands for them. Behind them is
  what requests gave up, a group of runs for each, evicted from its tail.
- A request's own content can't be hit while it runs, so it becomes a run only when it is given up.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

from simsched.workload.content import Stretch


class Run:
    """Blocks at the places [start, end)."""

    __slots__ = ("copies", "end", "group", "rest", "start", "users")

    def __init__(self, copies: list[Run], start: int, end: int) -> None:
        self.copies = copies
        """All runs with content of the same edge, oldest first, itself among them."""
        self.start = start
        self.end = end
        self.users = 0
        self.group: list[Run] | None = None
        """Where it is in the queue, while nobody holds it."""
        self.rest: Run | None = None
        """What was split off at its end, for those who hold both."""


class Piece(NamedTuple):
    """A part of a run that a lookup has found."""

    run: Run
    start: int
    end: int


make_piece = tuple.__new__
"""A `Piece` from a tuple of its fields, in half the time."""


class SharedBlocks:
    """Runs held by each request, and the queue of free ones."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.paths: dict[int, list[tuple[int, int]]] = {}
        """By request that has arrived, what others have too: (edge, the block that it ends before) of each
        stretch of blocks."""
        self._copies: defaultdict[int, list[Run]] = defaultdict(list)  # edge -> runs with its content
        self._own: dict[int, list[Run]] = {}  # request -> what is left of its own content
        self._empty = num_blocks
        self._queue: deque[list[Run]] = deque()
        self._held: dict[int, list[tuple[Run, int]]] = {}  # (run, its end when it was taken)
        self._covered: dict[int, int] = {}  # request -> blocks of it that are in these runs

    def arrived(self, number: int, prefix: Sequence[Stretch]) -> None:
        """A request whose prompt begins with these stretches will ask for blocks. A block is of the stretch
        that its last token is in."""
        path: list[tuple[int, int]] = []
        size, place = self.block_size, 0
        for edge, tokens in prefix:
            end = tokens // size
            if end > place:
                path.append((edge, end))
                place = end
        self.paths[number] = path

    def lookup(self, number: int, num_tokens: int) -> tuple[list[Piece], int]:
        """What is cached of its first tokens, leaving one to compute; how many of those blocks are held."""
        limit = (num_tokens - 1) // self.block_size
        found: list[Piece] = []
        place = 0
        for edge, end in self.paths[number]:
            place = self._find(self._copies[edge], place, end if end < limit else limit, found)
            if place < end:
                break
        else:
            if place < limit and number in self._own:
                self._find(self._own[number], place, limit, found)
        held = 0
        for run, start, end in found:
            if run.users:
                held += end - start
        return found, held

    def _find(self, copies: list[Run], place: int, stop: int, found: list[Piece]) -> int:
        """Add what there is from `place` on to `found`; returns the first place that is missing.

        The oldest copy is hit (vLLM's rule), and it is the oldest up to its end: whoever holds a block holds
        one at the place before that is as old or older, gives it up no sooner, and loses it later.
        """
        while place < stop:
            for run in copies:
                if run.start <= place < run.end:
                    break
            else:
                break
            end = run.end if run.end < stop else stop
            found.append(make_piece(Piece, (run, place, end)))
            place = end
        return place

    def begin(self, number: int, found: list[Piece]) -> None:
        """A request starts to run and takes what the lookup has found."""
        held = []
        for run, start, end in found:
            if start > run.start:
                run = self._split(run, start)
            if end < run.end:
                self._split(run, end)
            if run.group is not None:
                run.group.remove(run)
                run.group = None
            run.users += 1
            held.append((run, end))
        self._held[number] = held
        self._covered[number] = found[-1].end if found else 0

    def _split(self, run: Run, place: int) -> Run:
        """Cut a run in two; returns the second part."""
        rest = Run(run.copies, place, run.end)
        rest.users, rest.group, rest.rest = run.users, run.group, run.rest
        run.end, run.rest = place, rest
        run.copies.insert(run.copies.index(run) + 1, rest)
        if run.group is not None:
            run.group.insert(run.group.index(run) + 1, rest)
        return rest

    def allocate(self, count: int) -> None:
        """So many blocks are allocated from the front of the queue, and their content is lost."""
        if count <= self._empty:
            self._empty -= count
            return
        count -= self._empty
        self._empty = 0
        queue = self._queue
        while count:
            group = queue[0]
            while group:
                run = group[-1]
                length = run.end - run.start
                if length > count:
                    run.end -= count
                    return
                count -= length
                group.pop()
                run.copies.remove(run)
            queue.popleft()

    def would_take(self, count: int, found: list[Piece]) -> bool:
        """Would the next `count` blocks be taken from what a lookup has found?"""
        count -= self._empty
        if count <= 0:
            return False
        unheld = [run for run, _, _ in found if not run.users]
        for group in self._queue if unheld else ():
            for run in reversed(group):
                if run in unheld:
                    return True
                count -= run.end - run.start
                if count <= 0:
                    return False
        return False

    def fill(self, number: int, num_tokens: int) -> None:
        """It has blocks for so many tokens: what it shares can be hit from now on."""
        covered, full = self._covered[number], num_tokens // self.block_size
        if covered >= full:
            return
        path, held = self.paths[number], self._held[number]
        place = len(path)
        while place and path[place - 1][1] > covered:
            place -= 1
        for edge, end in path[place:]:
            if covered >= full:
                break
            end = min(end, full)
            copies = self._copies[edge]
            last = held[-1][0] if held else None
            if last is not None and copies and copies[-1] is last and last.end == covered and last.users == 1:
                last.end = end
                held[-1] = last, end
            else:
                run = Run(copies, covered, end)
                run.users = 1
                copies.append(run)
                held.append((run, end))
            covered = end
        self._covered[number] = covered

    def release(self, number: int, num_tokens: int, finished: bool, unhashed: int | None = None) -> int:
        """It gives up its blocks, which hold so many tokens; returns how many are free now.

        Args:
            unhashed: blocks besides those that these tokens fill; None: one, if there are tokens left.
        """
        full, rest = divmod(num_tokens, self.block_size)
        if unhashed is None:
            unhashed = 1 if rest else 0
        group: list[Run] = []
        freed = 0
        for run, end in self._held.pop(number):
            while True:
                run.users -= 1
                if not run.users:
                    run.group = group
                    group.append(run)
                    freed += run.end - run.start
                if run.end == end:
                    break
                assert run.rest is not None
                run = run.rest
        covered = self._covered.pop(number)
        if covered < full:
            copies: list[Run] = [] if finished else self._own.setdefault(number, [])
            run = Run(copies, covered, full)
            run.group = group
            copies.append(run)
            group.append(run)
            freed += full - covered
        if finished:
            self._own.pop(number, None)
            del self.paths[number]
        if group:
            self._queue.append(group)
        self._empty += unhashed
        return freed + unhashed

    def forget(self, number: int) -> None:
        """A request that has no blocks is done."""
        self._own.pop(number, None)
        del self.paths[number]
