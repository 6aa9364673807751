"""A step of the leaping engine in which KV blocks or tokens run short: rules 3 to 8, request by request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simsched.engine.leap_view import DECODING, PARTIAL, WAITING

if TYPE_CHECKING:
    from simsched.engine.vllm_v1_leap import VllmV1Leap


def walk(engine: VllmV1Leap, now: float, threshold: int) -> int:
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
        index = running[place]
        if engine.where[index] == DECODING:
            computed, n = engine.offset[index] + engine.steps - 1, 1
        else:
            computed = engine.computed[index]
            n = min(engine.known[index] - computed, threshold, budget)
        blocks = -(-(computed + n) // size) - -(-computed // size)
        while blocks > engine.free:
            preempted = True
            victim = order.victim(running)
            at = running.index(victim)
            place -= at < place
            del running[at]
            scheduled = tokens.pop(victim, 0)
            budget += scheduled
            engine.preempt([victim], now, scheduled)
            order.requeue(victim, now)
            engine.num_waiting += 1
            if victim == index:
                break
        if engine.where[index] == WAITING:
            break
        engine.take(blocks)
        if engine.where[index] == PARTIAL:
            engine.filled(index, computed + n)
        tokens[index] = n
        budget -= n
        place += 1
    for index in running:
        if engine.where[index] == DECODING:
            if index not in tokens:
                engine.recorder.pause(index, now)
                engine.stop_decoding(index)
                engine.partials[index] = None
        elif index in tokens:
            engine.chunks.append((index, tokens[index]))
    return 0 if preempted else budget
