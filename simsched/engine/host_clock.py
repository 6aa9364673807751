"""Host and device side by side: how long steps take with asynchronous scheduling.

Each step is formed and launched while the one before it is under way, so that host and device overlap as far
as they can. For step k let launched(k) be when the host has launched all of it, F(k) when the device is done
with it, e(k) its end, when the host has its tokens and updates its state, and o(k) the output handling after
that:

    launched(k+1) = e(k-1) + max(H(k+1), o(k-1))        after idle: launched(k) + H(k+1)
    F(k)          = max(F(k-1), e(k-2) + h0(k)) + G(k)  and not before launched(k) + r, unless one CUDA graph
    e(k)          = max(F(k) + w, launched(k+1))

with H, h0 and o of `HostCost` (`launch`, `before`, `output`), r and w its `tail` and `copy`, and G the device
time on padded tokens. The engine forms step k + 2, and users have the tokens of step k, at e(k) + o(k). The
time between the ends of two steps belongs to no single batch: a long launch shows in the step before it.

All state is kept relative to the latest end, so that like steps take like times, to the last bit. While the
same requests decode on, H is constant and G grows with the context: each step takes H as long as the device
is done in time, and from some step on G, for good. `stretch` sums such a stretch as stepping does.
"""

from __future__ import annotations

from math import inf

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.host import Capture, HostCost, HostedCost
from simsched.cost_model.models import LinearCost, TableCost
from simsched.engine.clock import Clock, DeviceClock, device_time
from simsched.engine.config import ResolvedConfig
from simsched.engine.jitter import Jitter
from simsched.engine.recorder import Recorder
from simsched.engine.repeat import repeat_decodes

Launch = tuple[float, float, float, bool]
"""The host's times for a batch, in seconds: launch, until the device may begin, output; is it one graph?"""


class HostClock:
    """The recursion above."""

    def __init__(
        self,
        cost: LinearCost | TableCost,
        host: HostCost,
        capture: Capture,
        *,
        predictor_time: float = 0.0,
        seed: int = 0,
    ) -> None:
        """`cost`: the device's."""
        self.host_bound = 0.0  # seconds of steps whose end the host decided
        self._busy = 0.0  # seconds of all steps
        self._cost = cost.on_graphs(capture.sizes_of)
        self._host = host
        self._full, self._piecewise = capture.full, capture.piecewise
        self._terms = (
            host.speed,
            (host.full, host.piecewise, host.none),
            host.per_sequence,
            host.per_chunk,
            host.per_prefill_token,
            host.before_first_kernel,
            host.output_per_sequence,
        )
        self._late = host.tail
        self._copy = host.copy
        self._predictor_time = predictor_time
        self._jitter = Jitter(host.sd, seed) if host.sd else None
        self._decodes: dict[int, Launch] = {}  # by N
        self._lines: dict[int, tuple[float, ...]] = {}  # by N: what `decode` asks for
        self.counts_waiting = self._cost.per_waiting > 0
        # of the step under way, k, and the one before it, relative to e(k-1):
        self._ready = -inf  # F(k-1) + w, at most 0
        self._begin = 0.0  # when the device may begin with k, + w
        self._tail = -inf  # launched(k) + r + w, unless k is one graph
        self._output = 0.0  # o(k-1)
        self._launcher = 0.0  # when the host turns to the launch of k + 1

    def share_tables(self, other: HostClock) -> None:
        """Look up what hangs on the number of decodes alone where another clock of the same cost and engine
        does: the tables of many replicas do not stay in the processor's cache."""
        self._decodes, self._lines = other._decodes, other._lines

    @property
    def host_seconds(self) -> tuple[float, float]:
        return self.host_bound, self._busy

    def save(self) -> tuple[float, ...]:
        sums = self.host_bound, self._busy
        return *sums, self._ready, self._begin, self._tail, self._output, self._launcher

    def restore(self, saved: tuple[float, ...]) -> None:
        self.host_bound, self._busy = saved[:2]
        self._ready, self._begin, self._tail, self._output, self._launcher = saved[2:]

    def begin(self, features: StepFeatures) -> float:
        return self.begin_launch(self._launch(features))

    def begin_launch(self, made: Launch) -> float:
        """`begin` of a batch whose host times are these."""
        host, (launch, before, _, is_graph) = self._host, made
        self._ready = -inf
        self._begin = before + host.copy
        self._tail = -inf if is_graph else launch + host.tail + host.copy
        self._output = 0.0
        self._launcher = launch
        return launch

    def step(self, features: StepFeatures, ahead: StepFeatures | None) -> float:
        device = device_time(self._cost, features, self._predictor_time)
        output = self._terms[0] * (self._terms[6] * (features.N + features.S))
        return self.advance(device, output, None if ahead is None else self._launch(ahead))

    def prefill(
        self,
        tokens: int,
        N: int,
        K: int,
        pairs: float,
        waiting: int,
        chunks: int,
        new: int,
        P: int,
        next_N: int,
        S: int,
    ) -> float:
        if chunks:
            device = self._cost.time_of(tokens, N, chunks, K, pairs, waiting, new)
            device += self._predictor_time * new
            next_output = self._terms[0] * (self._terms[6] * (N + chunks))
        elif self._jitter is not None or (waiting and self.counts_waiting):
            base, slope = self._cost.decode_line(N, waiting)
            device = base + slope * K
            next_output = self._terms[0] * (self._terms[6] * N)
        else:
            line = self._lines.get(N) or self._line(N)
            device = line[0] + line[1] * K
            next_output = line[2]
        launch: Launch | None = None
        if S:
            launch = self._launch_of(P, next_N, S)
        elif next_N:
            launch = self._decodes.get(next_N) or self._launch_of(P, next_N, S)
        # `advance`, written out
        begin, ready, output, launcher = self._begin, self._ready, self._output, self._launcher
        done = (begin if begin > ready else ready) + device
        if self._tail > done:
            done = self._tail
        if launch is None:
            least = launcher if launcher > output else output
        else:
            least = launcher + (launch[0] if launch[0] > output else output)
        end = done if done > least else least
        duration = end + (next_output - output)
        self._busy += duration
        if least > done:
            self.host_bound += duration
        self._ready = done - end
        if launch is not None:
            self._begin = launcher + launch[1] + self._copy - end
            self._tail = -inf if launch[3] else least + self._late + self._copy - end
        self._output = next_output
        self._launcher = 0.0
        return duration

    def advance(self, device: float, next_output: float, launch: Launch | None) -> float:
        """`step`, with the device's time and the host's for the output, and for the next launch (None: there
        is none)."""
        begin, ready, output, launcher = self._begin, self._ready, self._output, self._launcher
        done = (begin if begin > ready else ready) + device
        if self._tail > done:
            done = self._tail
        least = launcher if launcher > output else output
        if launch is not None:
            least = launcher + (launch[0] if launch[0] > output else output)
        end = done if done > least else least
        duration = end + (next_output - output)
        self._busy += duration
        if least > done:
            self.host_bound += duration
        self._ready = done - end
        if launch is not None:
            self._begin = launcher + launch[1] + self._copy - end
            self._tail = -inf if launch[3] else least + self._late + self._copy - end
        self._output = next_output
        self._launcher = 0.0
        return duration

    def draws(self, N: int) -> bool:
        return self._jitter is not None and self._full < N

    def decode(self, N: int, K: int, waiting: int, following: int) -> float:
        if self._jitter is not None or self._launcher:
            ahead = StepFeatures(N=following) if following else None
            return self.step(StepFeatures(N=N, K=K, num_waiting=waiting), ahead)
        line = self._lines.get(N) or self._line(N)
        base, slope, next_output = line[0], line[1], line[2]
        if waiting and self.counts_waiting:
            base, slope = self._cost.decode_line(N, waiting)
        begin, ready, output = self._begin, self._ready, self._output
        done = (begin if begin > ready else ready) + (base + slope * K)
        if self._tail > done:
            done = self._tail
        least = output
        if following:
            if following != N:
                line = self._lines.get(following) or self._line(following)
            if line[3] > least:
                least = line[3]
        end = done if done > least else least
        duration = end + (next_output - output)
        self._busy += duration
        if least > done:
            self.host_bound += duration
        self._ready = done - end
        if following:
            self._begin = line[4] - end
            self._tail = least + self._host.tail + self._host.copy - end if line[5] else -inf
        self._output = next_output
        return duration

    def _line(self, N: int) -> tuple[float, ...]:
        """Of N decodes: base, slope, output, launch, before + w, and whether they are no graph."""
        launch, before, output, is_graph = self._launch_of(0, N, 0)
        base, slope = self._cost.decode_line(N, 0)
        line = base, slope, output, launch, before + self._host.copy, not is_graph
        self._lines[N] = line
        return line

    def stretch(
        self,
        now: float,
        N: int,
        K: int,
        waiting: int,
        most: int,
        until: float,
        step_ends: list[float] | None,
        recorder: Recorder,
    ) -> tuple[float, int]:
        if self._jitter is not None and self._full < N:  # `draws`
            return self._one_by_one(now, N, K, waiting, most, until, step_ends, recorder)
        base, slope, next_output, launch, before, no_graph = self._lines.get(N) or self._line(N)
        steady = launch if launch > next_output else next_output
        if no_graph or self._launcher or before > steady:
            return self._one_by_one(now, N, K, waiting, most, until, step_ends, recorder)
        if waiting and self.counts_waiting:
            base, slope = self._cost.decode_line(N, waiting)
        begin, ready, tail, output = self._begin, self._ready, self._tail, self._output
        start, bound, steps = now, self.host_bound, 0
        while True:
            first = base + slope * K
            if first >= steady and ready == 0.0 and begin <= 0.0 and output == next_output and tail <= first:
                # The device decides, and so it will: each step is longer than the one before.
                now += first
                if step_ends is not None:
                    step_ends.append(now)
                last, more = first, 1
                if steps + 1 < most and now < until:
                    now, more, last = repeat_decodes(now, base, slope, K, N, most - steps, until, step_ends)
                recorder.steps(first, last, more, N)
                begin, tail = before - last, -inf
                steps += more
                break
            # A step by itself, as after a prefill or another number of decodes.
            done = (begin if begin > ready else ready) + first
            if tail > done:
                done = tail
            least = launch if launch > output else output
            end = done if done > least else least
            duration = end + (next_output - output)
            if least > done:
                bound += duration
            ready = done - end
            begin = before - end
            tail = -inf
            output = next_output
            now += duration
            steps += 1
            recorder.step(duration, N)
            if step_ends is not None:
                step_ends.append(now)
            if steps >= most or now >= until:
                break
            K += N
            if ready == 0.0:
                continue
            # The host decides, until the device has fallen back by what it was ahead.
            more = 0
            while steps < most and now < until:
                done = (begin if begin > ready else ready) + (base + slope * K)
                if done >= steady:
                    break
                ready = done - steady
                begin = before - steady
                now += steady
                bound += steady
                steps += 1
                more += 1
                K += N
                if step_ends is not None:
                    step_ends.append(now)
            if more:
                recorder.steps(steady, steady, more, N)
            if steps >= most or now >= until:
                break
        self._busy += now - start
        self._begin, self._ready, self._tail, self._output = begin, ready, tail, output
        self.host_bound = bound
        return now, steps

    def _one_by_one(
        self,
        now: float,
        N: int,
        K: int,
        waiting: int,
        most: int,
        until: float,
        step_ends: list[float] | None,
        recorder: Recorder,
    ) -> tuple[float, int]:
        """`stretch` where nothing repeats: launches differ, or the device waits for each of them."""
        steps = 0
        while True:
            duration = self.decode(N, K, waiting, N)
            now += duration
            steps += 1
            K += N
            recorder.step(duration, N)
            if step_ends is not None:
                step_ends.append(now)
            if steps >= most or now >= until:
                return now, steps

    def _launch(self, features: StepFeatures) -> Launch:
        if not features.S and (known := self._decodes.get(features.N)) is not None:
            return known
        return self._launch_of(features.P, features.N, features.S)

    def _launch_of(self, P: int, N: int, S: int) -> Launch:
        if not S and (known := self._decodes.get(N)) is not None:
            return known
        # `HostCost.launch`, `before` and `output`, and `Capture.mode`, written out: every prefill comes here
        speed, bases, per_sequence, per_chunk, per_prefill_token, (first, share), per_output = self._terms
        is_graph = P == S and self._full >= P + N
        base = bases[0 if is_graph else 1 if self._piecewise >= P + N else 2]
        launch = speed * (base + per_sequence * N + per_chunk * S + per_prefill_token * P)
        before = speed * (first + share * (per_sequence * N + per_chunk * S))
        if before > launch:
            before = launch
        if self._jitter is not None and not is_graph:
            launch *= self._jitter.factor()
            if before > launch:
                before = launch
        made = launch, before, speed * (per_output * (N + S)), is_graph
        if not S and (self._jitter is None or is_graph):
            self._decodes[N] = made
        return made


def make_clock(
    cost: CostModel | HostedCost, config: ResolvedConfig, predictor_time: float = 0.0, seed: int = 0
) -> Clock:
    """The clock of an engine with asynchronous scheduling; `seed`: of the host's jitter."""
    if not isinstance(cost, HostedCost):
        return DeviceClock(cost, predictor_time)
    capture = cost.graphs.capture(config.max_num_seqs, config.max_num_batched_tokens)
    return HostClock(cost.device, cost.host, capture, predictor_time=predictor_time, seed=seed)
