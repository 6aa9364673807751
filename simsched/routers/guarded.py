"""What a user's own router is shown: what the contract names, to be read, and nothing else.

Routers of ours get the engine's own objects, which hold more. Behind these guards they choose alike, as tests
see to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

from simsched.routers.base import CachedBlocks, Replicas, Reporting, RoutedRequest
from simsched.workload.content import Stretch

SEEN: Final = tuple(name for name in vars(RoutedRequest) if not name.startswith("_"))


class SeenRequest:
    """A request, without all that no router knows: the length of its answer above all."""

    __slots__ = ("_answered", "_request")

    _answered: bool
    _request: RoutedRequest

    def __init__(self, request: RoutedRequest, answered: bool) -> None:
        """`answered`: then its prefix goes on into its answer, where others share that."""
        object.__setattr__(self, "_request", request)
        object.__setattr__(self, "_answered", answered)

    @property
    def prefix(self) -> Sequence[Stretch]:
        whole = self._request.prefix
        length = self._request.num_prompt_tokens
        if self._answered or not whole or whole[-1].end <= length:
            return whole
        seen: list[Stretch] = []
        for node, end in whole:
            seen.append(Stretch(node, min(end, length)))
            if end >= length:
                break
        return seen

    def __getattr__(self, name: str) -> Any:
        if name in SEEN:
            return getattr(self._request, name)
        raise AttributeError(f"a router does not see {name} of a request; expected one of {', '.join(SEEN)}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a router sets {name} of a request; expected it to be read alone")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeenRequest) and bool(self.request_id == other.request_id)

    def __hash__(self) -> int:
        return hash(self.request_id)

    def __repr__(self) -> str:
        return f"<request {self.request_id}>"


class SeenReplicas:
    """The replicas, without what the router has not asked to be told."""

    __slots__ = ("_asked", "_replicas")

    _asked: set[str]
    _replicas: Replicas

    def __init__(self, replicas: Replicas, reporting: Reporting, reads_future: bool) -> None:
        told = {"in_flight"}
        if reporting.mode != "never":
            told |= {"waiting", "running", "kv_usage", "num_reports"}
        if reads_future:
            told.add("remaining_work")
        object.__setattr__(self, "_replicas", replicas)
        object.__setattr__(self, "_asked", told)

    def __len__(self) -> int:
        return len(self._replicas)

    @property
    def blocks(self) -> CachedBlocks | None:
        blocks = self._replicas.blocks
        return None if blocks is None else SeenBlocks(blocks)

    def __getattr__(self, name: str) -> Any:
        if name in self._asked:
            value = getattr(self._replicas, name)
            return tuple(value) if isinstance(value, list) else value
        if name == "remaining_work":
            raise AttributeError("only a router with reads_future = True is told remaining_work")
        if name in ("waiting", "running", "kv_usage", "num_reports"):
            raise AttributeError(f"a router is told {name} if its reporting() says how old reports are")
        raise AttributeError(f"nothing is known of the replicas' {name}; expected one of {', '.join(FIELDS)}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a router sets {name} of the replicas; expected it to be read alone")


FIELDS: Final = tuple(Replicas.__dataclass_fields__)


class SeenBlocks:
    """The index of KV events, asked about requests as they are shown."""

    __slots__ = ("_blocks",)

    def __init__(self, blocks: CachedBlocks) -> None:
        self._blocks = blocks

    def matched_by(self, request: Any) -> list[int]:
        """How many of a prompt's first tokens each replica has, in whole blocks, as far as is known."""
        return self._blocks.matched_by(request._request if isinstance(request, SeenRequest) else request)
