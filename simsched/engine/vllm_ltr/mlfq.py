"""MLFQ in the fork: a discipline of queues, by level; only its two parameters come from the policy.

Arrivals go to the back of level 0; the order is level by level. After a step each request that ran goes, in
batch order, to the *front* of its queue: the order inside a level reverses in every step.

So of each queue the decoding requests are the front, and their batch order is the order of the queue back to
front: nothing moves but those that join them or leave. While all requests decode, all of them run whatever
their level: who sinks when is worked out after a leap, from the ends of its steps.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING
from simsched.engine.vllm_ltr.sorted_walk import Entry, Place, SortedWalk, Step
from simsched.policies.mlfq import Mlfq


class MlfqEngine(SortedWalk):
    """A request sinks a level once its service there, in seconds of steps, exceeds
    `base_quantum * threshold ** level`."""

    marks_idle = False

    def __init__(self, config: ResolvedConfig, recorder: Recorder, policy: Mlfq, *, leap: bool) -> None:
        super().__init__(config, recorder, leap=leap)
        self.quantum = policy.quantum
        self.ends_of_leap: list[float] = []
        self.step_ends = self.ends_of_leap
        self.decoding: list[list[int]] = [[]]
        """By level: the front part of its queue. The *end* of a list is the front of the queue."""
        self.queues: list[list[int]] = [[]]
        """By level: the rest of its queue, in the same manner."""
        self.level: list[int] = []
        self.service: list[float] = []
        """At its level, without the current spell of running."""
        self.due: list[tuple[float, int]] = []
        """(time at which it outruns its quantum if it keeps running, request); past spells are stale."""
        self.due_at: list[float] = []

    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        super().arrived(number, arrival, now)
        self.level.append(0)
        self.service.append(0.0)
        self.due_at.append(0.0)
        self.queues[0].insert(0, number)

    def schedule(self, now: float) -> Batch | None:
        if not self.unfinished:
            return None
        self.now = now
        order: list[int] = []
        for decoding in self.decoding:
            order += decoding[::-1]
        step, batch = self.form(order, self._line())
        self._dequeue(step)
        if len(step.dropped) > 1:
            self.slack = -1  # they went back in reverse: another one is first next time
        return batch

    def _line(self) -> Iterator[Place]:
        ahead = 0
        for decoding, queue in zip(self.decoding, self.queues, strict=True):
            ahead += len(decoding)
            for i in reversed(queue):
                yield i, ahead

    def entries(self, decoding: list[int], partial: list[int]) -> list[Entry]:
        # the later it came back to the front of its queue, the nearer the front; decoding requests came last
        level, step = self.level, -self.step
        entries: list[Entry] = [((level[i], step, p), 0, i) for p, i in enumerate(decoding)]
        if partial:
            entries += [((level[i], step, len(decoding) - p), 1, i) for p, i in enumerate(partial)]
            entries.sort(key=lambda entry: (entry[0][0], entry[1], entry[0][2]))
            entries = [((level[i], step, p), 0, i) for p, (_, _, i) in enumerate(entries)]
        return entries

    def _dequeue(self, step: Step) -> None:
        """The walked leave their queues; the dropped return to the front, the last of them foremost."""
        level, queues = self.level, self.queues
        dropped = step.dropped[::-1]
        decoding_dropped = 0
        for i in [*(other[0] for other in step.others), *dropped]:
            queue = queues[level[i]]
            if queue and queue[-1] == i:
                queue.pop()
            else:
                decoding_dropped += 1
        left = sum(map(len, self.decoding)) - decoding_dropped - len(step.decodes) + len(step.joined)
        if left or decoding_dropped:
            for decoding, queue in zip(reversed(self.decoding), reversed(queues), strict=True):
                queue += decoding[:left]
                gone = min(left + decoding_dropped, len(decoding))
                decoding_dropped -= max(gone - left, 0)
                left -= min(gone, left)
                del decoding[:gone]
        for i in step.joined:
            self.decoding[level[i]].insert(0, i)
        for i in dropped:
            queues[level[i]].append(i)

    def stop(self, requests: Sequence[int]) -> None:
        now, started = self.now, self.started_at
        for i in requests:
            since = started[i]
            assert since is not None
            self.service[i] += now - since
            started[i] = None

    def start(self, requests: Sequence[int]) -> None:
        for i in requests:
            self.started_at[i] = self.now
            self._set_due(i, self.now)

    def _set_due(self, i: int, now: float) -> None:
        at = self.due_at[i] = now + self.quantum(self.level[i]) - self.service[i]
        heapq.heappush(self.due, (at, i))

    def _is_due(self, entry: tuple[float, int]) -> bool:
        at, i = entry
        return self.started_at[i] is not None and self.due_at[i] == at

    def next_change(self) -> tuple[int, float]:
        if self.num_decoding == self.unfinished:
            return 1 << 62, float("inf")
        while self.due and not self._is_due(self.due[0]):
            heapq.heappop(self.due)
        return 1 << 62, self.due[0][0] if self.due else float("inf")

    def after_step(self, finished: Sequence[int], steps: int) -> None:
        self._forget(finished)
        ends, done = self.ends_of_leap, 0
        while self.due and self.due[0][0] < self.now:
            step = bisect_right(ends, self.due[0][0])
            self._turn(step + 1 - done)
            self._sink(ends[step])
            done = step + 1
        self._turn(steps - done)
        ends.clear()
        # in batch order: prefills, decodes, those swapped in
        for i in self.partial:
            self.queues[self.level[i]].append(i)
        for i in self.came_in:
            self.decoding[self.level[i]].append(i)

    def _forget(self, finished: Sequence[int]) -> None:
        self.num_resident -= len(finished)
        for i in finished:
            self.started_at[i] = None
            for apart in (self.partial, self.came_in, self.decoding[self.level[i]]):
                if i in apart:
                    apart.remove(i)

    def _turn(self, steps: int) -> None:
        """Inside each level a batch that repeats runs in reverse every other time."""
        if steps % 2:
            for decoding in self.decoding:
                decoding.reverse()

    def _sink(self, now: float) -> None:
        """Those that had outrun their quantum by the end of this step go down a level."""
        sunk: defaultdict[int, list[int]] = defaultdict(list)
        while self.due and self.due[0][0] < now:
            entry = heapq.heappop(self.due)
            if self._is_due(entry):
                i = entry[1]
                level = self.level[i]
                if self.where[i] == DECODING and i not in self.came_in:
                    sunk[level].append(i)
                self.level[i] = level + 1
                self.service[i] = 0.0
                self.started_at[i] = now
                if level + 1 == len(self.queues):
                    self.queues.append([])
                    self.decoding.append([])
                self._set_due(i, now)
        # a level's batch comes before that of the level below, and so returns to the front before it
        for level in sorted(sunk, reverse=True):
            decoding, below = self.decoding[level], self.decoding[level + 1]
            below[:0] = sorted(sunk[level], key=decoding.index)
            for i in sunk[level]:
                decoding.remove(i)
