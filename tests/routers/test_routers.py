"""Every router's rule, on tables worked by hand from its source."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from random import Random
from typing import Any

import pytest

import simsched.routers
from simsched.routers.base import Replicas, Router, below, registered
from simsched.routers.ring import HashRing
from simsched.routers.sent_prefixes import SentPrefixes
from simsched.workload.content import Stretch
from tests.routers.requests import Request, blocks

assert simsched.routers


def router(name: str, num_replicas: int, seed: int = 0, **parameters: Any) -> Router:
    made = registered()[name](**parameters)
    made.start(num_replicas, seed)
    return made


def choices(made: Router, in_flight: list[int], requests: list[Request]) -> list[int]:
    """With these in flight, whoever is chosen."""
    replicas = Replicas.idle(len(in_flight))
    replicas.in_flight[:] = in_flight
    return [made.choose(request, replicas, 0.0) for request in requests]


def many(count: int) -> list[Request]:
    return [Request(request_id=str(number)) for number in range(count)]


def test_round_robin_takes_turns() -> None:
    assert choices(router("round-robin", 3), [9, 0, 0], many(7)) == [0, 1, 2, 0, 1, 2, 0]


def test_random_is_even_and_seeded() -> None:
    first = choices(router("random", 4, seed=1), [0] * 4, many(4000))
    assert first == choices(router("random", 4, seed=1), [0] * 4, many(4000))
    assert first != choices(router("random", 4, seed=2), [0] * 4, many(4000))
    assert all(900 < count < 1100 for count in Counter(first).values())


@pytest.mark.parametrize(
    ("in_flight", "chosen"), [([3, 1, 2], 1), ([2, 1, 1], 1), ([0, 0, 0], 0), ([5, 5, 4], 2)]
)
def test_least_requests_takes_the_first_of_the_fewest(in_flight: list[int], chosen: int) -> None:
    assert choices(router("least-requests", 3), in_flight, many(1)) == [chosen]


def test_power_of_two_never_takes_the_fullest_and_often_the_emptiest() -> None:
    counts = Counter(choices(router("power-of-two", 4), [0, 1, 2, 3], many(6000)))
    # Of six pairs, the emptiest is in three, the second wins two, the third one, the fullest none.
    assert counts[3] == 0
    for replica, pairs in ((0, 3), (1, 2), (2, 1)):
        assert counts[replica] == pytest.approx(1000 * pairs, rel=0.1)
    assert choices(router("power-of-two", 1), [7], many(3)) == [0, 0, 0]


def test_a_session_stays_and_sessions_spread() -> None:
    made = router("session", 4)
    sessions = [Request(request_id=f"{s}-{t}", session_id=f"s{s}") for s in range(400) for t in range(2)]
    where = choices(made, [0] * 4, sessions)
    assert where[::2] == where[1::2]
    assert all(60 < count < 140 for count in Counter(where[::2]).values())


def test_few_keys_move_when_a_replica_is_added() -> None:
    four, five = HashRing(4, 160), HashRing(5, 160)
    moved = [key for key in map(str, range(2000)) if four.owner(key) != five.owner(key)]
    assert 0.1 < len(moved) / 2000 < 0.3
    assert {five.owner(key) for key in moved} == {4}


def test_prefix_hash_leaves_the_ring_only_above_the_load_factor() -> None:
    made = router("prefix-hash", 4)
    alike = [Request(str(n), 500, blocks(7, 8, 100 + n, size=128)) for n in range(3)]
    (home,) = set(choices(made, [0] * 4, alike))  # 256 tokens are the first two blocks
    others = [replica for replica in range(4) if replica != home]
    loads = [8] * 4  # mean with the new one 33 / 4; 1.25 times: 10.3
    for load, chosen in ((10, home), (11, others[1])):
        loads[home] = load
        for replica, other in zip(others, (8, 6, 7), strict=True):
            loads[replica] = other
        assert choices(made, loads, alike[:1]) == [chosen], load


def test_prefix_hash_stays_where_all_are_above_the_limit() -> None:
    made = router("prefix-hash", 1)
    assert choices(made, [50], many(1)) == [0]


CACHE_AWARE = [
    # in flight, blocks of 16 of the prompt (of 160 tokens) sent before to replica 2, on_miss, expected
    ([0, 0, 0], 4, "least-requests", 2),  # 64 of 160 tokens: 0.4 > 0.3
    ([0, 0, 0], 3, "least-requests", 0),  # 48 of 160 tokens: exactly 0.3 is not more
    ([5, 4, 0], 3, "smallest-tree", 0),  # no match: nobody but replica 2 remembers anything
    ([64, 0, 50], 4, "least-requests", 2),  # a difference of 64 is still in balance
    ([65, 0, 50], 4, "least-requests", 1),  # out of balance
    ([300, 201, 201], 4, "least-requests", 2),  # 99 apart, but only 1.49 times
]


@pytest.mark.parametrize(("in_flight", "sent", "on_miss", "expected"), CACHE_AWARE)
def test_cache_aware(in_flight: list[int], sent: int, on_miss: str, expected: int) -> None:
    made = router("cache-aware", 3, on_miss=on_miss)
    assert choices(made, [100, 100, 0], [Request("0", 16 * sent, blocks(*range(sent)))]) == [2]
    request = Request("1", 160, blocks(*range(8)))
    assert choices(made, in_flight, [request]) == [expected]


def test_of_several_with_the_longest_match_the_least_loaded_or_the_first() -> None:
    """Replica 2 has four blocks, then 0 and 1 the same four; 1 has a fifth of them."""
    for holder, expected in (("least-requests", [1, 1, 0]), ("first", [2, 1, 2])):
        made = router("cache-aware", 3, holder=holder, balance_abs_threshold=5)
        sent = [([9, 9, 0], 4), ([0, 9, 9], 4), ([9, 0, 9], 5)]
        where = [choices(made, flight, [Request(str(at), 80, blocks(*range(count)))])
                 for at, (flight, count) in enumerate(sent)]  # fmt: skip
        assert where == [[2], [0], [1]]
        asked = [([4, 3, 4], 4), ([1, 1, 0], 6), ([3, 4, 4], 4)]
        found = [choices(deepcopy(made), flight, [Request("x", 96, blocks(*range(count)))])[0]
                 for flight, count in asked]  # fmt: skip
        assert found == expected


def test_cache_aware_forgets_the_least_recently_used_every_two_minutes() -> None:
    made = router("cache-aware", 2, max_tree_tokens=32, cache_threshold=0.5)
    replicas = Replicas.idle(2)
    replicas.in_flight[0] = 1

    def sent(prefix: tuple[int, ...], now: float) -> int:
        return made.choose(Request("0", 32, blocks(*prefix)), replicas, now)

    assert [sent((1, 2), 0.0), sent((3, 4), 1.0)] == [1, 1]  # 64 tokens on replica 1
    replicas.in_flight[:] = 0, 1
    assert sent((1, 2), 119.0) == 1  # still there, and used again
    assert sent((3, 4), 121.0) == 0  # forgotten at 120: the least loaded
    assert sent((1, 2), 122.0) == 1


def test_what_was_sent_is_forgotten_leaves_first() -> None:
    tree = SentPrefixes(1)
    tree.insert(blocks(1, 2, 3), 50, 0, now=0.0)  # and a tail of two tokens
    tree.insert(blocks(1, 4), 32, 0, now=1.0)
    assert tree.tokens == [66]
    tree.evict_from(0, 48)
    assert tree.matched_by(blocks(1, 2, 3)) == [32]
    tree.evict_from(0, 33)
    assert tree.matched_by(blocks(1, 4)) == [32]
    tree.expire(before=1.0)
    assert tree.tokens == [32]
    tree.expire(before=9.0)
    assert tree.matched_by(blocks(1)) == [0]


def test_least_predicted_work_counts_prompts_at_their_weight_until_the_answer_is_back() -> None:
    made = router("least-predicted-work", 2, prefill_weight=0.5)
    replicas = Replicas.idle(2)
    first, second, third = (
        Request(request_id=str(n), num_prompt_tokens=prompt, predicted_length=length)
        for n, (prompt, length) in enumerate([(100, 50.0), (20, 60.0), (10, 10.0)])
    )
    assert made.choose(first, replicas, 0.0) == 0  # 100 on replica 0
    assert made.choose(second, replicas, 0.0) == 1  # 70 on replica 1
    assert made.choose(third, replicas, 0.0) == 1  # 85 on replica 1
    made.on_finish(first, 0, 1.0)
    assert made.choose(first, replicas, 1.0) == 0


def test_llm_d_adds_up_its_scores() -> None:
    made = router("llm-d", 3)
    replicas = Replicas.idle(3)
    replicas.waiting[:] = 0, 4, 2
    replicas.kv_usage[:] = 0.9, 0.2, 0.6
    # kv + queue: 0.1 + 1, 0.8 + 0, 0.4 + 0.5
    request = Request("0", 80, blocks(1, 2, 3, 4))
    assert made.choose(request, replicas, 0.0) == 0
    # Four of the five blocks of 80 tokens are there now: 1.1 + 2 * 0.8.
    replicas.waiting[:] = 4, 0, 2
    replicas.num_reports += 1
    # 0.1 + 0 + 1.6 against 0.8 + 1 and 0.4 + 0.5
    assert made.choose(Request("1", 80, blocks(1, 2, 3, 4)), replicas, 0.0) == 1


def test_dynamo_weighs_missing_blocks_against_blocks_in_use() -> None:
    made = router("dynamo", 2, seed=3)
    replicas = Replicas.idle(2)
    first = Request("a", 64, blocks(1, 2, 3, 4))
    home = made.choose(first, replicas, 0.0)
    other = 1 - home
    # At home: 4 blocks of prefill under way + 4 - 4 cached, 4 + 4 in use: 12. Elsewhere: 4 + 4: 8.
    again = Request("b", 64, blocks(1, 2, 3, 4))
    assert made.choose(again, replicas, 0.0) == other
    made.on_finish(again, other, 0.5)
    made.on_first_token(first, home, 1.0)
    # At home now: 0 + 4 - 4, 4 + 4: 8. Elsewhere, where it is cached too: 0 + 4: 4.
    assert made.choose(Request("c", 64, blocks(1, 2, 3, 4)), replicas, 1.0) == other
    # Two minutes later it is believed to be nowhere: 4 + 4 + 4 at both.
    made.on_finish(first, home, 2.0)
    late = Request("d", 64, blocks(1, 2, 3, 4))
    made.on_first_token(Request(request_id="c"), other, 2.0)
    assert made.choose(late, replicas, 122.0) == home


def test_vllm_dp_rotates_from_0_25_on() -> None:
    for version, expected in (("0.24", [0, 1, 2, 3]), ("0.25.1", [0, 1, 2, 3])):
        assert choices(router("vllm-dp", 4, version=version), [0] * 4, many(4)) == expected
    for version, expected in (("0.24", [0, 1, 0, 1]), ("0.25.1", [0, 1, 0, 1])):
        assert choices(router("vllm-dp", 2, version=version), [0] * 2, many(4)) == expected
    # A message after each choice makes all equal: a fixed start gives always the same engine.
    for version, expected in (("0.24", [0, 0, 0]), ("0.25.1", [0, 1, 2])):
        made, replicas = router("vllm-dp", 4, version=version), Replicas.idle(4)
        where = []
        for request in many(3):
            where.append(made.choose(request, replicas, 0.0))
            replicas.num_reports += 1
        assert where == expected


def test_vllm_dp_scores() -> None:
    replicas = Replicas.idle(3)
    replicas.num_reports = 1
    replicas.waiting[:], replicas.running[:] = [1, 0, 0], [0, 3, 5]
    # 4 * 1 + 0, 3, 5; and since 0.27 max(in flight, waiting + running): 1, 3, 5
    assert router("vllm-dp", 3, version="0.26").choose(Request(), replicas, 0.0) == 1
    assert router("vllm-dp", 3, version="0.33").choose(Request(), replicas, 0.0) == 0
    # KV usage counts only where requests wait: 1 + 1 * 6 * (0.9 - 0.5) = 3.4
    replicas.kv_usage[:] = 0.9, 0.99, 0.0
    assert router("vllm-dp", 3, version="0.33").choose(Request(), replicas, 0.0) == 1


def test_vllm_dp_api_servers_count_for_themselves() -> None:
    made = router("vllm-dp", 4, api_servers=2)  # they begin at engines 0 and 2
    assert choices(made, [0] * 4, many(4)) == [0, 2, 1, 3]


@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize("version", ["0.24", "0.26", "0.33"])
def test_vllm_dp_keeps_the_scores_that_its_rule_gives(version: str, servers: int) -> None:
    """Through random messages, choices and answers."""
    made, view, draw = router("vllm-dp", 5, version=version, api_servers=servers), Replicas.idle(5), Random(1)
    in_flight = [[0] * 5 for _ in range(servers)]
    waiting = [[0] * 5 for _ in range(servers)]
    unanswered: list[tuple[Request, int, int]] = []
    for number in range(300):
        if draw.random() < 0.2:  # a message
            view.num_reports += 1
            view.waiting = [draw.choice([0, 0, 1, 7]) for _ in range(5)]
            view.running = [draw.randrange(12) for _ in range(5)]
            view.kv_usage = [draw.random() for _ in range(5)]
            waiting = [list(view.waiting) for _ in range(servers)]
        client, request = number % servers, Request(str(number))
        scores = [
            4 * waits + running
            if version != "0.33"
            else max(servers * sent, waits + running) + waits * 6 * max(0.0, usage - 0.5)
            for waits, running, sent, usage in zip(
                waiting[client], view.running, in_flight[client], view.kv_usage, strict=True
            )
        ]
        chosen = made.choose(request, view, 0.0)
        assert scores[chosen] == pytest.approx(min(scores))
        waiting[client][chosen] += servers
        in_flight[client][chosen] += 1
        unanswered.append((request, client, chosen))
        while unanswered and draw.random() < 0.5:
            request, client, engine = unanswered.pop(draw.randrange(len(unanswered)))
            in_flight[client][engine] -= 1
            made.on_finish(request, engine, 0.0)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_a_number_is_drawn_as_randrange_draws_it(count: int) -> None:
    expected, found = Random(3), Random(3)
    for _ in range(200):
        assert below(found, count) == expected.randrange(count)


@pytest.mark.parametrize("name", sorted(registered()))
def test_the_same_seed_gives_the_same_choices(name: str) -> None:
    def run() -> list[int]:
        made, replicas = router(name, 5, seed=7), Replicas.idle(5)
        where: list[int] = []
        for number in range(300):
            request = Request(
                request_id=str(number),
                session_id=f"s{number % 40}",
                prefix=blocks(number % 7, 100 + number % 20),
                predicted_length=float(number % 90 + 1),
            )
            chosen = made.choose(request, replicas, number * 0.01)
            assert 0 <= chosen < 5
            replicas.in_flight[chosen] += 1
            where.append(chosen)
            if number >= 20 and number % 3:
                done = number - 20
                replicas.in_flight[where[done]] -= 1
                finished = Request(request_id=str(done), predicted_length=float(done % 90 + 1))
                made.on_first_token(finished, where[done], number * 0.01)
                made.on_finish(finished, where[done], number * 0.01)
        return where

    assert run() == run()


def test_a_follow_up_matches_the_prompt_that_was_sent_not_its_answer() -> None:
    """A turn's prompt and answer are one stretch of the next turn's prompt; the router saw the prompt."""
    made = router("cache-aware", 2, cache_threshold=0.5)
    replicas = Replicas.idle(2)
    first = Request("a", 100, (Stretch(7, 180),))  # 80 tokens of answer
    home = made.choose(first, replicas, 0.0)
    replicas.in_flight[home] = 1
    for prompt, expected in ((190, home), (210, 1 - home)):  # 100 of 190 tokens match; of 210, too few
        later = deepcopy(made)
        assert later.choose(Request("b", prompt, (Stretch(7, 180),)), replicas, 1.0) == expected
