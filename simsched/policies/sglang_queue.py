"""What SGLang does to its queue beside the order: first come, first served where it is long, and one request
at a time of those that share a prefix which is not cached (`schedule_policy.py`)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from enum import Enum
from math import inf

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import Policy
from simsched.request import RequestView


class _Group(Enum):
    """Where a request stands in the queue."""

    SORTED = "by its key"
    LAST = "behind those, in order of arrival"
    IN_ORDER = "in order of arrival, as all do"


@dataclass(eq=False)
class SGLangQueue(Policy):
    """A policy that SGLang gives up for first come, first served while the queue is long.

    SGLang sorts the queue in place, so that its requests that were put off stay behind later ones when the
    sorting ends, and come last when it looks who shares a prefix; here both are in order of arrival.
    """

    preemptive: bool = False
    longest_queue: float = Field(default=128, ge=0)
    """Requests; while more wait, they are served in order of arrival. inf: never."""
    in_batch_check: int = Field(default=32, ge=-1)
    """Tokens; who has no more of its prompt in the cache is looked at for what it shares with others that
    wait. -1: nobody is."""
    in_batch_shared: int = Field(default=32, ge=1)
    """Tokens; who shares as many of its prompt with one of these that came before it comes last."""

    reads_cache = True
    reads_prompts = True

    def __post_init__(self) -> None:
        self._groups: dict[str, _Group] = {}  # of who is admitted, that which it was admitted in

    def on_queue(self, waiting: Sequence[RequestView], now: float) -> Iterable[str]:
        if len(waiting) > self.longest_queue:
            groups = dict.fromkeys((each.request_id for each in waiting), _Group.IN_ORDER)
        else:
            last = self._sharing(waiting) if self.in_batch_check >= 0 else ()
            groups = {
                each.request_id: _Group.LAST if each.request_id in last else _Group.SORTED for each in waiting
            }
        moved = [name for name, group in groups.items() if self._group(name) != group]
        self._groups.update(groups)
        return moved

    def _group(self, name: str) -> _Group:
        return self._groups.get(name, _Group.SORTED)

    def _sharing(self, waiting: Sequence[RequestView]) -> set[str]:
        """Those that share a prefix which is not cached with one before them that does not.

        Two prompts are the same up to a block if the block has the same name in both, so one block tells.
        """
        found = set()
        heads: set[Hashable] = set()
        for request in waiting:
            if request.num_cached_tokens > self.in_batch_check:
                continue
            blocks = request.prompt_blocks
            last = -(-self.in_batch_shared // blocks.block_size) - 1
            if last >= len(blocks):
                continue
            if blocks[last] in heads:
                found.add(request.request_id)
            else:
                heads.add(blocks[last])
        return found

    def place(self, request: RequestView, key: float) -> tuple[int, float]:
        """Its place in the order, if it waits by this key. Who has run goes first, also back in the queue."""
        if request.steps_run:
            return 0, request.arrival_time
        group = self._group(request.request_id)
        if group == _Group.IN_ORDER:
            return 1, request.arrival_time
        return 1, inf if group == _Group.LAST else key

    def on_finish(self, request: RequestView, now: float) -> None:
        self._groups.pop(request.request_id, None)
