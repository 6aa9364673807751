"""MLFQ in the fork: a discipline of queues, by level; only its two parameters come from the policy.

Arrivals go to the back of level 0; the order is level by level. After a step each request that ran goes, in
batch order, to the *front* of its queue: the order inside a level reverses in every step.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import groupby

from simsched.engine.base import Batch
from simsched.engine.config import EngineConfig
from simsched.engine.recorder import Recorder
from simsched.engine.vllm_ltr_base import FINISHED
from simsched.engine.vllm_ltr_general import Entry, GeneralEngine, Step
from simsched.policies.mlfq import Mlfq
from simsched.workload.trace import Trace


class MlfqEngine(GeneralEngine):
    """A request sinks a level once its service there, in seconds of steps, exceeds
    `base_quantum * threshold ** level`."""

    marks_idle = False

    def __init__(
        self, trace: Trace, config: EngineConfig, recorder: Recorder, policy: Mlfq, *, leap: bool
    ) -> None:
        super().__init__(trace, config, recorder, leap=leap)
        self.quantum = policy.quantum
        n = len(trace)
        self.queues: list[list[int]] = [[]]
        """By level; the *end* of a list is the front of its queue."""
        self.level = [0] * n
        self.service = [0.0] * n
        """At its level, without the current spell of running."""
        self.due: list[tuple[float, int]] = []
        """(time at which it outruns its quantum if it keeps running, request); past spells are stale."""
        self.due_at = [0.0] * n

    def add_request(self, index: int, now: float) -> None:
        super().add_request(index, now)
        self.queues[0].insert(0, index)

    def schedule(self, now: float) -> Batch | None:
        if not self.unfinished:
            return None
        self.now = now
        order: list[int] = []
        for queue in self.queues:
            order += queue[: -1 - (self.max_num_seqs - len(order)) : -1]
        step, batch = self.form(order)
        self._dequeue(step)
        if len(step.dropped) > 1:
            self.slack = -1  # they went back in reverse: another one is first next time
        self.running = [i for i, _ in self.chunks] + step.decodes + step.in_decodes
        return batch

    def entries(self, chosen: set[int]) -> list[Entry]:
        # the later it came back to the front of its queue, the nearer the front it is
        places = [(self.level[i], -self.step, -p) for p, i in enumerate(self.running)]
        pairs = zip(places, self.running, strict=True)
        return sorted((place, 0, i) for place, i in pairs if i not in chosen)

    def _dequeue(self, step: Step) -> None:
        """The walked leave their queues; the dropped return to the front, the last of them foremost."""
        left = len(step.chosen) + len(step.dropped)
        for queue in self.queues:
            taken = min(left, len(queue))
            del queue[len(queue) - taken :]
            left -= taken
            if not left:
                break
        for i in reversed(step.dropped):
            self.queues[self.level[i]].append(i)

    def stop(self, i: int) -> None:
        since = self.started_at[i]
        assert since is not None
        self.service[i] += self.now - since
        self.started_at[i] = None

    def start(self, i: int) -> None:
        self.started_at[i] = self.now
        self.due_at[i] = self.now + self.quantum(self.level[i]) - self.service[i]
        heapq.heappush(self.due, (self.due_at[i], i))

    def _is_due(self, entry: tuple[float, int]) -> bool:
        at, i = entry
        return self.started_at[i] is not None and self.due_at[i] == at

    def next_change(self) -> tuple[int, float]:
        while self.due and not self._is_due(self.due[0]):
            heapq.heappop(self.due)
        return 1 << 62, self.due[0][0] if self.due else float("inf")

    def after_step(self, finished: Sequence[int], steps: int) -> None:
        now = self.now
        batch = self.running
        for i in finished:
            self.started_at[i] = None
        if finished:
            self.num_resident -= len(finished)
            batch = [i for i in batch if self.where[i] != FINISHED]
        if steps % 2 == 0:
            # repeats of one batch of decodes: inside each level it ran in reverse every other time
            batch = [i for _, same in groupby(batch, self.level.__getitem__) for i in reversed(list(same))]
        while self.due and self.due[0][0] < now:
            entry = heapq.heappop(self.due)
            if self._is_due(entry):
                i = entry[1]
                self.level[i] += 1
                self.service[i] = 0.0
                if self.level[i] == len(self.queues):
                    self.queues.append([])
                self.start(i)
        queues, level = self.queues, self.level
        for i in batch:
            queues[level[i]].append(i)
        self.running = batch
