"""What a policy sees of a request in the fork's engine, computed when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simsched.engine.arrival import Arrival

if TYPE_CHECKING:
    from simsched.engine.vllm_ltr.by_policy import OrderedEngine


class LtrView:
    """A `RequestView` over the engine's columns."""

    __slots__ = (
        "_engine",
        "_number",
        "arrival_time",
        "num_prompt_tokens",
        "predicted_class",
        "predicted_length",
        "priority",
        "request_id",
        "score",
        "tenant",
    )

    def __init__(self, engine: OrderedEngine, number: int, arrival: Arrival) -> None:
        self._engine = engine
        self._number = number
        self.request_id = arrival.request_id
        self.arrival_time = arrival.arrival_time
        self.num_prompt_tokens = arrival.num_prompt_tokens
        self.score = arrival.score
        self.predicted_class = arrival.predicted_class
        self.predicted_length = arrival.predicted_length
        self.priority = arrival.priority
        self.tenant = arrival.tenant

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
        return engine.service[i] + (engine.now - since if since is not None else 0.0)

    @property
    def steps_run(self) -> int:
        engine, i = self._engine, self._number
        running = engine.started_at[i] is not None
        return engine.steps_run[i] + (engine.step - engine.changed_step[i] if running else 0)

    @property
    def steps_idle(self) -> int:
        engine, i = self._engine, self._number
        return 0 if engine.started_at[i] is not None else engine.step - engine.changed_step[i]
