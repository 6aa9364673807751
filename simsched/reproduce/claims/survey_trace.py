"""The survey's requests: one service whose requests carry everything that any policy reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from simsched.workload.named import named_workload
from simsched.workload.trace import Trace

TENANTS: Final = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}
"""Each one's share of the sessions."""
CHAT: Final = 0.75
"""The share of sessions of class `chat`; the others are `batch`, which can wait."""
LIMITS: Final = {"chat": (1.0, 0.05, 30.0), "batch": (30.0, 0.1, 300.0)}
"""Seconds that are asked of a request, by class: to its first token, for each further one, to its end."""
SYSTEM: Final = 512
"""Tokens that all prompts of a tenant begin with."""
DOCUMENT: Final = 1024
"""Tokens of a document, which all prompts of a session have behind those."""
DOCUMENTS: Final = 150
"""Of each tenant; the k-th is asked about in proportion to 1 / k."""
BLOCK: Final = 512
"""Tokens that a hash id stands for."""
TURNS: Final = 3.0
"""Of a session, in the mean (geometric)."""
BETWEEN: Final = 300.0
"""Requests of others between two of its turns, in the mean (exponential)."""
_RUN_IN: Final = 3000.0  # requests, until as many sessions end as begin


class _Turn(NamedTuple):
    at: float
    session: int
    tenant: int
    kind: str
    ids: tuple[int, ...]


def survey_trace(num_requests: int) -> Trace:
    """So many questions about documents, ShareGPT-like in their own tokens and in their answers.

    A prompt is its tenant's system prompt, its session's document and the question. Turns wait for nobody's
    answer, so all policies meet the same requests at the same times; times are drawn anew for each run.
    """
    lengths = named_workload("sharegpt").generate(num_requests, 1.0, seed=5)
    turns = sorted(turn for turn in _turns(_RUN_IN + 1.5 * num_requests) if turn.at >= _RUN_IN)
    turns = turns[:num_requests]
    prompts = SYSTEM + DOCUMENT + lengths.num_prompt_tokens
    own = len(TENANTS) * (1 + DOCUMENTS * DOCUMENT // BLOCK)  # ids from here on are of one prompt alone
    hash_ids = []
    for turn, prompt in zip(turns, prompts.tolist(), strict=True):
        more = math.ceil(prompt / BLOCK) - len(turn.ids)
        hash_ids.append((*turn.ids, *range(own, own + more)))
        own += more
    limits = np.array([LIMITS[turn.kind] for turn in turns])
    return Trace(
        np.zeros(num_requests), prompts, lengths.num_output_tokens,
        session_id=[f"s{turn.session}" for turn in turns],
        tenant=[list(TENANTS)[turn.tenant] for turn in turns],
        request_class=[turn.kind for turn in turns],
        priority=np.array([int(turn.kind == "batch") for turn in turns], dtype=np.int64),
        slo_ttft=limits[:, 0], slo_tpot=limits[:, 1], deadline=limits[:, 2],
        hash_ids=hash_ids, hash_block_size=BLOCK,
    )  # fmt: skip


def _turns(until: float) -> Iterator[_Turn]:
    """Session by session, of all that start before `until`, where time counts requests."""
    random = np.random.default_rng(5)
    popular = 1 / np.arange(1, DOCUMENTS + 1)
    start, session, blocks = 0.0, 0, DOCUMENT // BLOCK
    while (start := start + float(random.exponential(TURNS))) < until:
        tenant = int(random.choice(len(TENANTS), p=list(TENANTS.values())))
        document = tenant * DOCUMENTS + int(random.choice(DOCUMENTS, p=popular / popular.sum()))
        first = len(TENANTS) + blocks * document
        kind = "chat" if random.random() < CHAT else "batch"
        at = start
        for _ in range(int(random.geometric(1 / TURNS))):
            yield _Turn(at, session, tenant, kind, (tenant, *range(first, first + blocks)))
            at += float(random.exponential(BETWEEN))
        session += 1
