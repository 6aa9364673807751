"""A consistent-hash ring: a key keeps its replica, and few keys move when replicas are added."""

from __future__ import annotations

from bisect import bisect_left
from hashlib import blake2b


class HashRing:
    """Each replica stands at `virtual_nodes` points of a ring; a key belongs to the next point after its own.

    Which point a key has depends on the hash function, so single placements differ from those of routers that
    hash otherwise (vllm-router: MurmurHash64A of worker URLs); how evenly keys are spread does not.
    """

    def __init__(self, num_replicas: int, virtual_nodes: int) -> None:
        points = sorted(
            (_point(f"replica-{replica}:{node}"), replica)
            for replica in range(num_replicas)
            for node in range(virtual_nodes)
        )
        self._points = [point for point, _ in points]
        self._replicas = [replica for _, replica in points]

    def owner(self, key: str) -> int:
        """The replica of this key."""
        at = bisect_left(self._points, _point(key))
        return self._replicas[at % len(self._replicas)]


def _point(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
