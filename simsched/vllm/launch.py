"""Which CUDA graph a batch runs as, from what vLLM has captured."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.host import Capture, LaunchMode


class LaunchModes:
    """vLLM's choice for each batch: vllm/v1/cudagraph_dispatcher.py and worker/gpu/cudagraph_utils.py."""

    def __init__(self, vllm_config: Any) -> None:
        compilation = vllm_config.compilation_config
        mode = compilation.cudagraph_mode
        # each is FULL, PIECEWISE or NONE: for batches of one token a request, and for all others
        decode, mixed = (
            ("NONE", "NONE") if mode is None else (mode.decode_mode().name, mode.mixed_mode().name)
        )
        sizes = tuple(sorted(compilation.cudagraph_capture_sizes or ()))
        largest = sizes[-1] if sizes else 0
        requests = vllm_config.scheduler_config.max_num_seqs
        decodes = max((size for size in sizes if size <= requests), default=0)
        self.name = "NONE" if mode is None else str(mode.name)
        self.capture = Capture(
            sizes=sizes,
            full=decodes if decode == "FULL" else 0,
            piecewise=largest if mixed == "PIECEWISE" else 0,
        )
        self._all_full = largest if mixed == "FULL" else 0

    def of(self, P: int, N: int, S: int) -> tuple[str, int]:
        """`full`, `piecewise` or `none`, and the tokens that the device computes, padding included."""
        tokens = P + N
        mode = LaunchMode.FULL if tokens <= self._all_full else self.capture.mode(StepFeatures(P, N, S))
        sizes = self.capture.sizes
        padded = tokens if mode is LaunchMode.NONE else sizes[bisect_left(sizes, tokens)]
        return mode.name.lower(), padded

    def facts(self) -> dict[str, Any]:
        """For people and for fits."""
        return {"mode": self.name, "capture_sizes": list(self.capture.sizes)}
