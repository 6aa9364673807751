"""SGLang's `dfs-weight`: walk the tree of cached prefixes, and where most requests wait first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView

_RUNS_AT_ONCE = Change(after_steps_run=1)


@register("dfs-weight")
@dataclass(eq=False)
class DfsWeight(Policy):
    """Requests whose cached prefixes are the same are served together, so that these stay in the cache
    (SGLang's `--schedule-policy dfs-weight`).

    The cached prefixes of all that wait form a tree. It is walked depth first, at each node into the child
    below which most requests wait, and those whose prefix ends at the node come after its children. Where as
    many wait, the child with the earliest request is first (in SGLang the one that was cached first), and at
    a node the earliest request. So requests without anything in the cache come last. Only the queue is
    ordered; who has run goes first, in order of arrival, also back in the queue.
    """

    preemptive: bool = False

    reads_cache = True
    reads_prompts = True

    def __post_init__(self) -> None:
        self._ranks: dict[str, int] = {}  # of who is admitted, that which it was admitted with

    def on_queue(self, waiting: Sequence[RequestView], now: float) -> Iterable[str]:
        ranks = {each.request_id: rank for rank, each in enumerate(walk(waiting))}
        moved = [name for name, rank in ranks.items() if self._ranks.get(name) != rank]
        self._ranks.update(ranks)
        return moved

    def priority(self, request: RequestView, now: float) -> tuple[int, float]:
        if request.steps_run:
            return 0, request.arrival_time
        return 1, self._ranks.get(request.request_id, 0)

    def next_change(self, request: RequestView, now: float) -> Change:
        return NEVER if request.steps_run else _RUNS_AT_ONCE

    def changes_while_waiting(self) -> bool:
        return False

    def on_finish(self, request: RequestView, now: float) -> None:
        self._ranks.pop(request.request_id, None)


def walk(waiting: Sequence[RequestView]) -> list[RequestView]:
    """These requests, in order of arrival, in that of the walk."""
    paths = [_cached(request) for request in waiting]
    weights: Counter[Hashable] = Counter()
    earliest: dict[Hashable, int] = {}
    for place, path in enumerate(paths):
        weights.update(path)
        for node in path:
            earliest.setdefault(node, place)

    def way(place: int) -> list[tuple[int, int]]:
        """The nodes on the way to a request, but for those that are the only way on; then its own place."""
        found = []
        above = len(waiting)
        for node in paths[place]:
            weight = weights[node]
            if weight < above:
                found.append((-weight, earliest[node]))
                above = weight
        return [*found, (1, place)]

    return [waiting[place] for place in sorted(range(len(waiting)), key=way)]


def _cached(request: RequestView) -> list[Hashable]:
    """Names of the blocks of its prompt that are in the cache."""
    blocks = request.prompt_blocks
    cached = request.num_cached_tokens // blocks.block_size
    return [blocks[block] for block in range(min(cached, len(blocks)))]
