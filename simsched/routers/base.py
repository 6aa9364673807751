"""The router contract: which replica serves a request, decided when the request arrives, from what a real
router would know.

A router sees a request's prompt, never its answer's length, and of the replicas no more than reaches a real
router: its own count of the requests in flight is exact; what the engines report of themselves is as old as
their last message (`Reporting`). What it believes of their caches it must remember itself.

A router is a dataclass, so its parameters are typed fields with bounds:

    @register("least-requests")
    @dataclass(eq=False)
    class LeastRequests(Router):
        def choose(self, request, replicas, now):
            return replicas.in_flight.index(min(replicas.in_flight))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from simsched.workload.content import Stretch


class RoutedRequest(Protocol):
    """A request as a router sees it."""

    @property
    def request_id(self) -> str: ...
    @property
    def arrival_time(self) -> float:
        """Seconds on the run's clock."""

    @property
    def num_prompt_tokens(self) -> int: ...
    @property
    def score(self) -> float | None:
        """Predicted rank; lower = expected shorter."""

    @property
    def predicted_class(self) -> int | None: ...
    @property
    def predicted_length(self) -> float | None:
        """Predicted number of output tokens."""

    @property
    def priority(self) -> int: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def prefix(self) -> Sequence[Stretch]:
        """The beginning that other requests share, as stretches: two requests with the same node are the same
        up to there. It may go on into the answer, which no router knows. Empty where nothing is shared."""


class CachedBlocks(Protocol):
    """An index of the engines' KV events."""

    def matched_by(self, request: Any) -> list[int]:
        """How many of a prompt's first tokens each replica has, in whole blocks, as far as is known."""


@dataclass(slots=True)
class Replicas:
    """What is known of the replicas, a list with one entry each; a router only reads it."""

    in_flight: list[int]
    """Requests sent there that are not finished: the router's own count, exact."""
    waiting: list[int]
    """Requests in the replica's queue, preempted ones too, as last reported."""
    running: list[int]
    """Requests in its batch, as last reported."""
    kv_usage: list[float]
    """Share of its KV blocks that requests hold, as last reported; cached ones that nobody holds are free."""
    num_reports: int = 0
    """Messages so far; a router that adjusts reported counts starts anew with each."""
    blocks: CachedBlocks | None = None
    """What the engines have published of their prefix caches; only for a router that asks for it."""
    remaining_work: list[float] = field(default_factory=list)
    """True tokens left to compute on each; only for a router whose `reads_future` is set (a limit, not a
    router that one could run)."""

    @classmethod
    def idle(cls, count: int) -> Replicas:
        """So many replicas with nothing to do."""
        nothing = [0.0] * count
        return cls([0] * count, [0] * count, [0] * count, nothing, remaining_work=list(nothing))

    def __len__(self) -> int:
        return len(self.in_flight)


class Reporting(NamedTuple):
    """When what the engines report of themselves reaches the router."""

    mode: Literal["never", "scraped", "on-change"] = "never"
    """`scraped`: at every multiple of `interval`, the counts of that moment (a metrics endpoint is polled).
    `on-change`: when a count has changed and `interval` has passed since the last message (vLLM's
    data-parallel coordinator), and after `keep_alive` without a change."""
    interval: float = 0.0
    """Seconds; 0 with `scraped`: always the counts of the moment."""
    keep_alive: float = 5.0
    """Seconds after which unchanged counts are sent again."""
    block_events: float | None = None
    """Seconds from an engine's publishing which blocks it has cached, hit or thrown out (vLLM's KV events,
    after each step) to the router's knowing; None: it is not told. Such a run goes step by step."""
    engines_report: bool = True
    """False: messages come and say 0 (dense engines of vLLM before 0.27)."""


NO_REPORTS = Reporting()


@dataclass(eq=False)
class Router(ABC):
    """Chooses a replica for each request. Subclasses are dataclasses (`pydantic.dataclasses.dataclass`)."""

    name: ClassVar[str] = ""
    is_own: ClassVar[bool] = False
    """Is it a user's own?"""
    reads: ClassVar[Literal["score", "predicted_class", "predicted_length"] | None] = None
    """The predicted column it reads; None if it reads none."""
    routes_by: ClassVar[tuple[str, ...]] = ()
    """Columns of a trace without which it has nothing to go by, which a run then says."""
    reads_future: ClassVar[bool] = False
    """Is it told the true work that is left (a limit for others)?"""
    looks_at_replicas: ClassVar[bool] = True
    """Does `choose` look at more than the requests and their order? If not, each replica is simulated by
    itself, which is several times faster. A subclass with methods of its own has to say so anew."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name for name, value in vars(cls).items() if callable(value) and not name.startswith("__")}
        if own and "looks_at_replicas" not in vars(cls):
            cls.looks_at_replicas = True

    def start(self, num_replicas: int, seed: int) -> None:
        """A run begins; forget the last one. `random` is seeded here."""
        self.random = Random(seed)

    def reporting(self) -> Reporting:
        """Which reports it needs, and how old they are."""
        return NO_REPORTS

    @abstractmethod
    def choose(self, request: RoutedRequest, replicas: Replicas, now: float) -> int:
        """The replica, 0 to len(replicas) - 1, that this request goes to. Called once for each request, in
        order of arrival; what finishes at `now` is out of `in_flight` already."""

    def on_first_token(self, request: RoutedRequest, replica: int, now: float) -> None:
        """The first token of its answer has come back, so its prompt has been computed."""

    def on_finish(self, request: RoutedRequest, replica: int, now: float) -> None:
        """The answer has come back from this replica."""


_registry: dict[str, type[Router]] = {}


def register(name: str) -> Callable[[type[Any]], type[Any]]:
    """Class decorator: make the router available as `--router NAME`.

    Raises:
        ValueError: another module's router has this name.
    """

    def add(cls: type[Any]) -> type[Any]:
        if name in _registry and _registry[name].__module__ != cls.__module__:
            raise ValueError(f"there is a router {name} already")
        cls.name = name
        _registry[name] = cls
        return cls

    return add


def registered() -> dict[str, type[Router]]:
    """The built-in routers by name."""
    return dict(_registry)


def least(values: Sequence[float]) -> int:
    """The first of the smallest."""
    return values.index(min(values))


def below(random: Random, count: int) -> int:
    """`random.randrange(count)`, the same number in half the time: bits are drawn until they are in range."""
    draw, bits = random.getrandbits, count.bit_length()
    number = draw(bits)
    while number >= count:
        number = draw(bits)
    return number
