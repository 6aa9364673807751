"""A step of the leaping engine in which KV blocks or tokens run short: *running first*, request by
request, and *victims*."""

from __future__ import annotations

from simsched.engine.request_status import DECODING, ENDING, RESIDENT, WAITING
from simsched.engine.vllm_v1.state import LeapingState


def schedule_under_pressure(engine: LeapingState, now: float, threshold: int) -> int:
    """Give each running request its tokens, or preempt it; returns what is left for those who wait.

    Args:
        threshold: the most tokens that a request may have in this step.
    """
    size, order = engine.block_size, engine.order
    running = order.running(now)
    budget = engine.max_tokens
    preempted = False
    tokens: dict[int, int] = {}
    place = 0
    while place < len(running) and budget > 0:
        request = running[place]
        if request.where == ENDING:
            place += 1
            continue
        if request.where == DECODING:
            computed, n = request.offset + engine.clock.formed - 1, 1
        else:
            computed = request.computed
            n = min(request.known - computed, threshold, budget)
        blocks = -(-(computed + n) // size) - -(-computed // size)
        while blocks > engine.free:
            preempted = True
            victim = order.victim(running, place)
            at = running.index(victim)
            place -= at < place
            del running[at]
            scheduled = tokens.pop(victim.number, 0)
            budget += scheduled
            engine.preempt([victim], now, scheduled)
            order.requeue(victim, now)
            engine.num_waiting += 1
            if victim is request:
                break
        if request.where == WAITING:  # it has preempted itself
            if engine.walk_survives_self_preemption:
                continue
            break
        engine.allocate(blocks)
        if request.where == RESIDENT or engine.fills_answers:
            engine.mark_cached(request, computed + n)
        tokens[request.number] = n
        budget -= n
        place += 1
    for request in running:
        number = request.number
        if request.where == DECODING:
            if number not in tokens:
                engine.leave_out(request, now)
        elif number in tokens:
            engine.irregular.append((request, tokens[number]))
    return 0 if preempted else budget
