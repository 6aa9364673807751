"""vLLM's waiting queue in the order of a policy."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from operator import attrgetter

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request

KEY = attrgetter("simsched_view.key")
"""A request's place in the order; no two are equal."""


class PolicyQueue(RequestQueue):  # type: ignore[misc]  # vLLM is untyped here
    """A list kept sorted by `KEY`; a request that is put back takes its place in the order."""

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def resort(self) -> None:
        """Keys have changed: sort again."""
        self._requests.sort(key=KEY)

    def add_request(self, request: Request) -> None:
        request.simsched_view.queued = True
        insort(self._requests, request, key=KEY)

    def prepend_request(self, request: Request) -> None:
        self.add_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.add_request(request)

    def pop_request(self) -> Request:
        request = self._requests.pop(0)
        request.simsched_view.queued = False
        return request

    def peek_request(self) -> Request:
        return self._requests[0]

    def remove_request(self, request: Request) -> None:
        requests = self._requests
        place = bisect_left(requests, KEY(request), key=KEY)
        if place == len(requests) or requests[place] is not request:  # keys have changed since the last sort
            place = next(index for index, each in enumerate(requests) if each is request)
        del requests[place]
        request.simsched_view.queued = False

    def remove_requests(self, requests: Iterable[Request]) -> None:
        gone = {id(request) for request in requests}
        for request in self._requests:
            if id(request) in gone:
                request.simsched_view.queued = False
        self._requests = [request for request in self._requests if id(request) not in gone]

    def __bool__(self) -> bool:
        return bool(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)
