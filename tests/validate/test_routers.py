"""Our routers beside vllm-router and sglang-router: short, and longer where a package is installed."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

import pytest

from simsched.errors import InputError
from simsched.routers.base import Replicas
from simsched.routers.furc_hash import furc_hash, murmur_hash
from simsched.routers.sent_prefixes import beginning
from simsched.routers.session import Session
from tests.routers.requests import Request
from validate.cli import cli, main
from validate.router_process import COMPARED, version_of
from validate.router_prompts import prompts
from validate.routers import FALSE_ALARM, Case, cases, compare, two_choices
from validate.routers_evicting import Copies, OpenTree
from validate.stub_workers import StubWorkers, post

PYTHON = os.environ.get("SIMSCHED_ROUTERS_PYTHON", sys.executable)
"""The interpreter that has the routers."""

# where vllm-router 0.1.17 sent requests with `X-Session-Id: user-0`, `user-1`, ... over three workers
PLACED = [0, 1, 1, 1, 2, 0, 2, 2, 1, 0, 1, 0, 0, 1, 1, 1, 0, 2, 0, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 2]
URLS = [f"http://127.0.0.1:{port}" for port in (4101, 4102, 4103)]


def needs(package: str) -> None:
    if version_of(package, PYTHON) != COMPARED[package]:
        pytest.skip(f"needs {package}=={COMPARED[package]} (or $SIMSCHED_ROUTERS_PYTHON, which has it)")


def test_sessions_are_placed_where_vllm_router_placed_them() -> None:
    router = Session(workers=URLS)
    router.start(3, 0)
    asked = [Request(str(number), session_id=f"user-{number}") for number in range(len(PLACED))]
    assert [router.choose(request, Replicas.idle(3), 0.0) for request in asked] == PLACED
    with pytest.raises(InputError, match="router session: 3 workers of 4 replicas; expected one URL each"):
        router.start(4, 0)


def test_murmur_hash() -> None:
    """MurmurHash64A of nothing, of a tail, of whole words: by the reference code's arithmetic."""
    assert murmur_hash(b"", 0) == 0
    assert murmur_hash(b"a", 0) == murmur_hash(b"a", 0) != murmur_hash(b"a\0", 0)
    assert all(0 <= furc_hash(f"key-{number}", 7) < 7 for number in range(200))
    assert furc_hash("anything", 1) == 0


def test_few_keys_move_under_furc_hash() -> None:
    keys = [f"key-{number}" for number in range(3000)]
    moved = [key for key in keys if furc_hash(key, 9) != furc_hash(key, 10)]
    assert 0.05 < len(moved) / len(keys) < 0.15
    assert {furc_hash(key, 10) for key in moved} == {9}


def test_prompts_share_tokens_and_text_as_their_stretches_say() -> None:
    made = prompts(120, 3)
    pairs = 0
    for one in made:
        assert len(one.tokens) == len(one.text) == one.num_prompt_tokens
        for other in made:
            if one is other:
                continue
            same = [beginning(each.prefix, each.num_prompt_tokens) for each in (one, other)]
            reach = 0
            for a, b in zip(*same, strict=False):
                if a.node != b.node:
                    break
                reach = min(a.end, b.end)
            shared = sum(1 for _ in _alike(one.tokens, other.tokens))
            assert shared == sum(1 for _ in _alike(list(one.text), list(other.text))) == reach
            pairs += shared > 0
    assert pairs > 500


def _alike(one: list, other: list) -> list:  # type: ignore[type-arg]
    alike = []
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        alike.append(a)
    return alike


def test_two_choices() -> None:
    assert two_choices([0, 1, 2]) == pytest.approx([2 / 3, 1 / 3, 0])
    assert two_choices([5, 5, 5, 5]) == pytest.approx([0.25] * 4)
    assert two_choices([1, 1, 0]) == pytest.approx([1 / 6, 1 / 6, 2 / 3])


def test_stub_workers_hold_answers_until_told() -> None:
    async def run() -> None:
        workers = StubWorkers(2)
        await workers.start()
        came = workers.expect(7)
        body = {"model": "model", "prompt": [1], "max_tokens": 1, "seed": 7}
        task = asyncio.create_task(post(workers.urls[1], "/v1/completions", body, {}))
        assert await asyncio.wait_for(came, 5) == 1
        done, _ = await asyncio.wait({task}, timeout=0.05)
        assert not done
        workers.answer(7)
        assert await asyncio.wait_for(task, 5) == 200
        assert await post(workers.urls[0], "/get_load", {}, {}) == 404
        workers.reported = [3, 4]
        assert await post(workers.urls[0], "/get_load", {}, {}) == 200
        await workers.stop()

    asyncio.run(run())


@pytest.mark.parametrize("package", sorted(COMPARED))
@pytest.mark.parametrize("number", range(9))
def test_every_choice_is_theirs(package: str, number: int) -> None:
    needs(package)
    of_package = cases(package)
    case = of_package[number % len(of_package)]
    found = compare(package, PYTHON, case, 300 if case.evicts else 120, seed=5)
    assert found.agrees, found
    assert found.choices >= 70


def test_another_clearing_is_seen() -> None:
    needs("sglang-router")
    case = next(each for each in cases("sglang-router") if each.evicts)
    more = replace(case, options=(*case.options[:-1], "--max-tree-size=100000"))
    found = compare("sglang-router", PYTHON, more, 480, seed=5)
    assert not found.agrees, found


def test_what_a_real_tree_leaves_open() -> None:
    tree = OpenTree(3, 0)
    tree.theirs, tree.enough = 2, 4.0
    for holders, matched, expected in (
        ([1], 9, 1),
        ([1, 2], 9, 2),  # theirs is right
        ([0, 1], 9, 0),  # and wrong, if it is no holder
        ([1, 2], 4, -1),  # the choice does not go by it, and so does not show it
    ):
        assert tree.another(holders, matched) == expected, holders


def test_copies_that_differ_are_out() -> None:
    copies, replicas = Copies("cache-aware(holder=first)", 2), Replicas.idle(2)
    (prompt,) = prompts(1, 0)
    assert copies.choose(prompt, replicas, None) == {0}
    assert copies.choose(prompt, replicas, 0) == {0}
    assert len(copies.left) == 8
    assert copies.choose(prompt, replicas, 1) == {0}
    assert not copies.left


def test_another_rule_is_seen() -> None:
    needs("vllm-router")
    case = cases("vllm-router")[1]
    wrong = [
        replace(case, ours=case.ours.replace("balance_abs_threshold=3", "balance_abs_threshold=4")),
        replace(case, ours=f"{case.ours[:-1]},holder=first)"),
        Case("session(workers=WORKERS,virtual_nodes=80)", ("--policy=consistent_hash",), 3),
        Case("power-of-two", ("--policy=random",), 4, at_random=True),
    ]
    for each in wrong:
        assert not compare("vllm-router", PYTHON, each, 240, seed=0).agrees, each.ours


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "routers" in cli.list_commands(None)  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as ended:
        main(["routers", "--against", "vllm-router", "--python", "/nowhere/python"])
    assert ended.value.code == 2
    assert "--python /nowhere/python: No such file" in capsys.readouterr().err
    assert 0 < FALSE_ALARM < 0.01
