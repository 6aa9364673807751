"""The uncontended run with asynchronous scheduling: nobody waits, and there is room for whoever arrives.

This is `AsyncVllmV1Leap` and the loop of `PipelinedReplica` written out for that case, in one loop over local
variables, until the case ends; as `uncontended.py` for the synchronous engine.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Final

import simpy

from simsched.cost_model.base import StepFeatures
from simsched.engine.agenda import NO_LIMIT
from simsched.engine.pipelined import Handover, PipelinedReplica
from simsched.engine.session_service import Session
from simsched.engine.vllm_v1.arriving import Arriving, make_running
from simsched.engine.vllm_v1.backlog import Backlog
from simsched.engine.vllm_v1.handover import HandsOver, UncontendedStep, in_turn
from simsched.engine.vllm_v1.leaping_decisions import DecidingOrder
from simsched.engine.vllm_v1.leaping_request import MANY, LeapRequest
from simsched.engine.vllm_v1.policy_order import PolicyOrder
from simsched.engine.vllm_v1.prefixes import Prefixes, in_batch_order
from simsched.engine.vllm_v1.state import LeapingState

NOBODY: Final = ()


def run_uncontended_ahead(
    engine: LeapingState,
    steps_ahead: HandsOver,
    policy_order: PolicyOrder | None,
    replica: PipelinedReplica,
    now: float,
    prefixes: Prefixes | None = None,
    decider: DecidingOrder | None = None,
) -> Generator[simpy.Event, None, Handover]:
    """Simulate from `now` on, as a step begins or with none under way, while the run is uncontended.

    Args:
        steps_ahead: the engine once more.
        policy_order: the order of the requests, if it is a policy's.
        prefixes: where prompts share them; then there is no `policy_order`.
        decider: the same order, if the policy decides more (as in `uncontended.py`).
    """
    event_loop, source, clock, order = replica.event_loop, replica.source, replica.clock, engine.order
    alone, reports, tells_counts = replica.is_alone, source.waits_for_answers, replica.tells_counts
    recorder, step_clock = engine.recorder, engine.clock
    step_ends = step_clock.ends
    begin, finish, record_step = recorder.begin, recorder.finish, recorder.step
    counts_waiting = clock.counts_waiting
    total, max_model_len = engine.total, engine.max_model_len
    arriving = Arriving(source, len(total))
    rows, times, take, came = arriving.rows, arriving.times, arriving.take, arriving.came
    # lengths, by number less `numbered`
    prompts, outputs, numbered = arriving.prompts, arriving.outputs, arriving.numbered
    running, ends, growth, size = engine.running, engine.ends, engine.growth_by_residue, engine.block_size
    max_running, watermark = engine.max_running, engine.watermark
    max_tokens = engine.max_tokens if decider is None else decider.view.max_num_batched_tokens
    longest = engine.long_prefill or max_tokens if decider is None else max_tokens
    steps, done = step_clock.formed, step_clock.done
    N, K, free = engine.num_decoding, engine.decode_context, engine.free
    upto = len(total)  # the number of who arrives next
    arrival_time = source.next_time
    places: dict[int, int] = {}  # of those admitted out of turn
    # who hears of each request as it comes; all others are made at the end, of those that still run
    hearer = policy_order if policy_order is not None and policy_order.hears_of_all else None
    moved: set[str] = set() if hearer is None else hearer.moved
    served_sessions: dict[Session, None] = {} if hearer is None else hearer.grown
    starts: dict[int, float] | None = None if policy_order is None or hearer is not None else {}
    # may a step of prefills be taken to be over before it is, if at its end there is nothing to tell?
    # (blocks of a prefix cache can't be given back)
    may_go_on = not alone and hearer is None and prefixes is None and recorder.first_tokens is None
    early = False  # so it has been, and its end is `now`
    backlog = None
    if policy_order is None and order.serves_by_arrival and engine.chunked and not engine.long_prefill:
        backlog = Backlog(engine, prefixes, arriving)
    watched: set[int] = set() if prefixes is None else prefixes.watched
    head = upto  # whose prompt is the first that is not computed; `upto` if all are
    part = 0  # 1 if it is computed in part, so that its request runs
    served: list[tuple[int, int]] = []  # who has how much of its prompt in the step formed last, if in parts
    # those who have arrived, as a decider lets them in, and when it is to be told of changes
    let_in: list[LeapRequest] = []
    due_step, due_time = (NO_LIMIT, inf) if decider is None else decider.limit()
    current, offsets = steps_ahead.hand_over()
    formed, ended = now, step_clock.time  # the step done last ended then
    entered = done
    # of the step under way: decodes, context, who waits for its end, chunks of prompts and which prompts end
    # with them, who is new, when it was formed
    is_under_way = current is not None
    now_N = now_K = now_waiting = now_new = now_first = now_end = now_seen = 0
    now_tokens, now_pairs, now_formed = 0, 0.0, now
    endings: list[int] = []
    launched = False  # has the step under way been launched with nothing before it, at `formed`?
    if current is not None:
        now_N, now_K, now_waiting = current.features.N, current.features.K, current.features.num_waiting
        now_formed, endings = current.formed_at, current.endings
    while True:
        # First, who has arrived and is in the next step: with their whole prompts, or this ends here.
        if watched:
            first_new = upto
            break
        first_new, first_done, waiting = upto, head, len(endings)
        new = seen = tokens = blocks = 0
        pairs = 0.0
        if N:
            blocks = growth[steps % size]
        if times is None:
            arrival_time = source.next_time
        if decider is not None and (due_step <= done or due_time <= formed) and arrival_time > formed:
            step_clock.set((steps, done, ended))
            decider.prepare(formed)
            due_step, due_time = decider.limit()
        if arrival_time <= formed or head < upto:
            squares = 0
            while arrival_time <= formed:
                if rows is None:
                    take()
                length = prompts[upto - numbered]
                tokens += length
                blocks -= -length // size
                squares += length * length
                upto += 1
                if length > longest:
                    tokens = max_tokens + 1
                if times is not None:
                    arrival_time = times[upto]
                else:
                    arrival_time = source.next_time if rows is None else rows.skip()
            new = seen = upto - first_new
            fits = head == first_new and N + waiting + new <= max_running
            if decider is not None:  # *displacement* takes those who end for decodes
                fits = fits and blocks + waiting <= free
            if prefixes is None:
                fits = fits and tokens + N <= max_tokens and blocks + watermark <= free
            elif fits:
                room, grown = max_tokens - N, growth[steps % size] if N else 0
                if new == 1:
                    prefix = arriving.prefix(first_new)
                    taken = prefixes.admit_one(first_new, length, prefix, grown, room, free)
                else:
                    lengths = prompts[first_new - numbered : upto - numbered]
                    taken = prefixes.admit(first_new, lengths, arriving, grown, room, free)
                fits = taken is not None
                if taken is not None:
                    tokens, blocks, squares = taken
            if fits:
                head = upto
                served = []
            else:
                if backlog is None:
                    break
                backlog.head = head
                growing = growth[steps % size] if N else 0
                chunks = backlog.form(first_new, upto, N, N + waiting, growing, free, formed)
                if chunks is None:
                    break
                tokens, squares, blocks, queued, served = chunks
                waiting += queued
                head, new = backlog.head, len(served)
            pairs = squares / 2
            if rows is None and seen:
                replica.note_rows(came[first_new - numbered :])
            for place in range(first_new - numbered, upto - numbered):
                length = prompts[place] + outputs[place]
                total.append(length if length < max_model_len else max_model_len)
            if decider is not None:
                step_clock.set((steps, done, ended))
                engine.num_decoding, engine.decode_context, engine.free = N, K, free
                lets_in = decider.take_in(first_new, arriving.since(first_new, upto), formed)
                if not lets_in or tokens + N > engine.max_tokens:
                    first_new = upto  # they are in its queue
                    break
                let_in = decider.take_out()
                due_step, due_time = decider.limit()
            if tells_counts and not launched:
                engine.free = free
                replica.tell_counts(formed, N + len(endings) + part)
            part = 0 if backlog is None else backlog.num_running
        elif N:
            if blocks > free:
                break
            if blocks and prefixes is not None:
                prefixes.owed += blocks
        elif not is_under_way:
            if arrival_time == inf:
                break
            now = formed = arrival_time
            if event_loop.is_due(now):
                yield event_loop.at(now)
            continue
        launched = False
        next_N, next_K = N, K
        following: list[int] = []  # who gets its last token in the next step
        newcomers: Sequence[int] = range(first_done, head) if new else NOBODY
        if decider is not None:
            if let_in:
                newcomers = [request.number for request in let_in]
                let_in = []
        elif hearer is not None and (seen or moved or served_sessions):
            step_clock.formed, step_clock.done, step_clock.time = steps, done, ended
            for who in range(first_new, upto):
                running[who] = hearer.request(who, arriving.arrival(who), formed)
            hearer.step_begins(formed)
        if next_N or new:
            # Then form it, as if the step under way were over.
            free -= blocks
            steps += 1
            K += N
            later = MANY * (steps + 1)
            while ends and ends[0] < later:
                end, who = divmod(heappop(ends), MANY)
                length = total[who]
                if offsets.get(who) == length - end:
                    del offsets[who]
                    growth[(end - length + 1) % size] -= 1
                    N -= 1
                    K -= length
                    following.append(who)
            if len(following) > 1 and prefixes is not None:
                following = in_batch_order(following, running)
            if new:
                if seen > 1 and order.admits_in_order:
                    those = arriving.since(first_new, upto)
                    in_order = order.as_admitted(list(enumerate(those, first_new)))
                    for place, (who, _) in enumerate(in_order, first_new):
                        places[who] = place
                for who in newcomers:
                    length = prompts[who - numbered] + 1
                    if hearer is not None:
                        running[who].decode(length - steps)
                    if length < total[who]:
                        offsets[who] = length - steps
                        growth[(steps - length + 1) % size] += 1
                        N += 1
                        K += length
                        heappush(ends, MANY * (total[who] - length + steps) + who)
                    else:
                        following.append(who)
            if decider is not None:
                decider.await_ends(following)
            if not is_under_way:
                # With nothing under way it is launched first, and whoever arrives meanwhile is in the next.
                is_under_way = True
                now_N, now_K, now_waiting = next_N, next_K, waiting
                now_first, now_end, now_formed = first_done, head, formed
                now_new, now_seen = new, seen
                now_tokens, now_pairs = tokens, pairs
                endings = following
                formed = now + clock.begin(StepFeatures(tokens, next_N, new, next_K, pairs, waiting, 0, seen))
                launched = True
                if not alone and formed > now:
                    yield event_loop.at(formed)
                continue
        # The step under way, and those like it.
        start, before = now, done
        if new or now_new:
            last = clock.prefill(
                now_tokens, now_N, now_K, now_pairs, now_waiting, now_new, now_seen, tokens, next_N, new
            )
            now += last
            if step_ends is not None:
                step_ends.append(now)
            # The next step is of decodes alone, and so are those behind it, unless somebody arrives.
            early = (
                may_go_on
                and not (new or endings or following or clock.draws(N))
                and growth[steps % size] <= free
                and bool(ends)
                and ends[0] >= MANY * (steps + 2)
            )
            if not (alone or early):
                yield event_loop.at(now)
            done += 1
            record_step(last, now_N)
        elif next_N == now_N and not following and (waiting == now_waiting or not counts_waiting):
            while True:
                end, who = divmod(ends[0], MANY)
                if offsets.get(who) == total[who] - end:
                    break
                heappop(ends)
            most = end - steps + 1
            if free < N * (most // size + 1):
                most = 1
            if due_step - done < most:
                most = max(1, due_step - done)
            if alone:
                until = arrival_time if arrival_time < due_time else due_time
                now, more = clock.stretch(now, N, now_K, waiting, most, until, step_ends, recorder)
            else:
                begins = now if early else -inf
                now, more = yield from replica.keep_stretch(now, N, now_K, waiting, most, due_time, begins)
                early = False
                if not more:
                    # Somebody has been delivered in the step before: that is over, and this one not formed.
                    free += blocks
                    steps -= 1
                    K -= N
                    if (pause := replica.settle(now, N)) is not None:
                        yield pause
                    continue
            done += more
            more -= 1
            if more:
                residue = steps % size
                if residue + more <= size:
                    grown = sum(growth[residue : residue + more])
                else:
                    grown = engine.blocks_for(steps, more)
                free -= grown
                if prefixes is not None:
                    prefixes.owed += grown
                steps += more
                K += N * more
                next_K += N * more
                if more == most - 1:
                    # Somebody gets its last token in the step that is formed now.
                    later = MANY * (steps + 1)
                    while ends and ends[0] < later:
                        end, who = divmod(heappop(ends), MANY)
                        length = total[who]
                        if offsets.get(who) == length - end:
                            del offsets[who]
                            growth[(end - length + 1) % size] -= 1
                            N -= 1
                            K -= length
                            following.append(who)
                    if len(following) > 1 and prefixes is not None:
                        following = in_batch_order(following, running)
                    if decider is not None:
                        decider.await_ends(following)
        else:
            last = clock.decode(now_N, now_K, now_waiting, next_N)
            now += last
            if step_ends is not None:
                step_ends.append(now)
            if not alone:
                yield event_loop.at(now)
            done += 1
            record_step(last, now_N)
        # It is over: tokens are out, and places and blocks come free.
        if now_end > now_first:
            for who in range(now_first, now_end):
                begin(who, now_formed, now)
        for who in endings:
            free += -(-(total[who] - 1) // size) if prefixes is None else prefixes.leave(who, total[who] - 1)
            finish(who, now)
        if policy_order is None:
            if running:
                for who in endings:
                    running.pop(who, None)
        else:
            if hearer is not None:
                if endings or now_end > now_first:
                    step_clock.formed, step_clock.done, step_clock.time = steps, done, now
                    engine.step_start = start
                    for who in endings:
                        if decider is not None:
                            running[who].end(total[who])
                            del engine.ending[who]
                        hearer.finished(running.pop(who), now)
                    began: list[tuple[LeapRequest, int]] = []
                    for who in range(now_first, now_end):
                        request = running.get(who)
                        if request is None:
                            continue  # it is done as well
                        if decider is None:
                            hearer.began_uncontended(request, before, start, now)
                        else:
                            began.append((request, 0))
                    if began and decider is not None:
                        decider.step_done(before, start, now, began, ())
                        due_step, due_time = decider.limit()
            else:
                for who in endings:
                    running.pop(who, None)
                if starts is not None:
                    for who in range(now_first, now_end):
                        starts[who] = start
            if step_ends is not None and len(step_ends) > step_clock.history_limit:
                step_clock.set((steps, done, now))
                make_running(engine, policy_order, offsets, starts, arriving, now)
                step_clock.trim_history(policy_order.oldest_change())
        ended = now
        is_under_way = bool(next_N or new)
        now_N, now_K, now_waiting = next_N, next_K, waiting
        now_first, now_end, now_formed = first_done, head, formed
        now_new, now_seen = new, seen
        now_tokens, now_pairs = tokens, pairs
        finished, endings = endings, following
        formed = now
        if reports and finished:
            replica.report(finished, now)
        if early:
            if tells_counts:
                engine.free = free
                replica.tell_counts(now, N)
        elif not alone:
            engine.free = free
            if (pause := replica.settle(now, N + len(endings) + part)) is not None:
                yield pause
    if prefixes is not None:
        prefixes.settle()
    if done > entered:
        steps_ahead.ended = step_clock.time = ended
    step_clock.formed, step_clock.done = steps, done
    remain = dict(offsets)
    for who in endings:
        remain[who] = total[who] - steps
    make_running(engine, policy_order, in_turn(remain, places), starts, arriving, now)
    engine.num_decoding, engine.decode_context, engine.free = N, K, free
    if rows is not None:
        rows.skip_to(upto)
    current = None
    if is_under_way:
        features = StepFeatures(now_tokens, now_N, now_new, now_K, now_pairs, now_waiting, 0, now_seen)
        if not now_new:
            served = []
        elif not served:
            served = arriving.to_compute(now_first, now_end, recorder.num_cached_tokens)
        current = UncontendedStep(features, now_formed, now_first, now_end, served, endings)
    if backlog is not None:
        backlog.head = head
        backlog.give_back_running(now)
    batch = steps_ahead.take_back(current, offsets)
    if backlog is not None:
        backlog.give_back_waiting(first_new, formed)
    for who in range(first_new, upto):
        # they have arrived, and there is no room for all of them at once
        replica.take_in(arriving.arrival(who), formed)
    return Handover(now, batch, formed, launched)
