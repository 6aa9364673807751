"""A consistent-hash ring: a key keeps its replica, and few keys move when replicas are added."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import blake2b


def _point(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")


class HashRing:
    """Each replica stands at `virtual_nodes` points of a ring; a key belongs to the next point after its own.

    Which point a key has depends on the hash function and on the replicas' names, so single placements differ
    from those of a router that hashes or names otherwise; how evenly keys are spread does not.
    """

    def __init__(
        self,
        num_replicas: int,
        virtual_nodes: int,
        *,
        names: Sequence[str] | None = None,
        point: Callable[[str], int] = _point,
    ) -> None:
        """
        Args:
            names: of the replicas; None: `replica-0`, `replica-1`, ...
            point: the hash function, of a key and of a replica's name with the number of its point.
        """
        names = [f"replica-{replica}" for replica in range(num_replicas)] if names is None else names
        self._point = point
        # where two stand at one point, the last one does
        owners = {
            point(f"{name}:{node}"): replica
            for replica, name in enumerate(names)
            for node in range(virtual_nodes)
        }
        self._points = sorted(owners)
        self._replicas = [owners[at] for at in self._points]

    def owner(self, key: str) -> int:
        """The replica of this key."""
        at = bisect_left(self._points, self._point(key))
        return self._replicas[at % len(self._replicas)]
