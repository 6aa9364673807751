"""The general path under a policy: a stable sort of waiting + running + swapped requests by priority.

All lists are kept sorted, and of the waiting, idle and swapped only those that can have a place in the batch
are looked at. Ties are broken as the fork's stable sort does: by list and place in it. The classifier's are
broken by request id: arrival here, or random as over HTTP (`random_ties`).

The fork's lists: waiting; running, which after a step has those on the GPU that were left out, new ones,
decodes, prefills, and those swapped in (decodes, prefills); swapped.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import Any

from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING, SWAPPED, WAITING
from simsched.engine.session_service import SessionService
from simsched.engine.vllm_ltr.changes import Changes
from simsched.engine.vllm_ltr.sorted_walk import Entry, Place, SortedWalk, Step
from simsched.engine.vllm_ltr.view import LtrView, Spells
from simsched.policies.base import NEVER, Moved, Policy, sees_queue

Key = Any
"""A policy's priority; under the classifier with the number that breaks ties."""


class ByPolicy(SortedWalk):
    """Asks the policy for a priority only when its `next_change` says that it may differ."""

    def __init__(self, policy: Policy, config: ResolvedConfig, recorder: Recorder, *, leap: bool) -> None:
        super().__init__(config, recorder, leap=leap)
        self.policy = policy
        self.predicted = policy.reads in ("score", "predicted_class")
        self.tie: list[int] | None = [] if policy.reads == "predicted_class" else None
        self.views: list[LtrView | None] = []
        self.drift = policy.drift_per_token if self.tie is None else None
        """By how much each step moves every decoding request's key, if nothing else does."""
        self.keys: list[Key] = []
        """With `drift`, a decoding request's is what it was at step 0, had it decoded since."""
        self.waiting: list[tuple[Key, int]] = []
        """(key, arrival number), sorted."""
        self.decoding: list[int] = []
        """Sorted, ties as in the running list."""
        self.swapped: list[Entry] = []
        """Sorted, like `idle`."""
        self.number: list[int] = []
        """Of when it was swapped out or left out: ties are served in that order."""
        self.last_number = 0
        self.listed = self.decoding
        """The decoding requests as the last step had them."""
        self.among: dict[int, int] = {}
        """Of each in `partial`: is it new (0), was it on the GPU (1), or swapped in (2)?"""
        self.drifts = False
        """Some keys move while their requests run, each in its own way."""
        self.freely = False
        """... in any direction: no leap."""
        self.spells = Spells()
        self.changes = Changes()
        self.to_ask: list[int] = []
        """Requests that changed in this step: the policy is to say what comes next."""
        self.numbers: dict[str, int] = {}
        self.named: set[str] = set()
        """Ids of requests that others have moved."""
        self.sees_queue = sees_queue(policy)
        self.sessions = SessionService() if policy.reads_sessions else None

    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        super().arrived(number, arrival, now)
        self.now = now
        self.number.append(0)
        self.spells.arrived(self.step)
        self.changes.add()
        if self.tie is not None:
            self.tie.append(arrival.random_id if self.config.random_ties else number)
        view = LtrView(self, self.spells, number, arrival)
        self.views.append(view)
        self.numbers[view.request_id] = number
        if self.sessions is not None:
            self.sessions.arrived(view)
        self._note(self.policy.on_arrival(view, now))
        key = self._key(number)
        self.keys.append(key)
        insort(self.waiting, (key, number))
        self.to_ask.append(number)

    def schedule(self, now: float) -> Batch | None:
        if not self.unfinished:
            return None
        self.now = now
        self.listed = self.decoding
        if self.sessions is not None:
            self.sessions.begin_step()
        self._ask()
        if self.sees_queue and self.waiting:
            waiting = sorted(number for _, number in self.waiting)
            self._note(self.policy.on_queue([self._view(number) for number in waiting], now))
        self._announced_changes()
        if self.drifts:
            for i in self.decoding:
                self.keys[i] = self._key(i)
            self._sort_decoding()
        if self.drifts or self.drift is not None:
            for i in self.partial:
                self.keys[i] = self._key(i)
        step, batch = self.form(self.decoding, self._line())
        self._relist(step)
        self._ask()
        if self.freely or self._tied_at_the_cut() or (self.sees_queue and self.waiting):
            self.slack = -1
        return batch

    # who is next

    def _line(self) -> Iterable[Place]:
        """All but decoding requests that may be chosen, and the decoding requests ahead of each."""
        keys, decoding, key_of = self.keys, self.decoding, self.keys.__getitem__
        running = [keys[i] for i in self.partial]
        if decoding:
            running.append(self._present(decoding[-1]))
        last = max(running, default=None)
        room = self.max_num_seqs - len(decoding) - len(self.partial)
        line, end = self._waiting_head(last, room)
        for each in (
            self._head(self.idle, last, room, end),
            self.partial,
            self._head(self.swapped, last, room, end),
        ):
            line += each
        if len(line) > 1:
            line.sort(key=key_of)
        moved = 0.0 if self.drift is None else self.drift * self.step
        for i in line:
            key = keys[i] - moved if moved else keys[i]
            ahead = bisect_left(decoding, key, key=key_of)
            while ahead < len(decoding) and keys[decoding[ahead]] == key and self._behind(i, decoding[ahead]):
                ahead += 1
            yield i, ahead

    def _waiting_head(self, last: Key, room: int) -> tuple[list[int], Key]:
        """Those that may be chosen: one budget of tokens, not behind a full batch. And the key at which they
        alone have spent the budget, if they do."""
        waiting: list[int] = []
        budget = self.max_tokens
        for key, i in self.waiting:
            if room <= 0 and key > last:
                break
            waiting.append(i)
            budget -= self.known[i]
            if budget <= 0:
                return waiting, key
        return waiting, None

    def _head(self, entries: list[Entry], last: Key, room: int, end: Key) -> list[int]:
        """Those that may be chosen: before the last running one, or as many behind it as there are slots, but
        not from the key `end` on."""
        if not entries:
            return []
        if last is not None:
            room += bisect_right(entries, (last, self.last_number + 1, 0))
        count = min(room, self.max_num_seqs)
        if end is not None:
            count = min(count, bisect_left(entries, (end, 0, 0)))
        return [i for _, _, i in entries[:count]]

    def _behind(self, i: int, other: int) -> bool:
        """Is a request behind a decoding request of the same key?"""
        if self.where[i] == SWAPPED:
            return True
        among = self.among.get(i, 0)
        return among == 2 or (among == 1 and other not in self.came_in)

    def _present(self, i: int) -> Key:
        """A decoding request's key as it is now."""
        return self.keys[i] if self.drift is None else self.keys[i] + self.drift * self.step

    def _tied_at_the_cut(self) -> bool:
        """Would the first request left out, idle on the GPU, go ahead of the last one taken next time?"""
        return self.slack >= 0 and bool(self.idle) and self.idle[0][0] == self._present(self.decoding[-1])

    # the lists

    def entries(self, decoding: list[int], partial: list[int]) -> list[Entry]:
        if self.listed is not self.decoding:
            among = set(decoding)
            decoding = [i for i in self.listed if i in among]
        if self.drift is not None:
            for i in decoding:
                self.keys[i] = self._present(i)
        came_in, among_of = self.came_in, self.among
        left_out = [i for i in partial if among_of[i] == 0]
        left_out += [i for i in decoding if i not in came_in] if came_in else decoding
        left_out += [i for i in partial if among_of[i] == 1]
        left_out += [i for i in came_in if i in decoding]
        left_out += [i for i in partial if among_of[i] == 2]
        return sorted((self.keys[i], self._count(i), i) for i in left_out)

    def _count(self, i: int) -> int:
        self.last_number += 1
        self.number[i] = self.last_number
        return self.last_number

    def _relist(self, step: Step) -> None:
        """Bring the lists up to date."""
        keys = self.keys
        for i, _ in step.new:
            del self.waiting[bisect_left(self.waiting, (keys[i], i))]
        in_prefills = [i for i, _ in step.in_prefills]
        for i in (*step.in_decodes, *in_prefills):
            del self.swapped[bisect_left(self.swapped, (keys[i], self.number[i], i))]
        if self.drift is not None:
            for i in (*step.joined, *step.in_decodes):
                keys[i] -= self.drift * self.step
        self.decoding = step.decodes
        for i in step.in_decodes:
            insort(self.decoding, i, key=keys.__getitem__)
        self.among = dict.fromkeys(self.partial, 1)
        self.among.update((i, 0) for i, _ in step.new)
        self.among.update(dict.fromkeys(in_prefills, 2))
        for i in step.out:
            self._note(self.policy.on_preempt(self._view(i), self.now))
            keys[i] = self._key(i)
            insort(self.swapped, (keys[i], self._count(i), i))
            self.to_ask.append(i)

    def start(self, requests: Sequence[int]) -> None:
        for i in requests:
            self.started_at[i] = self.now
            self.spells.changed_step[i] = self.step
        self.to_ask += requests

    def stop(self, requests: Sequence[int]) -> None:
        now, step, started = self.now, self.step, self.started_at
        for i in requests:
            since = started[i]
            assert since is not None
            self.spells.service[i] += now - since
            self.spells.steps_run[i] += step - self.spells.changed_step[i]
            started[i] = None
            self.spells.changed_step[i] = step
        self.to_ask += requests

    def after_step(self, finished: Sequence[int], steps: int) -> None:
        self.num_resident -= len(finished)
        for i in finished:
            self.changes.void(i)
            view = self._view(i)
            self.numbers.pop(view.request_id, None)
            if self.sessions is not None:
                self._note(self.sessions.finished(view, self.now))
            self._note(self.policy.on_finish(view, self.now))
            self.views[i] = None
            (self.partial if i in self.partial else self.decoding).remove(i)

    # what the policy announces

    def _view(self, i: int) -> LtrView:
        view = self.views[i]
        assert view is not None
        return view

    def _note(self, moved: Moved) -> None:
        """Others have moved: they are asked again before the next step."""
        if moved:
            self.named.update(moved)

    def _key(self, i: int) -> Key:
        priority = self.policy.priority(self._view(i), self.now)
        return priority if self.tie is None else (priority, self.tie[i])

    def _announced_changes(self) -> None:
        """Tell the policy what has come due; the lists have each request in its new place."""
        moved: list[int] = []
        due = self.changes.due(self.step, self.now)
        for i in due:
            self._note(self.policy.on_change(self._view(i), self.now))
        named = {self.numbers[name] for name in self.named if name in self.numbers}
        self.named.clear()
        for i in [*due, *sorted(named.difference(due))]:
            self.to_ask.append(i)
            key, old = self._key(i), self.keys[i]
            if self.where[i] == DECODING and self.drift is not None:
                key -= self.drift * self.step
            if key == old:
                continue
            self.keys[i] = key
            if self.where[i] == DECODING:
                moved.append(i)
            elif self.where[i] == WAITING:
                del self.waiting[bisect_left(self.waiting, (old, i))]
                insort(self.waiting, (key, i))
            elif self.started_at[i] is None:
                entries = self.swapped if self.where[i] == SWAPPED else self.idle
                del entries[bisect_left(entries, (old, self.number[i], i))]
                insort(entries, (key, self.number[i], i))
        if moved and not self.drifts:
            self._move_decoding(moved)

    def _move_decoding(self, moved: list[int]) -> None:
        """These have other keys now."""
        keys = self.keys
        decoding = self.decoding.copy()
        for i in moved:
            decoding.remove(i)
        for i in moved:
            place = bisect_left(decoding, keys[i], key=keys.__getitem__)
            if place < len(decoding) and keys[decoding[place]] == keys[i]:
                self._sort_decoding()
                return
            decoding.insert(place, i)
        self.decoding = decoding

    def _sort_decoding(self) -> None:
        came_in = self.came_in
        in_list = [i for i in self.decoding if i not in came_in] + [i for i in self.decoding if i in came_in]
        self.decoding = sorted(in_list, key=self.keys.__getitem__)

    def _ask(self) -> None:
        """When may the priorities of what has changed next differ?"""
        for i in dict.fromkeys(self.to_ask):
            change = self.policy.next_change(self._view(i), self.now)
            if change is NEVER:
                self.changes.void(i)
                continue
            if change.while_running != "none":
                self.drifts = self.drifts or self.drift is None
                self.freely = self.freely or change.while_running == "any"
            self.changes.announce(i, change, self.started_at[i] is not None, self.step, self.now)
        self.to_ask = []

    def next_change(self) -> tuple[int, float]:
        return self.changes.next()
