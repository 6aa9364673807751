"""The general path under a policy: a stable sort of waiting + running + swapped requests by priority.

All three lists are kept sorted, and only those of the waiting and swapped that can have a place in the batch
take part in the sort of a step.
Ties are broken as the fork's stable sort does: by list (waiting, running, swapped) and place in it. The
classifier's are broken by request id: arrival here, or random as over HTTP (`random_ties`).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Any

from simsched.engine.base import Batch
from simsched.engine.config import EngineConfig
from simsched.engine.recorder import Recorder
from simsched.engine.vllm_ltr_base import DECODING, FINISHED, SWAPPED, WAITING
from simsched.engine.vllm_ltr_general import Entry, GeneralEngine, Step
from simsched.engine.vllm_ltr_view import LtrView
from simsched.policies.base import NEVER, Policy, Priority
from simsched.streams import stream
from simsched.workload.trace import Trace

INFINITY = float("inf")
Key = Priority | tuple[Priority, int]


class OrderedEngine(GeneralEngine):
    """Asks the policy for a priority only when its `next_change` says that it may differ."""

    def __init__(
        self, trace: Trace, policy: Policy, config: EngineConfig, recorder: Recorder, *, leap: bool, seed: int
    ) -> None:
        super().__init__(trace, config, recorder, leap=leap)
        self.trace = trace
        self.policy = policy
        self.predicted = policy.reads in ("score", "predicted_class")
        n = len(trace)
        self.ids = trace.request_ids()
        self.tie: list[int] | None = None
        if policy.reads == "predicted_class":
            self.tie = stream(seed, "ties").permutation(n).tolist() if config.random_ties else list(range(n))
        self.views: list[LtrView | None] = [None] * n
        self.keys: list[Key] = [0.0] * n
        self.waiting: list[tuple[Key, int]] = []
        """(key, arrival number), sorted."""
        self.swapped: list[Entry] = []
        """Sorted, like `idle`."""
        self.number = [0] * n
        """Of when it was swapped out or left out: ties are served in that order."""
        self.last_number = 0
        self.anchor = [0.0] * n
        """Of a decoder under such a policy: its priority at step 0, had it decoded since."""
        self.unsorted = False
        """Is `running` to be sorted before it is walked?"""
        self.listed: list[int] = []
        """`running` in the fork's own order, in which those left out of the step stay."""
        self.drifts = False
        """Some priorities move while their request runs."""
        self.freely = False
        """... in any direction: no leap."""
        # counters behind the views; `changed_step`: when it last started or stopped running, or arrived
        self.service = [0.0] * n
        self.steps_run = [0] * n
        self.changed_step = [0] * n
        # announced changes: (when, version of the announcement, request); an old version is void
        self.version = [0] * n
        self.due_steps: list[tuple[int, int, int]] = []
        self.due_times: list[tuple[float, int, int]] = []
        self.due_service: list[tuple[float, int, int]] = []

    def add_request(self, index: int, now: float) -> None:
        super().add_request(index, now)
        self.now = now
        self.changed_step[index] = self.step
        view = self.views[index] = LtrView(self, index, self.ids[index])
        self.policy.on_arrival(view, now)
        self.keys[index] = self._key(index)
        insort(self.waiting, (self.keys[index], index))
        self._ask(index)

    def schedule(self, now: float) -> Batch | None:
        if not self.unfinished:
            return None
        self.now = now
        self._announced_changes()
        if self.drifts:
            self._rekey_running()
        key = self.keys.__getitem__
        running = self.listed = self.running
        if self.unsorted:
            running = self.running = sorted(running, key=key)
        ahead, swapped = self._waiting_head() + self._head(self.idle), self._head(self.swapped)
        order = [*ahead, *running, *swapped] if ahead or swapped else running
        if order is not running:
            order.sort(key=key)
        step, batch = self.form(order)
        # decodes alone are left as the order had them
        self.unsorted = len(step.decodes) < len(self.running)
        if self.freely or self._tied_at_the_cut(step):
            self.slack = -1
        self._relist(step)
        return batch

    def _waiting_head(self) -> list[int]:
        """The waiting requests that may be chosen: one budget of tokens, not behind a full batch."""
        last = self.keys[self.running[-1]] if len(self.running) == self.max_num_seqs else None
        waiting: list[int] = []
        budget = self.max_tokens
        for key, i in self.waiting:
            if budget <= 0 or (last is not None and key > last):  # type: ignore[operator]
                break
            waiting.append(i)
            budget -= self.known[i]
        return waiting

    def _head(self, entries: list[Entry]) -> list[int]:
        """Those that may be chosen: before the last running one, or as many behind it as there are slots."""
        end = self.max_num_seqs - len(self.running)
        if entries and self.running:
            end += bisect_right(entries, (self.keys[self.running[-1]], self.last_number + 1, 0))
        return [i for _, _, i in entries[: min(end, self.max_num_seqs)]]

    def entries(self, chosen: set[int]) -> list[Entry]:
        left_out = [i for i in self.listed if i not in chosen]
        return sorted((self.keys[i], self._count(i), i) for i in left_out)

    def _count(self, i: int) -> int:
        self.last_number += 1
        self.number[i] = self.last_number
        return self.last_number

    def _tied_at_the_cut(self, step: Step) -> bool:
        """Would the first request left out, idle on the GPU, go ahead of the last one taken next time?"""
        return self.slack >= 0 and bool(self.idle) and self.idle[0][0] == self.keys[step.chosen[-1]]

    def _relist(self, step: Step) -> None:
        """Bring the waiting and swapped lists up to date."""
        for i, _ in step.new:
            del self.waiting[bisect_left(self.waiting, (self.keys[i], i))]
        drift = self.policy.drift_per_token
        if drift is not None:
            for i, _ in step.others:
                if self.where[i] == DECODING:
                    self.anchor[i] = self.keys[i] - drift * self.step  # type: ignore[operator]
        for i in step.came_in:
            del self.swapped[bisect_left(self.swapped, (self.keys[i], self.number[i], i))]
        for i in step.out:
            self.policy.on_preempt(self._view(i), self.now)
            self.keys[i] = self._key(i)
            insort(self.swapped, (self.keys[i], self._count(i), i))
            self._ask(i)

    def start(self, i: int) -> None:
        self.started_at[i] = self.now
        self.changed_step[i] = self.step
        self._ask(i)

    def stop(self, i: int) -> None:
        since = self.started_at[i]
        assert since is not None
        self.service[i] += self.now - since
        self.steps_run[i] += self.step - self.changed_step[i]
        self.started_at[i] = None
        self.changed_step[i] = self.step
        self._ask(i)

    def after_step(self, finished: Sequence[int], steps: int) -> None:
        for i in finished:
            self.version[i] += 1
            self.policy.on_finish(self._view(i), self.now)
            self.views[i] = None
            self.num_resident -= 1
        if finished:
            self.running = [i for i in self.running if self.where[i] != FINISHED]

    # what the policy announces

    def _view(self, i: int) -> LtrView:
        view = self.views[i]
        assert view is not None
        return view

    def _key(self, i: int) -> Key:
        priority = self.policy.priority(self._view(i), self.now)
        return priority if self.tie is None else (priority, self.tie[i])

    def _rekey(self, i: int) -> None:
        """Ask for the priority anew; a sorted list has the request in its new place."""
        key, old = self._key(i), self.keys[i]
        if key == old:
            return
        self.keys[i] = key
        self.unsorted = True
        if self.where[i] == WAITING:
            del self.waiting[bisect_left(self.waiting, (old, i))]
            insort(self.waiting, (key, i))
        elif self.started_at[i] is None:
            entries = self.swapped if self.where[i] == SWAPPED else self.idle
            del entries[bisect_left(entries, (old, self.number[i], i))]
            insort(entries, (key, self.number[i], i))

    def _rekey_running(self) -> None:
        """Priorities that move with every step; where each token moves all alike, without asking."""
        drift = self.policy.drift_per_token
        if drift is None or self.tie is not None:
            self.unsorted = True
            for i in self.running:
                self.keys[i] = self._key(i)
            return
        moved, keys, anchors, where = drift * self.step, self.keys, self.anchor, self.where
        for i in self.running:
            keys[i] = anchors[i] + moved if where[i] == DECODING else self._key(i)

    def _ask(self, i: int) -> None:
        """When may its priority next differ?"""
        change = self.policy.next_change(self._view(i), self.now)
        version = self.version[i] = self.version[i] + 1
        if change is NEVER:
            return
        if change.while_running != "none":
            self.drifts = True
            self.freely = self.freely or change.while_running == "any"
        if self.started_at[i] is None:
            steps = change.after_steps_idle
        else:
            steps = change.after_steps_run
            if change.after_service is not None:
                heapq.heappush(self.due_service, (self.now + change.after_service, version, i))
        if steps is not None:
            heapq.heappush(self.due_steps, (self.step + steps, version, i))
        if change.after_time is not None:
            heapq.heappush(self.due_times, (self.now + change.after_time, version, i))

    def _announced_changes(self) -> None:
        """Tell the policy what has come due."""
        due = []
        while self.due_steps and self.due_steps[0][0] <= self.step:
            due.append(heapq.heappop(self.due_steps)[1:])
        while self.due_times and self.due_times[0][0] <= self.now:
            due.append(heapq.heappop(self.due_times)[1:])
        while self.due_service and self.due_service[0][0] < self.now:
            due.append(heapq.heappop(self.due_service)[1:])
        for version, i in due:
            if self.version[i] == version:
                self.policy.on_change(self._view(i), self.now)
                self._rekey(i)
                self._ask(i)

    def next_change(self) -> tuple[int, float]:
        self._purge(self.due_steps)
        self._purge(self.due_times)
        self._purge(self.due_service)
        step = self.due_steps[0][0] if self.due_steps else 1 << 62
        times = [heap[0][0] for heap in (self.due_times, self.due_service) if heap]
        return step, min(times, default=INFINITY)

    def _purge(self, heap: list[tuple[Any, int, int]]) -> None:
        while heap and self.version[heap[0][2]] != heap[0][1]:
            heapq.heappop(heap)
