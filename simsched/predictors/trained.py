"""A trained ranker as a predictor: the folder that `simsched train` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simsched.errors import InputError
from simsched.policies.base import Reads
from simsched.predictors.base import Buckets, Predictor, registered
from simsched.workload.trace import Trace


@dataclass(frozen=True)
class Trained(Predictor):
    """Predicts from the trace's prompts."""

    path: str

    name = "model"
    about = "path of a model from `simsched train`"

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path,)

    @property
    def seconds_per_request(self) -> float:
        """As measured when it was trained."""
        from simsched.predictors.model import seconds_per_prompt

        return seconds_per_prompt(self.path)

    def fill(
        self, trace: Trace, column: Reads, buckets: Buckets, *, seed: int, tau: float | None = None
    ) -> tuple[Trace, str]:
        if not Path(self.path).exists():
            raise InputError(
                f"--predictor {self.path}: no such model, and not one of {', '.join(registered())}"
            )
        if trace.prompt is None:
            raise InputError(
                f"--predictor {self.path}: a trained model reads prompts, and {trace.name} has none"
            )
        from simsched.predictors.model import load_model

        values = load_model(self.path).predict(list(trace.prompt)).get(column)
        if values is None:
            raise InputError(f"--predictor {self.path}: the model gives no {column}")
        return trace.with_columns(**{column: values}), f"{column} from the model {self.path}"
