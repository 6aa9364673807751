"""What a policy sees of a request in the fork's engine, computed when asked."""

from __future__ import annotations

from simsched.engine.arrival import Arrival
from simsched.engine.facts import WithFacts
from simsched.engine.prompt_blocks import NamedBlocks
from simsched.engine.vllm_ltr.sorted_walk import SortedWalk


class Spells:
    """What each request has had, by number, before its current spell of running or idling."""

    def __init__(self) -> None:
        self.service: list[float] = []
        """Seconds of steps in which it ran."""
        self.steps_run: list[int] = []
        self.changed_step: list[int] = []
        """When it last started or stopped running, or arrived."""

    def arrived(self, step: int) -> None:
        """The next request is here."""
        self.service.append(0.0)
        self.steps_run.append(0)
        self.changed_step.append(step)


class LtrView(WithFacts):
    """A `RequestView` over the engine's columns."""

    __slots__ = (
        "_engine",
        "_number",
        "_spells",
        "arrival_time",
        "attained",
        "blocks",
        "cached",
        "facts",
        "length_quantiles",
        "num_prompt_tokens",
        "predicted_class",
        "predicted_length",
        "priority",
        "request_id",
        "score",
        "tenant",
    )

    def __init__(self, engine: SortedWalk, spells: Spells, number: int, arrival: Arrival) -> None:
        self._engine = engine
        self._spells = spells
        self._number = number
        self.request_id = arrival.request_id
        self.arrival_time = arrival.arrival_time
        self.num_prompt_tokens = arrival.num_prompt_tokens
        self.score = arrival.score
        self.predicted_class = arrival.predicted_class
        self.predicted_length = arrival.predicted_length
        self.length_quantiles = arrival.length_quantiles
        self.priority = arrival.priority
        self.tenant = arrival.tenant
        self.facts = arrival.facts
        self.cached = 0  # this engine has no prefix caching
        self.attained = None
        self.blocks = NamedBlocks(number, arrival, engine.block_size, caching=False)

    @property
    def num_output_tokens(self) -> int:
        return self._engine.num_known(self._number) - self.num_prompt_tokens

    @property
    def num_computed_tokens(self) -> int:
        return self._engine.num_computed(self._number)

    @property
    def num_preemptions(self) -> int:
        return self._engine.recorder.num_preemptions[self._number]

    @property
    def attained_service(self) -> float:
        engine, i = self._engine, self._number
        since = engine.started_at[i]
        return self._spells.service[i] + (engine.now - since if since is not None else 0.0)

    @property
    def steps_run(self) -> int:
        engine, i = self._engine, self._number
        running = engine.started_at[i] is not None
        return self._spells.steps_run[i] + (engine.step - self._spells.changed_step[i] if running else 0)

    @property
    def steps_idle(self) -> int:
        engine, i = self._engine, self._number
        return 0 if engine.started_at[i] is not None else engine.step - self._spells.changed_step[i]
