"""The policy contract: an ordering of requests, with optional memory, and optional decisions beyond order.

A policy owns no queue, clock or KV blocks, and has no per-step loop. The same object, unchanged, runs in
the simulator and inside vLLM's own scheduler. Lower priorities are served first; the scheduler breaks ties
by arrival time, then by arrival number.

A policy is a dataclass, so its parameters are typed fields with bounds:

    @register("ranking")
    @dataclass
    class Ranking(Policy):
        reads = "score"

        def priority(self, request, now):
            return request.score
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, NamedTuple

from simsched.policies.engine_view import EngineView
from simsched.request import RequestView

Priority = float | tuple[float, ...]
Moved = Iterable[str] | None
"""Ids of other requests whose priorities, or announced changes, are other ones now."""
Reads = Literal["score", "predicted_class", "predicted_length", "length_quantiles"]


class Change(NamedTuple):
    """When `priority()` of a request may next differ, counted from now; the earliest of what is given.

    The scheduler asks again after every `on_*` call, and each time the request starts or stops running, so
    `after_steps_idle` need only look at the current idle spell.
    """

    after_service: float | None = None
    """Seconds of attained service (steps in which it ran); it fires once the service is *greater*."""
    after_steps_run: int | None = None
    """Steps in which it ran (for a decode: tokens)."""
    after_steps_idle: int | None = None
    """Consecutive steps in which it was unfinished and not run."""
    after_time: float | None = None
    """Seconds on the clock."""
    while_running: Literal["none", "improves", "any"] = "none"
    """Drift between those points while it runs; "improves" never lets a waiting request overtake it."""


NEVER = Change()
EVERY_STEP = Change(after_steps_run=1, after_steps_idle=1, while_running="any")

Verdict = Literal["admit", "reject"]
ADMIT: Final = "admit"
REJECT: Final = "reject"


class Hold(NamedTuple):
    """`admit` says: not yet."""

    change: Change


def hold(change: Change = NEVER) -> Hold:
    """The request waits outside; `admit` is asked again when the change has come (of a waiting request:
    `after_steps_idle`, `after_time`), or as soon as a request has finished or was preempted."""
    return Hold(change)


Decision = Verdict | Hold

HOOKS: Final = ("admit", "victim", "token_budget", "chunk")
"""Decisions beyond order, each a method of `Policy` that a policy may override."""


@dataclass(eq=False)
class Policy(ABC):
    """Orders requests. Subclasses are dataclasses (`pydantic.dataclasses.dataclass`)."""

    preemptive: bool = True
    """May a waiting request displace a running one?"""

    name: ClassVar[str] = ""
    reads: ClassVar[Reads | None] = None
    """The predicted column it reads; None if it reads none."""
    predictor: ClassVar[Literal["oracle", "trace"]] = "trace"
    """Where that column comes from when nothing else is said: the oracle, or the trace (else emulated)."""
    drift_per_token: ClassVar[float | None] = None
    """By how much each token that a request generates moves its priority, if that is all that moves it."""
    builtin: ClassVar[Literal["fcfs", "priority", "mlfq"] | None] = None
    """The queue of some engine's own that serves in just this order. A subclass with methods has none."""
    predicts_itself: ClassVar[bool] = False
    """Does the model guess its own length as it answers, so that no predictor takes time?"""
    orders_by: ClassVar[tuple[str, ...]] = ()
    """Columns of the trace that it orders by; where one is missing, all requests are equal in it."""
    asks_for: ClassVar[tuple[str, ...]] = ()
    """Columns of the trace in which requests may say what they ask for; where none of them is there, the
    policy's own parameters hold for all requests."""
    is_watched: ClassVar[bool] = False
    """Does it come from outside, so that what it promises is checked as it runs?"""
    reads_cache: ClassVar[bool] = False
    """Does it read `num_cached_tokens`? Then the cache is looked up for all that wait before each step that
    may admit one, and a request whose number has changed is asked for its priority again."""
    reads_prompts: ClassVar[bool] = False
    """Does it read `prompt_blocks`?"""
    reads_sessions: ClassVar[bool] = False
    """Does it read `session_service`, `session_wait` or `critical_path_service`? When a turn is done, the
    others of its session are asked again."""
    shares_state: ClassVar[bool] = False
    """Do requests share what it remembers, so that what happens to one may move others? Then its `on_*` calls
    come when things happen, never later, and each may return the ids of the others that have moved: they are
    asked again before the next step. What is not named has not moved. False: each remembers its own."""
    holds_the_line: ClassVar[bool] = False
    """Does a request that `admit` holds also hold everybody behind it, unasked?"""

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that it has read: their hashes go into the manifest."""
        return ()

    def on_arrival(self, request: RequestView, now: float) -> Moved:
        """The request has been added to the waiting queue."""

    @abstractmethod
    def priority(self, request: RequestView, now: float) -> Priority:
        """Its place in the order; lower first. Pure: it changes nothing."""

    def next_change(self, request: RequestView, now: float) -> Change:
        """When `priority()` may next differ. Pure. The default is right for any policy, and slow."""
        return EVERY_STEP

    def on_change(self, request: RequestView, now: float) -> Moved:
        """The announced change has come: move what is remembered of this request (a level, a promotion).

        While nobody waits, the simulator puts this off for a running request until its place matters, and
        then turns the view's clocks and `now` back to the moment; one that is done first is not told
        (unless the policy `shares_state`).
        """

    def advance(self, request: RequestView, now: float) -> tuple[Priority, Change]:
        """`on_change`, then what `priority` and `next_change` say: the simulator's one call when a change has
        come. A policy may override it to save work. A subclass that overrides one of the three without this
        one gets it as it is here."""
        self.on_change(request, now)
        return self.priority(request, now), self.next_change(request, now)

    def named_classes(self) -> Collection[str]:
        """Classes of requests that its parameters name; a run says so where the trace has none of one."""
        return ()

    def changes_while_waiting(self) -> bool:
        """May a request be announced `after_steps_idle` or `after_time`? If not, the simulator does not ask
        `next_change` of requests that wait."""
        return True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name for name, value in vars(cls).items() if callable(value) and not name.startswith("__")}
        if own and "builtin" not in vars(cls):
            cls.builtin = None
        if {"on_change", "priority", "next_change"} & vars(cls).keys():
            for shortcut in ("advance", "changes_while_waiting"):
                if shortcut not in vars(cls):  # an inherited one knows nothing of what is new here
                    setattr(cls, shortcut, getattr(Policy, shortcut))

    def on_preempt(self, request: RequestView, now: float) -> Moved:
        """It lost its place in the batch and its KV blocks."""

    def on_queue(self, waiting: Sequence[RequestView], now: float) -> Moved:
        """A step is to be formed which may admit one of these. Returns the ids of those that have moved.

        Asked before their priorities are, of all that wait (held ones too), in order of arrival, and once
        `num_cached_tokens` is up to date. What it sets has to hang on who waits and what the cache holds of
        them, and on nothing that it has set before: it need not be asked where nobody can be admitted. Who
        is not in the list has not moved.
        """

    def on_finish(self, request: RequestView, now: float) -> Moved:
        """It is done, or was rejected; forget it. Those done at one time come in no order."""

    # Decisions beyond order. An engine asks only those that a policy overrides, all between two steps.

    def admit(self, request: RequestView, engine: EngineView) -> Decision:
        """May this waiting request be served? `ADMIT`, `REJECT` for good, or `hold(change)`.

        Asked before `schedule()`, in order, of whoever has arrived or was preempted since; `engine.let_in`
        counts those let in before. Who is let in waits for a place, tokens and blocks as anyone does, and is
        not asked about again unless it is preempted. Where nothing runs and all are held, the first of them
        is let in all the same, so that nothing hangs.
        """
        return ADMIT

    def victim(self, candidates: Sequence[RequestView], engine: EngineView) -> RequestView:
        """KV blocks have run short: which of these is preempted? They are the running requests that the
        walk through the step has not served yet; the first is the one that blocks are short for. If it is its
        own victim, the walk ends. The lists of waiting requests are as before the first victim of the step.
        """
        return candidates[-1]

    def token_budget(self, engine: EngineView) -> int:
        """The most tokens of the next step, in place of `max_num_scheduled_tokens`; at least 1, and cut to
        the engine's own. Asked only if the step may compute more than decodes: a running request has more
        than one token to compute, or someone waits who is not held, and there is a place (or, where the
        policy is preemptive, might be). Needs chunked prefill."""
        return engine.max_num_batched_tokens

    def chunk(self, engine: EngineView) -> int:
        """The most tokens of a request in the next step, in place of `long_prefill_token_threshold` (0: no
        cap). Asked when `token_budget` is; needs chunked prefill."""
        return engine.long_prefill_token_threshold


def hooks_of(policy: Policy) -> frozenset[str]:
    """Which decisions beyond order it takes, of `HOOKS`; those of the policy it wraps, if it wraps one."""
    cls = type(getattr(policy, "inner", policy))
    return frozenset(name for name in HOOKS if getattr(cls, name) is not getattr(Policy, name))


def sees_queue(policy: Policy) -> bool:
    """Is it told of the queue before steps (`on_queue`)?"""
    inner: Policy = getattr(policy, "inner", policy)
    return type(inner).on_queue is not Policy.on_queue


_registry: dict[str, type[Policy]] = {}


def register(name: str) -> Callable[[type[Any]], type[Any]]:
    """Class decorator: make the policy available as `--policy NAME`.

    Raises:
        ValueError: another module's policy has this name.
    """

    def add(cls: type[Any]) -> type[Any]:
        if name in _registry and _registry[name].__module__ != cls.__module__:
            raise ValueError(f"there is a policy {name} already")
        cls.name = name
        _registry[name] = cls
        return cls

    return add


def registered() -> dict[str, Any]:
    """The built-in policies by name."""
    return dict(_registry)
