"""What a policy sees of a request in the fork's engine, computed when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simsched.engine.vllm_ltr.by_policy import OrderedEngine


class LtrView:
    """A `RequestView` over the engine's columns."""

    __slots__ = (
        "_engine",
        "_index",
        "arrival_time",
        "num_prompt_tokens",
        "predicted_class",
        "predicted_length",
        "priority",
        "request_id",
        "score",
        "tenant",
    )

    def __init__(self, engine: OrderedEngine, index: int, request_id: str) -> None:
        trace = engine.trace
        self._engine = engine
        self._index = index
        self.request_id = request_id
        self.arrival_time = engine.recorder.arrival_time[index]
        self.num_prompt_tokens = engine.prompt[index]
        self.score = None if trace.score is None else float(trace.score[index])
        self.predicted_class = None if trace.predicted_class is None else int(trace.predicted_class[index])
        self.predicted_length = (
            None if trace.predicted_length is None else float(trace.predicted_length[index])
        )
        self.priority = 0 if trace.priority is None else int(trace.priority[index])
        self.tenant = None if trace.tenant is None else trace.tenant[index]

    @property
    def num_output_tokens(self) -> int:
        return self._engine.num_known(self._index) - self.num_prompt_tokens

    @property
    def num_computed_tokens(self) -> int:
        return self._engine.num_computed(self._index)

    @property
    def num_preemptions(self) -> int:
        return self._engine.recorder.num_preemptions[self._index]

    @property
    def attained_service(self) -> float:
        engine, i = self._engine, self._index
        since = engine.started_at[i]
        return engine.service[i] + (engine.now - since if since is not None else 0.0)

    @property
    def steps_run(self) -> int:
        engine, i = self._engine, self._index
        running = engine.started_at[i] is not None
        return engine.steps_run[i] + (engine.step - engine.changed_step[i] if running else 0)

    @property
    def steps_idle(self) -> int:
        engine, i = self._engine, self._index
        return 0 if engine.started_at[i] is not None else engine.step - engine.changed_step[i]
