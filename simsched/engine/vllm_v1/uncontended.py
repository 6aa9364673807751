"""The uncontended run: nobody waits, and there is room for whoever arrives.

Then a step holds all decoding requests and the whole prompts of the latest arrivals, whatever the policy.
(Under vLLM's `fcfs` prompts may also take several steps: `backlog.py`.) This is `VllmV1Leap` written out for
that case, in one loop over local variables, until the case ends. For a lone replica it is one event.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Final

import simpy

from simsched.cost_model.base import StepFeatures, make_features
from simsched.engine.agenda import NO_LIMIT
from simsched.engine.repeat import repeat_decodes
from simsched.engine.serial import SerialReplica
from simsched.engine.vllm_v1.arriving import Arriving, make_running
from simsched.engine.vllm_v1.backlog import Backlog
from simsched.engine.vllm_v1.leaping_decisions import DecidingOrder
from simsched.engine.vllm_v1.leaping_request import MANY, LeapRequest
from simsched.engine.vllm_v1.policy_order import PolicyOrder
from simsched.engine.vllm_v1.prefixes import Prefixes, in_batch_order
from simsched.engine.vllm_v1.state import LeapingState

NOBODY: Final = ()


def run_uncontended(
    engine: LeapingState,
    policy_order: PolicyOrder | None,
    replica: SerialReplica,
    now: float,
    prefixes: Prefixes | None = None,
    decider: DecidingOrder | None = None,
) -> Generator[simpy.Event, None, float]:
    """Simulate from `now` on, between two steps, while the run is uncontended; returns the time it ended.

    Args:
        policy_order: the order of the requests, if it is a policy's.
        prefixes: where prompts share them; then there is no `policy_order`.
        decider: the same order, if the policy decides more. It is asked about whoever arrives, as
            `schedule` does; where it does not let all in with their whole prompts, this ends there.
    """
    event_loop, source, alone = replica.event_loop, replica.source, replica.is_alone
    cost, predictor_time = replica.cost, replica.predictor_time
    recorder, order, clock = engine.recorder, engine.order, engine.clock
    step_ends = clock.ends
    begin, finish, record_steps = recorder.begin, recorder.finish, recorder.steps
    total, max_model_len = engine.total, engine.max_model_len
    arriving = Arriving(source, len(total))
    rows, times, take, came = arriving.rows, arriving.times, arriving.take, arriving.came
    # lengths, by number less `numbered`
    prompts, outputs, numbered = arriving.prompts, arriving.outputs, arriving.numbered
    reports = source.waits_for_answers
    # who hears of each request as it comes; all others are made at the end, of those that still run
    hearer = policy_order if policy_order is not None and policy_order.hears_of_all else None
    running, ends, growth, size = engine.running, engine.ends, engine.growth_by_residue, engine.block_size
    offsets = {who: request.offset for who, request in running.items()}  # all that need be known here
    # (a decider says itself how many tokens a step and a request in it may have)
    max_tokens = engine.max_tokens if decider is None else decider.view.max_num_batched_tokens
    longest = engine.long_prefill or max_tokens if decider is None else max_tokens
    step_time, decode_line, tells_host = cost.step_time, cost.decode_line, replica.tells_host
    steps, N, K, free = clock.formed, engine.num_decoding, engine.decode_context, engine.free
    upto = len(total)  # the number of who arrives next
    # may a step of prefills be taken to be over before it is, if at its end there is nothing to tell?
    # (blocks of a prefix cache can't be given back)
    may_go_on = not alone and hearer is None and prefixes is None and recorder.first_tokens is None
    early = False  # so it has been, and its end is `now`
    backlog = None
    if policy_order is None and order.serves_by_arrival and engine.chunked and not engine.long_prefill:
        backlog = Backlog(engine, prefixes, arriving)
    head = upto  # whose prompt is the first that is not computed; `upto` if all are
    part = 0  # 1 if it is computed in part, so that its request runs
    # those who have arrived, as a decider lets them in, and when it is to be told of changes
    let_in: list[LeapRequest] = []
    due_step, due_time = (NO_LIMIT, inf) if decider is None else decider.limit()
    while True:
        start, before, first_new = now, steps, upto
        if prefixes is not None and prefixes.watched:
            break
        arrival_time = source.next_time if times is None else times[upto]
        first_done = head
        if arrival_time <= now or head < upto:
            # First, the prompts of those that have arrived, with one token of everybody else.
            tokens, blocks, pairs, fits = 0, growth[steps % size], 0, True
            early = may_go_on
            while arrival_time <= now:
                if rows is None:
                    take()
                place = upto - numbered
                length = prompts[place]
                whole = length + outputs[place]
                if whole > max_model_len:
                    whole = max_model_len
                total.append(whole)
                if whole <= length + 1:
                    early = False
                tokens += length
                blocks -= -length // size
                pairs += length * length
                if length > longest:
                    fits = False
                upto += 1
                if times is not None:
                    arrival_time = times[upto]
                else:
                    arrival_time = source.next_time if rows is None else rows.skip()
            count = upto - first_new
            waiting = 0
            if head < first_new or N + count > engine.max_running:
                fits = False
            elif prefixes is None:
                fits = fits and tokens + N <= max_tokens and blocks + engine.watermark <= free
            else:
                room, grown = max_tokens - N, growth[steps % size]
                if count == 1:
                    prefix = arriving.prefix(first_new)
                    taken = prefixes.admit_one(first_new, length, prefix, grown, room, free)
                else:
                    lengths = prompts[first_new - numbered : upto - numbered]
                    taken = prefixes.admit(first_new, lengths, arriving, grown, room, free)
                fits = taken is not None
                if taken is not None:
                    tokens, blocks, pairs = taken
            if fits:
                head = upto
            else:
                early = False
                if backlog is None:
                    break
                backlog.head = head
                chunks = backlog.form(first_new, upto, N, N, growth[steps % size], free, now)
                if chunks is None:
                    break
                tokens, pairs, blocks, waiting, served = chunks
                head, count = backlog.head, len(served)
            if rows is None and upto > first_new:
                replica.note_rows(came[first_new - numbered :])
            if decider is not None:
                engine.num_decoding, engine.decode_context, engine.free = N, K, free
                lets_in = decider.take_in(first_new, arriving.since(first_new, upto), now)
                if not lets_in or tokens + N > engine.max_tokens:
                    first_new = upto  # they are in its queue
                    break
                let_in = decider.take_out()
            elif hearer is not None:
                for who in range(first_new, upto):
                    arrival = arriving.arrival(who)
                    running[who] = hearer.request(who, arrival, now)
                hearer.step_begins(now)
            if replica.tells_counts:
                engine.free = free
                replica.tell_counts(start, N + part)
            seen = upto - first_new
            of_step = tokens, N, count, K, pairs / 2, waiting, 0, seen, 0, 0, 0
            features = make_features(StepFeatures, of_step)
            last = step_time(features) + predictor_time * seen
            free -= blocks
            now += last
            steps += 1
            if step_ends is not None:
                step_ends.append(now)
            if ends and ends[0] < MANY * (steps + 1):
                early = False
            if not (alone or early):
                yield event_loop.at(now)
            recorder.step(last, N)
            part = 0 if backlog is None else backlog.num_running
            if tells_host:
                replica.account(features, 1, last)
        elif N:
            # Nobody is new: leap until somebody is done or arrives, or the blocks might run short.
            if (due_step <= steps or due_time <= now) and decider is not None:
                decider.prepare(now)
                due_step, due_time = decider.limit()
            while True:
                end, who = divmod(ends[0], MANY)
                if offsets.get(who) == total[who] - end:
                    break
                heappop(ends)
            most = end - steps
            if free < N * (most // size + 1):
                break
            if hearer is not None:
                hearer.step_begins(now)
            if due_step - steps < most:
                most = max(1, due_step - steps)
            base, slope = decode_line(N, 0)
            first = last = base + slope * K
            now += first
            if step_ends is not None:
                step_ends.append(now)
            done = 1
            if alone:
                until = arrival_time if arrival_time < due_time else due_time
                if most > 1 and now < until:
                    now, done, last = repeat_decodes(now, base, slope, K, N, most, until, step_ends)
            elif most > 1 or early:
                begins = start if early else -inf
                now, done, last = yield from replica.keep_promise(
                    now, base, slope, K, N, most, due_time, begins
                )
                early = False
                if not done:
                    # Somebody has been delivered in the step before, and now that is over.
                    if step_ends is not None:
                        step_ends.pop()
                    if (pause := replica.settle(now, N)) is not None:
                        yield pause
                    continue
            else:
                yield event_loop.at(now)
            residue = steps % size
            if residue + done <= size:
                grown = sum(growth[residue : residue + done])
            else:
                grown = engine.blocks_for(steps, done)
            free -= grown
            if prefixes is not None:
                prefixes.owed += grown
            steps += done
            record_steps(first, last, done, N)
            if tells_host:
                replica.account(StepFeatures(N=N), done, now - start)
        elif alone and arrival_time < inf:
            now = arrival_time
            continue
        else:
            break
        K += N * (steps - before)
        clock.formed = clock.done = steps
        clock.time = now
        finished: list[int] = []
        leaving: list[int] = []  # with prefixes: in the order of the batch
        later = MANY * (steps + 1)
        while ends and ends[0] < later:
            end, who = divmod(heappop(ends), MANY)
            length = total[who]
            if offsets.get(who) == length - end:
                del offsets[who]
                growth[(end - length + 1) % size] -= 1
                N -= 1
                K -= length
                finish(who, now)
                if reports:
                    finished.append(who)
                if prefixes is not None:
                    leaving.append(who)
                    continue
                free -= -(length - 1) // size
                request = running.pop(who, None)
                if policy_order is not None and request is not None:
                    policy_order.finished(request, now)
        if prefixes is not None and leaving:
            for who in leaving if len(leaving) == 1 else in_batch_order(leaving, running):
                free += prefixes.leave(who, total[who] - 1)
                running.pop(who, None)
        admitted: Sequence[int] = NOBODY
        if head > first_done:
            admitted = range(first_done, head)
            if order.admits_in_order and head - first_done > 1:
                those = arriving.since(first_new, upto)
                admitted = [who for who, _ in order.as_admitted(list(enumerate(those, first_new)))]
        if decider is not None:
            engine.step_start = start
            admitted = [request.number for request in let_in]
        for who in admitted:
            length = prompts[who - numbered] + 1
            begin(who, start, now)
            if hearer is not None:
                began = running[who]
                began.decode(length - steps)
                if decider is None:
                    hearer.began_uncontended(began, before, start, now)
            if length < total[who]:
                offsets[who] = length - steps
                growth[(steps - length + 1) % size] += 1
                N += 1
                K += length
                heappush(ends, MANY * (total[who] - length + steps) + who)
            else:
                free += -(-(length - 1) // size) if prefixes is None else prefixes.leave(who, length - 1)
                finish(who, now)
                if reports:
                    finished.append(who)
                if hearer is not None:
                    running[who].end(length)
                    hearer.finished(running.pop(who), now)
        if let_in:
            assert decider is not None
            decider.step_done(before, start, now, [(request, 0) for request in let_in], NOBODY)
            due_step, due_time = decider.limit()
            let_in = []
        if policy_order is not None and step_ends is not None and len(step_ends) > clock.history_limit:
            _make_running(engine, policy_order, offsets, arriving, now)
            clock.trim_history(policy_order.oldest_change())
        if finished:
            replica.report(finished, now)
        if early:
            if replica.tells_counts:
                engine.free = free
                replica.tell_counts(now, N)
        elif not alone:
            engine.free = free
            if (pause := replica.settle(now, N + part)) is not None:
                yield pause
    if early:
        yield event_loop.at(now)
        if (pause := replica.settle(now, N)) is not None:
            yield pause
    if prefixes is not None:
        prefixes.settle()
    _make_running(engine, policy_order, offsets, arriving, now)
    if alone and event_loop.is_due(now):
        # Alone, all of it is one event, if anybody else waits for any.
        yield event_loop.at(now)
    engine.num_decoding, engine.decode_context, engine.free = N, K, free
    if rows is not None:
        rows.skip_to(upto)
    if backlog is not None:
        backlog.head = head
        backlog.give_back_running(now)
        backlog.give_back_waiting(first_new, now)
    else:
        del total[first_new:]  # they are numbered below
    for who in range(first_new, upto):
        # they have arrived, and there is no room for all of them at once
        replica.take_in(arriving.arrival(who), now)
    return now


def _make_running(
    engine: LeapingState,
    policy_order: PolicyOrder | None,
    offsets: dict[int, int],
    arriving: Arriving,
    now: float,
) -> None:
    """Of those who are made now the policy has not been told. Each began as it was scheduled."""
    starts: dict[int, float] | None = None
    if policy_order is not None:
        scheduled, running = engine.recorder.first_scheduled_time, engine.running
        starts = {who: scheduled[who] for who in offsets if who not in running}
    make_running(engine, policy_order, offsets, starts, arriving, now)
