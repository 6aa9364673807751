"""vLLM's executor for one device, with stamps: `distributed_executor_backend="simsched.vllm.TimedExecutor"`.

It launches what vLLM launches, in the same order, and waits for nothing more. What it stamps, the policy
scheduler writes to its step log; without a step log it does nothing of its own. In one process and under
`vllm serve` alike; with several devices vLLM's own executor is needed, and the log lacks these stamps.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.executor.uniproc_executor import UniProcExecutor

from simsched.vllm.stamps import ATTRIBUTE, DeviceTimer, Stamps


class TimedExecutor(UniProcExecutor):  # type: ignore[misc]  # vLLM is untyped here
    """Stamps the launch of each step and the wait for its output; on a GPU its time there, too."""

    def _init_executor(self) -> None:
        super()._init_executor()
        self.start_stamping()

    def start_stamping(self) -> None:
        """From now on steps that carry stamps get theirs."""
        self._stamps: Stamps | None = None
        self._timer = _device_timer(str(self.device_config.device_type))

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        stamps = self._stamps = getattr(scheduler_output, ATTRIBUTE, None)
        if stamps is None:
            return super().execute_model(scheduler_output, non_block)
        stamps.launch_begin = stamps.clock.now()
        begin = None if self._timer is None else self._timer.record()
        output = super().execute_model(scheduler_output, non_block)
        stamps.forward_launched = stamps.clock.now()
        self._begin = begin
        return output

    def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
        stamps, self._stamps = self._stamps, None
        if stamps is None:
            return super().sample_tokens(grammar_output, non_block)
        # as a future in any case: what a synchronous engine would wait for here is waited for below
        output = super().sample_tokens(grammar_output, non_block=True)
        if self._timer is not None and self._begin is not None:
            stamps.timer = self._timer
            stamps.events = self._begin, self._timer.record()
        stamps.launch_end = stamps.clock.now()
        timed = TimedFuture(output, stamps)
        return timed if non_block else timed.result()


class TimedFuture:
    """A step's output on its way; stamps when it is waited for."""

    def __init__(self, future: Any, stamps: Stamps) -> None:
        self._future, self._stamps = future, stamps

    def result(self, *timeout: float | None) -> Any:
        """The output, once it is there."""
        stamps = self._stamps
        stamps.wait_begin = stamps.clock.now()
        output = self._future.result(*timeout)
        stamps.output_ready = stamps.clock.now()
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)


def _device_timer(device_type: str) -> DeviceTimer | None:
    """Events of the device that launches asynchronously; a CPU has computed when it returns."""
    if device_type != "cuda":
        return None
    import torch

    return DeviceTimer(lambda: torch.cuda.Event(enable_timing=True))
