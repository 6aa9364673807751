"""Prompts with shared beginnings, as tokens and as text, and as a router of ours sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from simsched.workload.content import Stretch, contents, shared_stretches
from simsched.workload.trace import Trace

_BLOCK = 6  # tokens of a hash id
_FIRST, _SURROGATES = 0x3400, range(0xD800, 0xE000)


@dataclass(frozen=True)
class Prompt:
    """A request as a router sees it (`simsched.routers.base.RoutedRequest`), and what it says."""

    request_id: str
    num_prompt_tokens: int
    prefix: Sequence[Stretch]
    tokens: list[int]
    session_id: str | None = None
    arrival_time: float = 0.0
    score: float | None = None
    predicted_class: int | None = None
    predicted_length: float | None = None
    priority: int = 0
    tenant: str | None = None

    @property
    def text(self) -> str:
        """A character for each token; two are the same where their tokens are."""
        return "".join(map(_character, self.tokens))


def prompts(count: int, seed: int) -> list[Prompt]:
    """Prompts of 6 to some 150 tokens of which most go on from a part of an earlier one, some repeat one."""
    random = Random(seed)
    ids: list[tuple[int, ...]] = []
    lengths: list[int] = []
    fresh = iter(range(10_000_000))
    for number in range(count):
        kind = random.random()
        base: tuple[int, ...] = ()
        if number and kind < 0.8:
            base = ids[random.randrange(max(0, number - 60), number)]
            base = base[: random.randint(1, len(base))]
        more = 0 if base and kind < 0.15 else random.randint(1, 6)
        walk = (*base, *(next(fresh) for _ in range(more)))[:25]
        ids.append(walk)
        # the last block is often cut, so that prompts end within what others share
        lengths.append(len(walk) * _BLOCK - random.choice([0, 0, 1, 2, 3, 5]))
    trace = Trace(
        arrival_time=np.zeros(count),
        num_prompt_tokens=np.array(lengths),
        num_output_tokens=np.ones(count, dtype=np.int64),
        hash_ids=ids,
        hash_block_size=_BLOCK,
    )
    paths = contents(trace)
    assert paths is not None
    words: dict[tuple[int, int], int] = {}
    found = []
    for number, (path, prefix, length) in enumerate(
        zip(paths, shared_stretches(paths), lengths, strict=True)
    ):
        tokens, place = [], 0
        for node, end in path:
            stop = min(end, length)
            tokens += [words.setdefault((node, at), len(words)) for at in range(place, stop)]
            place = max(place, stop)
        found.append(Prompt(str(number), length, prefix, tokens, session_id=f"user-{random.randrange(200)}"))
    return found


def _character(token: int) -> str:
    point = _FIRST + token
    return chr(point if point < _SURROGATES.start else point + len(_SURROGATES))
