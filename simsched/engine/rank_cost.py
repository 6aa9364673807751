"""What a step costs one of several ranks that run it together, once they have agreed on its shape.

Before each forward pass the ranks of a mixture-of-experts model agree on how it runs: the mode of the one
that has the least of CUDA graphs, and, if that is graphs, the tokens of the one that has the most, padded to
a graph's size, for every rank. Without graphs each computes its own tokens. A rank with nothing to do runs a
dummy batch: one decode over one token.

Source: `sync_cudagraph_and_dp_padding` in vllm/v1/worker/gpu/dp_utils.py, `_synchronize_dp_ranks` in
vllm/v1/worker/dp_utils.py, and `execute_dummy_batch` in vllm/v1/worker/gpu_worker.py of vLLM 0.32.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.host import HostedCost, LaunchMode
from simsched.engine.clock import device_time
from simsched.engine.config import ResolvedConfig
from simsched.engine.host_clock import Launch
from simsched.engine.jitter import Jitter

DUMMY: Final = StepFeatures(N=1, K=1)
"""The batch of a rank that has nothing to do."""
_NO_HOST: Final[Launch] = (0.0, 0.0, 0.0, True)


class Shape(NamedTuple):
    """How all ranks run a step."""

    mode: LaunchMode
    tokens: int
    """The most that any of them has."""


PaddedModels = dict[tuple[int, int], CostModel]
"""Costs of a device whose batches are all padded to so many tokens, by the identity of the plain cost."""


class RankCost:
    """A rank whose cost says nothing of the host: it pays for the tokens it has."""

    def __init__(self, cost: CostModel, predictor_time: float) -> None:
        self._cost = cost
        self._predictor_time = predictor_time

    def mode(self, features: StepFeatures) -> LaunchMode:
        """How this batch would run on a rank by itself."""
        return LaunchMode.FULL

    def device(self, features: StepFeatures, shape: Shape) -> float:
        """Seconds on the device."""
        return device_time(self._cost, features, self._predictor_time)

    def launch(self, features: StepFeatures, shape: Shape) -> Launch:
        """Seconds of the host."""
        return _NO_HOST

    def serial(self, features: StepFeatures, shape: Shape) -> tuple[float, float]:
        """Seconds of a step of an engine that schedules synchronously, and how many of them hang on the
        host."""
        return self.device(features, shape), 0.0


class HostedRankCost(RankCost):
    """A rank whose host and device are told apart; its times are those of `SerialCost` and `HostClock`."""

    def __init__(
        self,
        cost: HostedCost,
        config: ResolvedConfig,
        predictor_time: float,
        seed: int,
        padded: PaddedModels,
    ) -> None:
        """
        Args:
            seed: of the jitter of its launches.
            padded: what all ranks share; filled on demand.
        """
        super().__init__(cost.device, predictor_time)
        self._model = cost.device
        self._host = cost.host
        self.capture = cost.graphs.capture(config.max_num_seqs, config.max_num_batched_tokens)
        self._jitter = Jitter(cost.host.sd, seed) if cost.host.sd and config.async_scheduling else None
        self._padded = padded
        # what is asked for in every pass: launches of batches alike, and the device's cost by agreed tokens
        self._launches: dict[tuple[int, int, int, LaunchMode], Launch] = {}
        self._models: dict[int, CostModel] = {}

    def mode(self, features: StepFeatures) -> LaunchMode:
        return self.capture.mode(features)

    def device(self, features: StepFeatures, shape: Shape) -> float:
        return device_time(self._on(shape), features, self._predictor_time)

    def launch(self, features: StepFeatures, shape: Shape) -> Launch:
        host, mode = self._host, shape.mode
        batch = features.P, features.N, features.S, mode
        made = self._launches.get(batch)
        if made is None:
            launch, before = host.launch(features, mode), host.before(features, mode)
            made = launch, min(before, launch), host.output(features), mode is LaunchMode.FULL
            if not features.S:  # few batches of prompts are alike
                self._launches[batch] = made
        if self._jitter is not None and mode is not LaunchMode.FULL:
            launch = made[0] * self._jitter.factor()
            return launch, min(made[1], launch), made[2], made[3]
        return made

    def serial(self, features: StepFeatures, shape: Shape) -> tuple[float, float]:
        host, device = self._host, self._on(shape)
        launch, first, output, is_graph = self.launch(features, shape)
        before, least = max(first, output), launch - first
        if not is_graph:
            least += host.tail + host.copy
        over_context = 0.0
        if features.S:
            busy = device.step_time(features) + host.copy
        else:
            base, slope = device.decode_line(features.N, features.num_waiting)
            busy, over_context = base + host.copy, slope * features.K
        seconds = before + max(busy, least) + over_context
        if features.num_predicted:
            seconds += self._predictor_time * features.num_predicted
        return seconds, before + least if least > busy else before

    def _on(self, shape: Shape) -> CostModel:
        """The device's cost, with as many tokens as the ranks have agreed on."""
        if shape.mode is LaunchMode.NONE:
            return self._model
        model = self._models.get(shape.tokens)
        if model is None:
            tokens = self.capture.padded(shape.tokens)
            model = self._padded.get((id(self._model), tokens))
            if model is None:
                model = self._model.on_graphs([tokens] * (tokens + 1))
                self._padded[id(self._model), tokens] = model
            self._models[shape.tokens] = model
        return model


def agreed_shape(ranks: Sequence[RankCost], batches: Sequence[StepFeatures]) -> Shape:
    """What these ranks agree on for their batches."""
    return Shape(
        max([rank.mode(batch) for rank, batch in zip(ranks, batches, strict=True)]),
        max([batch.P + batch.N for batch in batches]),
    )


def rank_cost(
    cost: CostModel | HostedCost,
    config: ResolvedConfig,
    predictor_time: float,
    seed: int,
    padded: PaddedModels,
) -> RankCost:
    """The cost of a rank; `seed`: of its host's jitter; `padded`: what all ranks share."""
    if isinstance(cost, HostedCost):
        return HostedRankCost(cost, config, predictor_time, seed, padded)
    return RankCost(cost, predictor_time)
