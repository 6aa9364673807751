"""When requests arrive: as the trace says, from users who wait for their answers, or in sessions
whose turns do.

A source is all of the engine that knows a trace. A lone replica pulls its next arrival from it; where there
are more replicas, the simulator does, and delivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf, nan
from typing import Final

import numpy as np

from simsched.engine.arrival import Arrival, Arrivals
from simsched.workload.content import Stretch
from simsched.workload.sessions import sessions_of, waits_for
from simsched.workload.trace import FloatArray, Trace


class Source:
    """Requests in order of their arrival."""

    waits_for_answers = False
    """Do answers bring further requests? Then `finished` must be called."""

    def __init__(self) -> None:
        self.next_time = inf
        """When the next request arrives, in seconds, as far as is known; inf when there is none."""

    def pop(self) -> Arrival:
        """The request that arrives next."""
        raise NotImplementedError

    def finished(self, row: int, now: float) -> None:
        """The request in this row of the trace has its answer."""

    def arrival_times(self) -> FloatArray:
        """By row, when each request has arrived, in seconds; NaN: it never did."""
        raise NotImplementedError


MADE_AHEAD: Final = 128
"""Arrivals of an open loop that are made together, when the first of them is asked for."""


class TraceSource(Source):
    """Requests in the order of the trace, row by row.

    To make an `Arrival` of each request would cost the uncontended run a tenth of its speed. It looks at
    `prompts` and `outputs`, and moves on with `skip`.
    """

    def __init__(
        self, trace: Trace, random_ids: Sequence[int] | None = None, with_content: bool = True
    ) -> None:
        super().__init__()
        self._num_rows = len(trace)
        self.row = 0
        """The next one."""
        self.prompts: list[int] = trace.num_prompt_tokens.tolist()
        self.outputs: list[int] = trace.num_output_tokens.tolist()
        self.times: list[float] | None = None
        """When each arrives, and inf after the last, where that is known before."""
        self._arrivals = Arrivals(trace, random_ids, with_content)

    def __len__(self) -> int:
        return self._num_rows

    def arrival(self, row: int) -> Arrival:
        """The request in this row, which has arrived."""
        raise NotImplementedError

    def skip(self) -> float:
        """The next request has arrived; returns when the one after it does."""
        raise NotImplementedError

    def skip_to(self, row: int) -> None:
        """The requests before this row have arrived."""
        while self.row < row:
            self.skip()

    def pop(self) -> Arrival:
        row = self.row
        self.skip()
        return self.arrival(row)


class OpenLoop(TraceSource):
    """Requests arrive when the trace says, whatever becomes of the others."""

    def __init__(
        self, trace: Trace, random_ids: Sequence[int] | None = None, with_content: bool = True
    ) -> None:
        super().__init__(trace, random_ids, with_content)
        self._times = trace.arrival_time
        self.times = times = [*self._times.tolist(), inf]
        self._due: list[float] = times
        self._made: list[Arrival] = []  # from this row on:
        self._first_made = 0
        self.next_time = times[0]

    def skip(self) -> float:
        self.row = row = self.row + 1
        self.next_time = time = self._due[row]
        return time

    def skip_to(self, row: int) -> None:
        self.row = row
        self.next_time = self._due[row]

    def pop(self) -> Arrival:
        row, due = self.row, self._due
        self.row = row + 1
        self.next_time = due[row + 1]
        place = row - self._first_made
        return self._made[place] if 0 <= place < len(self._made) else self.arrival(row)

    def arrival(self, row: int) -> Arrival:
        place = row - self._first_made
        if place < 0:
            return self._arrivals.make(row, self._due[row])
        if place >= len(self._made):
            self._first_made, place = row, 0
            due = self._due[row : min(row + MADE_AHEAD, len(self))]
            self._made = self._arrivals.make_several(row, due)
        return self._made[place]

    def arrival_times(self) -> FloatArray:
        return self._times


class ClosedLoop(TraceSource):
    """So many users, each of whom sends its next request some time after the answer to its last one."""

    waits_for_answers = True

    def __init__(
        self, trace: Trace, random_ids: Sequence[int] | None = None, with_content: bool = True
    ) -> None:
        super().__init__(trace, random_ids, with_content)
        assert trace.closed_loop_users is not None
        self._sent: list[float] = []  # when, by row
        self._think_time = trace.think_time
        # when it sends its next request, the user's number
        self._users = [(0.0, user) for user in range(min(trace.closed_loop_users, len(self)))]
        self._user_of: dict[int, int] = {}
        self._look()

    def _look(self) -> None:
        self.next_time = self._users[0][0] if self._users and self.row < len(self) else inf

    def skip(self) -> float:
        time, self._user_of[self.row] = heappop(self._users)
        self._sent.append(time)
        self.row += 1
        self._look()
        return self.next_time

    def arrival(self, row: int) -> Arrival:
        return self._arrivals.make(row, self._sent[row])

    def finished(self, row: int, now: float) -> None:
        heappush(self._users, (now + self._think_time, self._user_of.pop(row)))
        self._look()

    def arrival_times(self) -> FloatArray:
        return np.array(self._sent)


class Sessions(Source):
    """Turns that arrive some time after the answers which they wait for; requests that wait for none arrive
    when the trace says. Those that arrive together come in the order of the trace.

    With users, so many sessions are alive: the next one starts when the last answer of another has ended,
    and what the trace says counts from there.

    An uncontended run needs no `Arrival` of a turn. It goes by `take`, `prompts`, `outputs` and `prefixes`.
    """

    waits_for_answers = True

    def __init__(
        self, trace: Trace, random_ids: Sequence[int] | None = None, with_content: bool = True
    ) -> None:
        super().__init__()
        assert trace.think_times is not None
        self._arrivals = Arrivals(trace, random_ids, with_content)
        self._think_times: list[float] = trace.think_times.tolist()
        self.prompts: list[int] = trace.num_prompt_tokens.tolist()
        self.outputs: list[int] = trace.num_output_tokens.tolist()
        self._arrived = [nan] * len(trace)
        nobody: list[int] = []
        self._followers = [nobody] * len(trace)  # by row, rows of those that wait for its answer
        awaited = waits_for(trace)
        self._num_awaited = [len(rows) for rows in awaited]  # answers that have not come, by row
        # when each arrives, and its row: in order, and so a heap
        self._due: list[tuple[float, int]] = []
        first = [(time, row) for row, time in enumerate(trace.arrival_time.tolist()) if not awaited[row]]
        for row, rows in enumerate(awaited):
            for each in rows:
                if each >= 0 and not self._followers[each]:
                    self._followers[each] = [row]
                elif each >= 0:
                    self._followers[each].append(row)
        self._session: list[int] | None = None  # by row, where users wait for sessions to end
        if trace.closed_loop_users is None:
            self._due = first
        else:
            self._session = session = sessions_of(trace).tolist()
            self._num_left = [0] * (max(session) + 1)  # rows without an answer, by session
            for each in session:
                self._num_left[each] += 1
            self._first: list[list[tuple[float, int]]] = [[] for _ in self._num_left]
            for time, row in first:
                self._first[session[row]].append((time, row))
            self._num_started = 0
            for _ in range(min(trace.closed_loop_users, len(self._num_left))):
                self._start(0.0)
        self._look()

    def _start(self, now: float) -> None:
        """The next session starts, if there is one."""
        if self._num_started < len(self._first):
            requests = self._first[self._num_started]
            self._num_started += 1
            for time, row in requests:
                heappush(self._due, (now + (time - requests[0][0]), row))

    def _look(self) -> None:
        self.next_time = self._due[0][0] if self._due else inf

    def pop(self) -> Arrival:
        return self.arrival(self.take())

    def take(self) -> int:
        """The next request arrives; returns its row."""
        due = self._due
        time, row = heappop(due)
        self._arrived[row] = time
        self.next_time = due[0][0] if due else inf
        return row

    def arrival(self, row: int) -> Arrival:
        """The request in this row, which has arrived."""
        return self._arrivals.make(row, self._arrived[row])

    def prefixes(self) -> Sequence[Sequence[Stretch]]:
        """By row, what each has in common with others: `Arrival.prefix`."""
        return self._arrivals.prefixes()

    def finished(self, row: int, now: float) -> None:
        awaited = self._num_awaited
        for follower in self._followers[row]:
            awaited[follower] -= 1
            if not awaited[follower]:
                time = now + self._think_times[follower]
                heappush(self._due, (time, follower))
                if time < self.next_time:
                    self.next_time = time
        if self._session is not None:
            session = self._session[row]
            self._num_left[session] -= 1
            if not self._num_left[session]:
                self._start(now)
                self._look()

    def arrival_times(self) -> FloatArray:
        return np.array(self._arrived)


def source_of(trace: Trace, random_ids: Sequence[int] | None = None, with_content: bool = True) -> Source:
    """The requests of a trace: from its users or sessions, where it has any, else as it says.

    Args:
        with_content: does anybody look at what their tokens are (`Arrival.content`, `Arrival.prefix`)?
    """
    if trace.think_times is not None:
        return Sessions(trace, random_ids, with_content)
    kind = OpenLoop if trace.closed_loop_users is None else ClosedLoop
    return kind(trace, random_ids, with_content)
