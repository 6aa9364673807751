"""vLLM's waiting queue in the order of a policy."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request


class PolicyQueue(RequestQueue):  # type: ignore[misc]  # vLLM is untyped here
    """A list kept sorted by `key(request)`; a request that is put back takes its place in the order."""

    def __init__(self, key: Callable[[Request], Any]) -> None:
        self._key = key
        self._requests: list[Request] = []

    def resort(self) -> None:
        """Keys have changed: sort again."""
        self._requests.sort(key=self._key)

    def add_request(self, request: Request) -> None:
        insort(self._requests, request, key=self._key)

    def prepend_request(self, request: Request) -> None:
        self.add_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.add_request(request)

    def pop_request(self) -> Request:
        return self._requests.pop(0)

    def peek_request(self) -> Request:
        return self._requests[0]

    def remove_request(self, request: Request) -> None:
        self._requests.remove(request)

    def remove_requests(self, requests: Iterable[Request]) -> None:
        gone = {id(request) for request in requests}
        self._requests = [request for request in self._requests if id(request) not in gone]

    def __bool__(self) -> bool:
        return bool(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)
