"""What the chain runs on each kind of device: engine, workloads, policies, loads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simsched.workload.trace import Trace


@dataclass(frozen=True)
class Lengths:
    """Lognormal prompt and output lengths: medians and largest values, in tokens."""

    prompt: float
    longest_prompt: int
    output: float
    longest_output: int
    sigma: float = 0.8

    def trace(self, num_requests: int, seed: int, name: str) -> Trace:
        """Poisson arrivals at one request a second; replays rescale them."""
        stream = np.random.default_rng(seed)
        prompts = stream.lognormal(np.log(self.prompt), self.sigma, num_requests)
        outputs = stream.lognormal(np.log(self.output), self.sigma, num_requests)
        return Trace(
            arrival_time=np.cumsum(stream.exponential(1.0, num_requests)),
            num_prompt_tokens=np.clip(prompts, 4, self.longest_prompt).astype(int),
            num_output_tokens=np.clip(outputs, 2, self.longest_output).astype(int),
            name=name,
        )


@dataclass(frozen=True)
class Setup:
    """What the chain runs on one kind of device."""

    model: str
    engine: dict[str, int | bool]
    validation: dict[str, Lengths]
    loads: tuple[str, ...]
    """Of the capacity by the first calibration."""
    policies: tuple[str, ...]
    """FCFS is what speed-ups are over."""
    num_requests: int
    """Of each replay, at most."""
    duration: float
    """Seconds of arrivals, at most: a slower machine serves fewer requests."""
    calibration: Lengths | None = None
    """Of FCFS replays that are fitted to; None: the probe workload (`validate.probe`)."""
    calibration_rates: tuple[float, ...] = ()
    """Requests/s from idle to full batches, so that every term of the cost shows."""
    calibration_requests: int = 0
    """Of each calibration rate."""


SETUPS = {
    "cpu": Setup(
        model="tiny-llama",
        engine={
            "max_num_seqs": 16,
            "max_num_batched_tokens": 256,
            "block_size": 32,
            "num_gpu_blocks": 140,
            "max_model_len": 1024,
            "async_scheduling": False,
        },
        calibration=Lengths(40, 300, 60, 250),
        validation={"chat": Lengths(80, 400, 50, 300)},
        calibration_rates=(8.0, 25.0, 80.0),
        calibration_requests=50,
        # far enough above saturation that the backlog is not the small difference of two large numbers
        loads=("0.6x", "0.9x", "1.5x"),
        # the published classes are 820 tokens wide, a tenth of the longest context, and would put all of
        # these requests in one: here too there are ten, up to the longest output
        policies=("fcfs", "mlfq", "classification(max_length=300)", "ranking", "srtf"),
        num_requests=600,
        duration=7.0,
    ),
    # with the engine's start, two halves of the probe workload and three repeats: nine minutes on an H100
    "cuda": Setup(
        model="llama-3-8b",
        engine={
            "max_num_seqs": 256,
            "max_num_batched_tokens": 2048,
            "max_model_len": 8192,
            "async_scheduling": True,
        },
        validation={"chat": Lengths(250, 3000, 150, 600, 0.9)},
        loads=("0.9x", "1.5x"),
        policies=("fcfs", "ranking", "mlfq"),
        num_requests=2000,
        duration=8.0,
    ),
}
