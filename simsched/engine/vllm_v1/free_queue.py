"""vLLM's queue of free KV blocks as runs, for prompts that share nothing.

Then only what a preempted request left behind can ever be hit again. Its full blocks go to the back of the
queue, tail first, as one run; blocks are taken (and their content lost) at the front, so a run shrinks from
its tail, and what is left of it is a prefix. Places in the queue are numbered; `_front` is the place of the
next block to be taken, `_lost` the furthest it has been, `_back` the end.
"""

from __future__ import annotations

import heapq


class FreeQueue:
    """Only in use while there is a run to be kept: `if queue.runs`."""

    def __init__(self) -> None:
        self.runs: dict[int, tuple[int, int]] = {}
        """Owner -> places [start, end) of its run, the tail of its content first."""
        self._front = 0
        self._lost = 0
        self._back = 0
        self._holes: list[tuple[int, int]] = []  # runs that were hit and so left the middle of the queue

    def allocate(self, count: int) -> None:
        """So many blocks are allocated from the front."""
        front = self._front + count
        holes = self._holes
        while holes and holes[0][0] < front:
            start, end = heapq.heappop(holes)
            front += end - start
        self._front = front
        if front > self._lost:
            self._lost = front

    def put(self, hashed: int, unhashed: int) -> None:
        """A request gave up so many blocks: those with content go to the back, others to the front."""
        self._back += hashed
        self._front -= unhashed

    def leave(self, owner: int, hashed: int, unhashed: int, num_free: int) -> None:
        """A request that will come back gave up its blocks; `num_free` are free without them."""
        if not self.runs:
            self._front = self._lost = 0
            self._back = num_free
            self._holes.clear()
        if hashed:
            self.runs[owner] = (self._back, self._back + hashed)
        self.put(hashed, unhashed)

    def survivors(self, owner: int) -> int:
        """How many blocks of its prefix are still cached."""
        run = self.runs.get(owner)
        if run is None:
            return 0
        start, end = run
        return max(0, end - max(start, self._lost))

    def hit(self, owner: int) -> None:
        """It comes back and takes what has survived."""
        run = self.runs.pop(owner, None)
        if run is not None:
            start, end = run
            start = max(start, self._lost)
            if start < end:
                heapq.heappush(self._holes, (start, end))
