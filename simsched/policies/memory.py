"""How much KV memory requests will need, if they are as long as predicted."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, inf
from operator import itemgetter

from simsched.policies.engine_view import EngineView
from simsched.request import RequestView


def peak_tokens(requests: Iterable[tuple[int, int]]) -> int:
    """The most KV tokens that these need at once, until the last is done.

    Each is (tokens now, tokens still to come), and gets one in every step. What they hold together is
    greatest as one of them ends, so in order of falling remainders it is the maximum over i of the tokens
    of the first i plus i times what the i-th has to come.
    """
    most = tokens = 0
    for count, (now, left) in enumerate(sorted(requests, key=itemgetter(1), reverse=True), 1):
        tokens += now
        if tokens + count * left > most:
            most = tokens + count * left
    return most


def predicted_length(request: RequestView) -> float:
    """Tokens that it is predicted to generate."""
    length = request.predicted_length
    return inf if length is None else length


def demand(request: RequestView, length: float, most: int) -> tuple[int, int]:
    """(tokens now, tokens still to come) of a request of so many output tokens, or one more than it has; no
    more than `most` in all."""
    generated = request.num_output_tokens
    now = request.num_prompt_tokens + generated
    left = most if length == inf else ceil(length) - generated
    return now, max(1, min(left, most - now))


def demands(requests: Iterable[RequestView], most: int) -> list[tuple[int, int]]:
    """Those of several, as long as predicted; written out, for it is asked of all that run."""
    found = []
    for each in requests:
        generated, length = each.num_output_tokens, each.predicted_length
        now = each.num_prompt_tokens + generated
        left = most if length is None or length == inf else ceil(length) - generated
        if left > most - now:
            left = most - now
        found.append((now, left if left > 1 else 1))
    return found


class Promised:
    """What those who are let in were predicted to need on top, in one sum.

    It tells where there is room for all of it at once, as most often, without a look at each request.
    """

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._sum = 0

    def let_in(self, request: RequestView, left: int) -> None:
        """It is let in, and is predicted to generate so many tokens from now on, at least one."""
        self._of[request.request_id] = left
        self._sum += left

    def left(self, request: RequestView) -> None:
        """It has finished, or lost its place."""
        self._sum -= self._of.pop(request.request_id, 0)

    def fits_anyway(self, need: int, engine: EngineView) -> bool:
        """Are so many tokens free, and all that were promised?"""
        if engine.num_let_in:  # they hold no blocks yet, and who is in its prefill holds some
            if engine.num_decodes < engine.num_running:
                return False
            need += sum([each.num_prompt_tokens + each.num_output_tokens for each in engine.let_in])
        return need + self._sum <= engine.num_free_blocks * engine.block_size
