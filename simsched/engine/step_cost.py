"""What a step costs by itself where host and device are told apart.

With synchronous scheduling they take turns: the host works until the first kernel runs, then launch and
device go on side by side, then the host takes the tokens out. With the terms of `HostCost`, its `tail` r and
`copy` w, and the device time G on padded tokens:

    step = max(h0, o) + max(G + w, H - h0)      in place of H - h0, unless one CUDA graph: H - h0 + r + w

h0 counts from the end of the step before, so it contains the output handling o. With asynchronous scheduling
the time of a step depends on its neighbours (`host_clock.py`); what is said of it here is for estimates.
"""

from __future__ import annotations

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.host import HostedCost, LaunchMode
from simsched.engine.config import ResolvedConfig


def step_cost(cost: CostModel | HostedCost, config: ResolvedConfig) -> CostModel:
    """The cost of single steps on this engine: exact where it is synchronous, else an estimate."""
    if not isinstance(cost, HostedCost):
        return cost
    return OverlappedCost(cost, config) if config.async_scheduling else SerialCost(cost, config)


class SerialCost:
    """A cost model of both resources."""

    def __init__(self, cost: HostedCost, config: ResolvedConfig) -> None:
        self._capture = cost.graphs.capture(config.max_num_seqs, config.max_num_batched_tokens)
        self._device = cost.device.on_graphs(self._capture.sizes_of)
        self._host = cost.host
        self._sums: dict[int, tuple[float, float]] = {}  # by N
        self._of_decodes: dict[int, float] = {}  # by N: `host_time`

    def step_time(self, features: StepFeatures) -> float:
        """Seconds for one step with these features."""
        if not features.S:
            base, slope = self.decode_line(features.N, features.num_waiting)
            return base + slope * features.K
        before, least = self._host_times(features)
        return before + max(self._device.step_time(features) + self._host.copy, least)

    def decode_line(
        self, N: int, num_waiting: int, num_ordered: int = 0, num_compared: int = 0, padding: int = 0
    ) -> tuple[float, float]:
        """`(base, slope)`: a step of N decodes and nothing else takes `base + slope * K` seconds. A launch
        that takes longer than the device counts before K, as the floor of a cost file does."""
        base, slope = self._device.decode_line(N, num_waiting, num_ordered, num_compared, padding)
        sums = self._sums.get(N)
        if sums is None:
            sums = self._sums[N] = self._host_times(StepFeatures(N=N))
        before, least = sums
        return before + max(base + self._host.copy, least), slope

    def host_time(self, features: StepFeatures) -> float:
        """Seconds of such a step that hang on the host: until the first kernel runs, and from there to the
        end where the launch takes longer than the device."""
        if features.S or features.num_waiting:
            return self._host_time(features)
        known = self._of_decodes.get(features.N)
        if known is None:
            known = self._of_decodes[features.N] = self._host_time(features)
        return known

    def _host_time(self, features: StepFeatures) -> float:
        before, least = self._host_times(features)
        if features.S:
            device = self._device.step_time(features)
        else:
            # as `decode_line` has it: K does not count
            device = self._device.decode_line(features.N, features.num_waiting)[0]
        return before + least if least > device + self._host.copy else before

    def _host_times(self, features: StepFeatures) -> tuple[float, float]:
        """Until the first kernel runs, and from there until all is launched and done."""
        host = self._host
        mode = self._capture.mode(features)
        launch, before = host.launch_times(features, mode)
        least = launch - before
        if mode is not LaunchMode.FULL:
            least += host.tail + host.copy
        return max(before, host.output(features)), least


class OverlappedCost:
    """Among steps like it, a step takes the longer of launch and device; a prefill, as if it came alone."""

    def __init__(self, cost: HostedCost, config: ResolvedConfig) -> None:
        self._capture = cost.graphs.capture(config.max_num_seqs, config.max_num_batched_tokens)
        self._device = cost.device.on_graphs(self._capture.sizes_of)
        self._host = cost.host

    def step_time(self, features: StepFeatures) -> float:
        """Seconds for one step with these features."""
        host, device = self._host, self._device.step_time(features)
        mode = self._capture.mode(features)
        launch, before = host.launch_times(features, mode)
        if not features.S:
            return max(launch, device)
        tail = launch if mode is LaunchMode.FULL else launch + host.tail + host.copy
        return max(before + device + host.copy, tail) + host.output(features)

    def decode_line(
        self, N: int, num_waiting: int, num_ordered: int = 0, num_compared: int = 0, padding: int = 0
    ) -> tuple[float, float]:
        """Where the device takes longer than the launch."""
        return self._device.decode_line(N, num_waiting, num_ordered, num_compared, padding)

    def decode_floor(self, N: int) -> float:
        """Seconds that a step of N decodes takes at least."""
        features = StepFeatures(N=N)
        return self._host.launch(features, self._capture.mode(features))
