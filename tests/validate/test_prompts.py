"""Prompts as token ids: equal where the trace says so, real answers in their place."""

from __future__ import annotations

import numpy as np

from simsched.workload.trace import Trace
from validate.prompts import TokenIds


def test_a_prompt_goes_on_from_the_real_answer() -> None:
    trace = Trace(
        np.zeros(4), np.array([10, 20, 30, 16]), np.array([5, 4, 3, 2]), session_id=["a", "a", "a", None],
        parent=[(), (), (), ("0",)], history_length=np.array([-1, -1, 12, 13]),
    )  # fmt: skip
    tokens = TokenIds(trace, 1000)
    said = [901, 902, 903, 904, 905]
    before = [tokens.prompt(row) for row in range(4)]
    tokens.answered(0, said)
    after = [tokens.prompt(row) for row in range(4)]
    assert after[0] == before[0]
    assert after[1] == [*before[0], *said, *before[1][15:]]
    assert after[2][:12] == after[1][:12]  # as much of it as the trace says
    assert after[3] == [*before[0], *said[:3], *before[3][13:]]
    tokens.answered(1, [1, 2, 3, 4])
    assert tokens.prompt(2) == after[2]
    assert tokens.all(1) == [*after[1], 1, 2, 3, 4]


def test_hash_ids_name_an_answer_by_the_turn_that_goes_on_from_it() -> None:
    trace = Trace(
        np.zeros(2), np.array([6, 14]), np.array([6, 2]), request_id=["x", "y"], parent=[(), ("x",)],
        hash_ids=[(7, 8), (7, 8, 9, 10)], hash_block_size=4,
    )  # fmt: skip
    tokens = TokenIds(trace, 1000)
    before = tokens.prompt(1)
    tokens.answered(0, [901, 902, 903, 904, 905, 906])
    assert tokens.prompt(0) == before[:6]
    assert tokens.prompt(1) == [*before[:6], 901, 902, 903, 904, 905, 906, *before[12:]]
