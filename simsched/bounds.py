"""Lower bounds on mean latency that no policy can beat on a given trace; derived in docs/bounds.md.

A step's time is shared out among the requests in its batch, so that no step gives more than it lasts. What
a request needs at the least is then its work on one preemptive machine of unit speed, and the engine can
do no better than that machine: shortest remaining work first for the mean latency (SRPT), and the
mean-busy-time bound for a weighted mean. Both are combined with the time that a request takes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.models import LinearCost, TableCost
from simsched.engine.config import ResolvedConfig, find_preset
from simsched.workload.content import shared_with_any
from simsched.workload.trace import FloatArray, IntArray, Trace

_TOKENS_AT_ONCE = 1 << 21  # output tokens looked at together: bounds the memory


class Line(NamedTuple):
    """A step takes at least `fixed + decode * N + chunk * S + prefill * P + c * K + d * Q` seconds."""

    fixed: float
    decode: float
    chunk: float
    prefill: float


def lower_bounds(
    trace: Trace, cost: LinearCost | TableCost, config: ResolvedConfig, *, shared: IntArray | None = None
) -> dict[str, float]:
    """Least possible means over all requests of a trace, whatever the policy: metric name -> milliseconds.

    Args:
        trace: n requests; arrivals are taken as given, so closed loops and sessions
            have no bounds (an empty dict).
        cost: linear or table form.
        config: the engine.
        shared: (n,) prompt tokens that may come from the prefix cache; None: what can be shared.

    Returns:
        `mean_e2el_ms` and `mean_latency_per_token_ms`.
    """
    if trace.closed_loop_users is not None or trace.think_times is not None or not len(trace):
        return {}
    if shared is None:
        shared = (
            shared_with_any(trace) if config.enable_prefix_caching else np.zeros(len(trace), dtype=np.int64)
        )
    needs = _Needs(trace, config, shared)
    lines = step_lines(cost, config)
    line, shares = max(
        ((line, shares) for line in lines for shares in needs.fixed_shares),
        key=lambda choice: needs.total_work(*choice),
    )
    work, tail, alone = needs.work_tail_alone(cost, lines, line, shares)
    arrival = trace.arrival_time
    outputs = trace.num_output_tokens
    ones, per_token = np.ones(len(trace)), 1.0 / outputs
    latency = max(
        float(alone.mean()),
        float((srpt_completion(arrival, work) - arrival).mean()),
        float((mean_busy_time(arrival, work, ones) + tail - arrival).mean()),
    )
    weighted = max(
        float((alone * per_token).mean()),
        float(((mean_busy_time(arrival, work, per_token) + tail - arrival) * per_token).mean()),
    )
    return {"mean_e2el_ms": latency * 1e3, "mean_latency_per_token_ms": weighted * 1e3}


def step_lines(cost: LinearCost | TableCost, config: ResolvedConfig) -> list[Line]:
    """Lines below the cost of every step that the engine can form; the steeper, the better for large ones."""
    if isinstance(cost, LinearCost):
        lines = [Line(cost.t0, cost.b + cost.h, cost.h, cost.a)]
        return [*lines, Line(cost.floor, cost.h, cost.h, 0.0)] if cost.floor > cost.t0 else lines
    limit, last_slope = config.token_budget, np.inf
    if not find_preset(config.preset).keeps_token_budget:
        # every size of a step counts, and the slope that goes on for ever
        limit = max(limit, cost.knots[-1])
        last_slope = (cost.g[-1] - cost.g[-2]) / (cost.knots[-1] - cost.knots[-2])
    tokens = np.arange(1, limit + 1)
    seconds = np.array([cost.step_time(StepFeatures(P=size)) for size in tokens.tolist()])
    average = seconds / tokens
    edges = [(0.0, float(average.min()))]  # through the origin: all of a step is priced by the token
    hull: list[int] = []
    for i in range(limit):
        while len(hull) > 1 and _above(tokens, seconds, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    edges.append((float(seconds.min()), 0.0))
    for i, j in pairwise(hull):
        slope = float((seconds[j] - seconds[i]) / (tokens[j] - tokens[i]))
        edges.append((float(seconds[i] - slope * tokens[i]), slope))
    return [
        Line(fixed, slope + cost.h, cost.h, slope)
        for fixed, slope in edges
        if fixed >= 0 and 0 <= slope <= last_slope
    ]


def _above(x: IntArray, y: FloatArray, i: int, j: int, k: int) -> bool:
    """Is point j on or above the line from i to k?"""
    return bool((y[j] - y[i]) * (x[k] - x[i]) >= (y[k] - y[i]) * (x[j] - x[i]))


@dataclass(frozen=True)
class _Shares:
    """How a step's fixed time is shared out: each request pays for the part of a resource that it takes."""

    slot: float = 0.0
    """Per sequence in the batch, of `max_running`."""
    block: float = 0.0
    """Per KV block held, of all usable blocks."""


class _Needs:
    """What each of n requests needs at the least, whatever the policy."""

    def __init__(self, trace: Trace, config: ResolvedConfig, shared: IntArray) -> None:
        block, preset = config.block_size, find_preset(config.preset)
        self.config = config
        self.prompt = trace.num_prompt_tokens
        self.decodes = trace.num_output_tokens - 1
        # at least one token is always computed
        self.hit = np.minimum(shared, self.prompt - 1) // block * block
        self.computed = self.prompt - self.hit
        self.pairs = (self.prompt.astype(float) ** 2 - self.hit.astype(float) ** 2) / 2
        self.chunks = np.ones_like(self.prompt)  # over the budget, all may be computed in one step
        if preset.keeps_token_budget:
            self.chunks = -(-self.computed // config.token_budget)
        self.shared_blocks = shared // block
        usable = config.num_gpu_blocks - preset.null_blocks
        self.fixed_shares = (_Shares(slot=1 / config.max_running), _Shares(block=1 / usable))

    def total_work(self, line: Line, shares: _Shares) -> float:
        """Seconds, summed over requests, but for the attention terms that no choice changes."""
        decodes, prompt = self.decodes.astype(float), self.prompt.astype(float)
        held = decodes * prompt + decodes * (decodes + 1) / 2 + prompt  # tokens, summed over steps
        held = held / self.config.block_size - (decodes + 1) * self.shared_blocks
        fixed = shares.slot * (decodes + self.chunks) + shares.block * held
        work = line.fixed * fixed + line.decode * decodes + line.chunk * self.chunks
        return float((work + line.prefill * self.computed).sum())

    def work_tail_alone(
        self, cost: LinearCost | TableCost, lines: list[Line], line: Line, shares: _Shares
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(n,) each, in seconds: least work; least mean distance from doing it to the end; least latency."""
        # the prompt
        blocks = -(-self.prompt // self.config.block_size) - self.shared_blocks
        by_token = line.prefill * self.computed
        prefill = by_token + cost.d * self.pairs + line.chunk * self.chunks
        prefill += line.fixed * (shares.slot * self.chunks + shares.block * blocks)
        once = np.max([each.fixed + each.chunk + each.prefill * self.computed for each in lines], axis=0)
        alone = np.max(
            [(each.fixed + each.chunk) * self.chunks + each.prefill * self.computed for each in lines], axis=0
        )
        alone = alone + cost.d * self.pairs
        # the other tokens, request by request in slices of bounded size
        decode_work, decode_time, decode_moment = (np.zeros(len(self.prompt)) for _ in range(3))
        ends = np.cumsum(self.decodes)
        start = 0
        while start < len(ends):
            before = ends[start] - self.decodes[start]
            stop = max(start + 1, int(np.searchsorted(ends, before + _TOKENS_AT_ONCE, side="right")))
            part = slice(start, stop)
            decode_work[part], decode_time[part], decode_moment[part] = self._decode(
                part, cost, lines, line, shares
            )
            start = stop
        work = prefill + decode_work
        # each second of work is done at the middle of a step at the earliest, and the rest takes its time
        moment = decode_moment + prefill * decode_time + by_token * once / 2
        tail = np.divide(moment, work, out=np.zeros_like(work), where=work > 0)
        return work, tail, alone + decode_time

    def _decode(
        self, part: slice, cost: LinearCost | TableCost, lines: list[Line], line: Line, shares: _Shares
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of each request: work, time alone, and sum over tokens of work times least time to the end."""
        decodes = self.decodes[part]
        owner = np.repeat(np.arange(len(decodes)), decodes)
        first = np.cumsum(decodes) - decodes
        ordinal = np.arange(len(owner)) - first[owner]  # 0 for the second token
        known = self.prompt[part][owner] + ordinal + 1  # tokens, as the step begins
        block = self.config.block_size
        # a token comes from a decode, or from recomputing what a preemption has dropped
        again = known - (known - 1) // block * block if self.config.enable_prefix_caching else known
        again = np.maximum(again, 2)
        attention = cost.d * again * (known - again / 2)
        # the fork's sampler copies at least the context, whatever it pads
        context = cost.c + cost.per_padded
        work = np.minimum(line.decode + context * known, line.prefill * again + attention)
        blocks = -(-known // block) - self.shared_blocks[part][owner]
        work += line.fixed * (shares.slot + shares.block * blocks)
        base = max(each.fixed + each.decode for each in lines)
        # one chunk of 0, 1, 2, ... tokens
        sizes = np.arange(int(again.max(initial=0)) + 1)
        chunk = np.max([each.fixed + each.chunk + each.prefill * sizes for each in lines], axis=0)
        time = np.minimum(base + context * known, chunk[again] + attention)

        def per_request(values: FloatArray) -> FloatArray:
            sums: FloatArray = np.bincount(owner, weights=values, minlength=len(decodes)).astype(float)
            return sums

        total_time = per_request(time)
        # seconds alone from the middle of this step to the end of the last one
        elapsed = np.cumsum(time)
        started = np.concatenate([[0.0], elapsed])[first]
        to_end = total_time[owner] - (elapsed - started[owner]) + time / 2
        return per_request(work), total_time, per_request(work * to_end)


def srpt_completion(arrival: FloatArray, work: FloatArray) -> FloatArray:
    """(n,) completion times under shortest remaining work first, one preemptive machine of unit speed.

    Args:
        arrival: (n,) seconds, never decreasing.
        work: (n,) seconds.
    """
    completion = np.empty(len(arrival))
    heap: list[tuple[float, int]] = []
    now = 0.0
    times = arrival.tolist()
    works = work.tolist()
    for i in range(len(times) + 1):
        until = times[i] if i < len(times) else np.inf
        while heap and now < until:
            left, j = heappop(heap)
            if now + left <= until:
                now += left
                completion[j] = now
            else:
                heappush(heap, (left - (until - now), j))
                now = until
        if i < len(times):
            now = max(now, until)
            heappush(heap, (works[i], i))
    return completion


def mean_busy_time(arrival: FloatArray, work: FloatArray, weight: FloatArray) -> FloatArray:
    """(n,) mean times at which each job is worked on, where the largest weight / work goes first.

    No preemptive schedule of one machine has a smaller weighted sum of mean busy times (Goemans, 1997).
    Arguments as for `srpt_completion`; `weight` (n,) is positive.
    """
    moment = np.zeros(len(arrival))  # integral of t over the time in which the job is worked on
    heap: list[tuple[float, int]] = []
    now = 0.0
    times, left = arrival.tolist(), work.tolist()
    keys = np.divide(work, weight).tolist()
    for i in range(len(times) + 1):
        until = times[i] if i < len(times) else np.inf
        while heap and now < until:
            j = heap[0][1]
            end = min(now + left[j], until)
            moment[j] += (end - now) * (end + now) / 2
            if now + left[j] <= until:
                heappop(heap)
            else:
                left[j] -= end - now
            now = end
        if i < len(times):
            now = max(now, until)
            heappush(heap, (keys[i], i))
    mean: FloatArray = np.divide(moment, work, out=arrival.astype(float), where=work > 0)
    return mean
