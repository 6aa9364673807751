"""Our routers beside the real ones, choice by choice.

The real router runs as it does in production, in front of stub workers which hold their answers until they
are told, so that what is in flight is the same on both sides at every choice. Its workers have an order of
its own; which is which shows in its first choices.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

from simsched.errors import InputError
from simsched.routers.base import Replicas, Router
from simsched.routers.spec import make_router
from validate.router_process import RouterProcess
from validate.router_prompts import Prompt, prompts
from validate.routers_evicting import INTERVAL, MAX_TOKENS, through_clearings
from validate.stub_workers import StubWorkers, post

FALSE_ALARM = 1e-3
"""How often a router that chooses at random, by our rule, is called different."""
_POLLED = 2.5  # seconds until it has asked its workers for their loads
_PATIENCE = 30.0  # seconds that it may take to choose, or to note an answer


@dataclass(frozen=True)
class Case:
    """A router of ours, and the options that give the same of the real one."""

    ours: str
    """With `WORKERS` for their URLs."""
    options: tuple[str, ...]
    workers: int
    in_flight: int = 20
    """Requests in flight, at most."""
    at_random: bool = False
    """Compared in distribution: the real one draws numbers that nobody can seed."""
    reported: bool = False
    """The real one compares what its workers say of their loads."""
    evicts: bool = False
    """Its trees are cleared every few seconds."""


def _cache_aware(threshold: float, most: int, times: float) -> tuple[str, tuple[str, ...]]:
    ours = f"cache_threshold={threshold},balance_abs_threshold={most},balance_rel_threshold={times}"
    names = ("cache-threshold", "balance-abs-threshold", "balance-rel-threshold")
    given = [f"--{name}={value}" for name, value in zip(names, (threshold, most, times), strict=True)]
    return ours, ("--policy=cache_aware", *given)


def cases(package: str) -> list[Case]:
    """What is compared of this package."""
    found = []
    own = "" if package == "vllm-router" else ",holder=first"
    for threshold, most, times, workers, in_flight in (
        (0.3, 64, 1.5, 3, 20),
        (0.3, 3, 1.5, 4, 40),
        (0.5, 1, 1.1, 8, 60),
        (0.3, 64, 1.5, 2, 150),
        (0.1, 6, 2.0, 5, 30),
    ):
        ours, options = _cache_aware(threshold, most, times)
        found.append(Case(f"cache-aware({ours}{own})", options, workers, in_flight))
    # (vllm-router's trees count characters of its keys, of which tokens that differ share some: by ids, which
    # no trace here has)
    for workers in (3, 5) if package == "sglang-router" else ():
        ours, options = _cache_aware(0.3, 64, 1.5)
        ours = f"cache-aware({ours}{own},max_tree_tokens={MAX_TOKENS})"
        options = *options, f"--eviction-interval-secs={INTERVAL:.0f}", f"--max-tree-size={MAX_TOKENS}"
        found.append(Case(ours, options, workers, evicts=True))
    if package == "vllm-router":
        for workers in (2, 5):
            found.append(Case("session(workers=WORKERS)", ("--policy=consistent_hash",), workers))
    found.append(Case("round-robin", ("--policy=round_robin",), 3))
    # SGLang's looks at the tokens that its workers report: here so many as they have requests
    reported = package == "sglang-router"
    found.append(Case("power-of-two", ("--policy=power_of_two",), 4, at_random=True, reported=reported))
    return found


@dataclass
class Compared:
    """What came out of a case."""

    ours: str
    workers: int
    choices: int = 0
    differ: int = 0
    p_value: float | None = None
    """Of choices at random: how often chance alone makes them differ at least so much."""
    first: str | None = None
    """The first that differs."""
    options: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """None differs, nor do those at random differ by more than chance."""
        return not self.differ and (self.p_value is None or self.p_value >= FALSE_ALARM)


def compare(package: str, python: str, case: Case, choices: int, seed: int) -> Compared:
    """Play a case.

    Args:
        package: `vllm-router` or `sglang-router`.
        python: the interpreter that has it.
        choices: how many.
        seed: of the prompts and of what is answered when.

    Raises:
        InputError: the router does not start, or refuses a request.
    """
    return asyncio.run(_compare(package, python, case, choices, seed))


async def _compare(package: str, python: str, case: Case, choices: int, seed: int) -> Compared:
    workers = StubWorkers(case.workers)
    await workers.start()
    with tempfile.TemporaryDirectory() as folder:
        router = RouterProcess(package, python, workers.urls, case.options, Path(folder) / "router.log")
        try:
            await asyncio.to_thread(router.await_start)
            started = time.monotonic()
            asked = _Asked(package, router, workers)
            wanted, random = prompts(choices, seed), Random(seed)
            if case.evicts:
                made, last = await through_clearings(asked, case.ours, case.workers, wanted, random, started)
                found = Compared(case.ours, case.workers, made, int(last is not None), first=last)
            else:
                play = _in_distribution if case.at_random else _choice_by_choice
                found = await play(asked, case, workers.urls, wanted, random)
            await asked.end()
        finally:
            await workers.stop()
            router.stop()
    found.options = list(case.options)
    return found


class _Asked:
    """Requests to the real router, one after the other."""

    def __init__(self, package: str, router: RouterProcess, workers: StubWorkers) -> None:
        self._package, self._router, self._workers = package, router, workers
        self._under_way: dict[int, asyncio.Task[int]] = {}
        self._number = 0

    async def report(self, loads: Sequence[int]) -> None:
        """Have the workers report these loads, and wait until the router has them."""
        self._workers.reported = list(loads)
        await asyncio.sleep(_POLLED)

    async def ask(self, prompt: Prompt) -> tuple[int, int]:
        """A number for it, and the worker that gets it."""
        number, self._number = self._number, self._number + 1
        came = self._workers.expect(number)
        words: Any = prompt.tokens if self._package == "vllm-router" else prompt.text
        body = {"model": "model", "prompt": words, "max_tokens": 1, "seed": number}
        headers = {"x-session-id": prompt.session_id or ""}
        task = asyncio.create_task(post(self._router.url, "/v1/completions", body, headers))
        await asyncio.wait({task, came}, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not came.done():
            said = f"status {task.result()}" if task.done() else f"nothing within {_PATIENCE:.0f} s"
            raise InputError(f"the router: request {number}: {said}")
        self._under_way[number] = task
        return number, came.result()

    async def finish(self, numbers: Sequence[int]) -> None:
        """Have these answered, and wait until the router knows."""
        for number in numbers:
            self._workers.answer(number)
        for number in numbers:
            await self._under_way.pop(number)
        limit = time.monotonic() + _PATIENCE
        # (some policies make it count none)
        while sum((await asyncio.to_thread(self._router.loads)).values()) > len(self._under_way):
            if time.monotonic() > limit:
                raise InputError(f"the router: still counts answered requests after {_PATIENCE:.0f} s")
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        """Have all answered."""
        await self.finish(list(self._under_way))


async def _choice_by_choice(
    asked: _Asked, case: Case, urls: Sequence[str], wanted: Sequence[Prompt], random: Random
) -> Compared:
    found = Compared(case.ours, case.workers)
    named = "WORKERS" in case.ours
    router = make_router(case.ours.replace("WORKERS", f"[{','.join(urls)}]"))
    router.start(case.workers, 0)
    replicas = Replicas.idle(case.workers)
    # their worker -> our replica: as the URLs say, or as the first choice of each shows
    numbers = {worker: worker for worker in range(case.workers)} if named else {}
    held: list[tuple[int, Prompt, int]] = []
    least, most = 0, case.in_flight
    for at, prompt in enumerate(wanted):
        # The load rises and falls: it is let down to a level of chance again and again.
        if len(held) >= most:
            least, most = random.randint(0, case.in_flight // 2), random.randint(1, case.in_flight)
            done = [held.pop(random.randrange(len(held))) for _ in range(max(0, len(held) - least))]
            # and unevenly: one replica keeps more than the others
            await _finish(asked, router, replicas, done)
        elif held and random.random() < 0.25:
            await _finish(asked, router, replicas, [held.pop(random.randrange(len(held)))])
        chosen = router.choose(prompt, replicas, 0.0)
        number, worker = await asked.ask(prompt)
        if worker not in numbers and chosen not in numbers.values():
            numbers[worker] = chosen
        found.choices += 1
        if numbers.get(worker) != chosen:
            found.differ += 1
            theirs = numbers.get(worker)
            found.first = (
                found.first or f"choice {at}: ours {chosen}, theirs {theirs}, in flight {replicas.in_flight}"
            )
            break  # from here on the two have sent other prompts to other workers
        replicas.in_flight[chosen] += 1
        held.append((number, prompt, chosen))
    return found


async def _finish(
    asked: _Asked, router: Router, replicas: Replicas, done: Sequence[tuple[int, Prompt, int]]
) -> None:
    await asked.finish([number for number, _, _ in done])
    for _, prompt, replica in done:
        replicas.in_flight[replica] -= 1
        router.on_finish(prompt, replica, 0.0)


async def _in_distribution(
    asked: _Asked, case: Case, urls: Sequence[str], wanted: Sequence[Prompt], random: Random
) -> Compared:
    """Choices at loads that stay: each is answered before the next one."""
    from scipy.special import chdtrc

    found = Compared(case.ours, case.workers)
    in_flight = [0] * case.workers
    levels = (0, 3, 7, 12)
    statistic, freedom = 0.0, 0
    rest = iter(wanted)
    for level in levels:
        while sum(in_flight) < level:
            _, worker = await asked.ask(next(rest))
            in_flight[worker] += 1
        if case.reported:
            await asked.report(in_flight)
        counts: Counter[int] = Counter()
        tried = len(wanted) // len(levels) - max(levels)
        for _ in range(tried):
            number, worker = await asked.ask(next(rest))
            counts[worker] += 1
            await asked.finish([number])
        expected = [tried * share for share in two_choices(in_flight)]
        found.choices += tried
        found.differ += sum(counts[k] for k, each in enumerate(expected) if not each)
        possible = [k for k, each in enumerate(expected) if each]
        statistic += sum((counts[k] - expected[k]) ** 2 / expected[k] for k in possible)
        freedom += len(possible) - 1
    found.p_value = float(chdtrc(freedom, statistic))
    return found


def two_choices(in_flight: Sequence[int]) -> list[float]:
    """How often each replica is taken: of two different ones at random the one with fewer in flight, of
    equals the first drawn."""
    shares = [0.0] * len(in_flight)
    pairs = list(permutations(range(len(in_flight)), 2))
    for first, second in pairs:
        shares[first if in_flight[first] <= in_flight[second] else second] += 1 / len(pairs)
    return shares
