"""The easy stretches of a run: nobody waits, and there is room for whoever arrives.

Then a step holds all decoders and the whole prompts of the latest arrivals, whatever the policy. This is
`VllmV1Leap` written out for that case, in one loop over local variables; it stops where the case ends.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

import simpy
from simpy.events import Timeout

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.engine.vllm_v1.leaping_request import LeapRequest

if TYPE_CHECKING:
    from simsched.engine.simulator import Arrivals, Leap
    from simsched.engine.vllm_v1.leaping import VllmV1Leap


def coast(
    engine: VllmV1Leap,
    environment: simpy.Environment,
    arrivals: Arrivals,
    cost: CostModel,
    predictor_time: float,
    leap: Leap,
    now: float,
) -> Generator[simpy.Event, None, float]:
    """Simulate from `now` on, between two steps, while `engine.calm()` lasts; returns the time it ended."""
    recorder, order, own, step_ends = engine.recorder, engine.order, engine.own, engine.step_ends
    begin, finish, record_steps = recorder.begin, recorder.finish, recorder.steps
    prompt, total = engine.prompt, engine.total
    running, ends, phases, size = engine.running, engine.ends, engine.phases, engine.block_size
    offsets = {who: request.offset for who, request in running.items()}  # all that need be known here
    longest = engine.long_prefill or engine.max_tokens
    step_time, decode_line = cost.step_time, cost.decode_line
    steps, N, K, free = engine.steps, engine.num_decoders, engine.context, engine.free
    times, index = arrivals.times, arrivals.index
    count = len(times)
    arrival = times[index] if index < count else inf
    while True:
        first_new = index
        start, before = now, steps
        if arrival <= now:
            tokens, blocks, pairs, fits = 0, phases[steps % size], 0, True
            while arrival <= now:
                length = prompt[index]
                tokens += length
                blocks -= -length // size
                pairs += length * length
                fits = fits and length <= longest
                index += 1
                arrival = times[index] if index < count else inf
            new = index - first_new
            if (
                not fits
                or tokens + N > engine.max_tokens
                or N + new > engine.max_running
                or blocks + engine.watermark > free
            ):
                index = first_new
                break
            if own is not None:
                for who in range(first_new, index):
                    running[who] = own.arrived_in_calm(who, now)
            features = StepFeatures(tokens, N, new, K, pairs / 2, 0, 0, new)
            last = step_time(features) + predictor_time * new
            free -= blocks
            now += last
            steps += 1
            if step_ends is not None:
                step_ends.append(now)
            record_steps(last, last, 1, N)
        elif N:
            while True:
                end, who = divmod(ends[0], count)
                if offsets.get(who) == total[who] - end:
                    break
                heappop(ends)
            most = end - steps
            if free < N * (most // size + 1):
                break
            base, slope = decode_line(N, 0)
            first = last = base + slope * K
            now += first
            if step_ends is not None:
                step_ends.append(now)
            done = 1
            if most > 1 and now < arrival:
                now, done, last = leap(now, base, slope, K, N, most, arrival)
            phase = steps % size
            if phase + done <= size:
                free -= sum(phases[phase : phase + done])
            else:
                free -= engine.blocks_for(steps, done)
            steps += done
            record_steps(first, last, done, N)
            yield Timeout(environment, now - environment.now)
        elif arrival < inf:
            now = arrival
            yield Timeout(environment, max(0.0, now - environment.now))
            continue
        else:
            break
        K += N * (steps - before)
        engine.steps = engine.done = steps
        engine.time = now
        later = count * (steps + 1)
        while ends and ends[0] < later:
            end, who = divmod(heappop(ends), count)
            length = total[who]
            if offsets.get(who) == length - end:
                del offsets[who]
                phases[(end - length + 1) % size] -= 1
                N -= 1
                K -= length
                free -= -(length - 1) // size
                finish(who, now)
                request = running.pop(who, None)
                if own is not None and request is not None:
                    own.finished(request, now)
        admitted: Sequence[int] = range(first_new, index)
        if index - first_new > 1:
            admitted = order.as_admitted(admitted)
        for who in admitted:
            length = prompt[who] + 1
            begin(who, start, now)
            if own is not None:
                began = running[who]
                began.decode(length - steps)
                own.began(began, before, start, now)
            if length < total[who]:
                offsets[who] = length - steps
                phases[(steps - length + 1) % size] += 1
                N += 1
                K += length
                heappush(ends, count * (total[who] - length + steps) + who)
            else:
                free -= -(length - 1) // size
                finish(who, now)
                if own is not None:
                    own.finished(running.pop(who), now)
        if step_ends is not None and len(step_ends) > engine.keep:
            engine.forget()
    for who, offset in offsets.items():
        if who not in running:
            request = running[who] = LeapRequest(who, prompt[who])
            request.decode(offset)
    engine.num_decoders, engine.context, engine.free = N, K, free
    arrivals.skip_to(index)
    return now
