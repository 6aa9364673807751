"""Launch modes and padded tokens beside vLLM's own dispatcher of CUDA graphs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from simsched.vllm.launch import LaunchModes

pytestmark = pytest.mark.vllm
SIZES = [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]


@pytest.mark.parametrize("mode", ["FULL_AND_PIECEWISE", "FULL_DECODE_ONLY", "PIECEWISE", "FULL", "NONE"])
@pytest.mark.parametrize(
    ("max_num_seqs", "sizes"), [(256, SIZES), (250, SIZES), (16, [1, 2, 4, 8, 16, 24, 32])]
)
def test_modes_are_vllms(vllm_version: str, mode: str, max_num_seqs: int, sizes: list[int]) -> None:
    from vllm.config import CUDAGraphMode
    from vllm.v1.cudagraph_dispatcher import CudagraphDispatcher

    graphs = CUDAGraphMode[mode]
    config = SimpleNamespace(
        compilation_config=SimpleNamespace(
            cudagraph_mode=graphs,
            cudagraph_capture_sizes=sizes,
            max_cudagraph_capture_size=sizes[-1],
            compile_sizes=None,
            is_attention_compiled_piecewise=lambda: True,
        ),
        scheduler_config=SimpleNamespace(max_num_seqs=max_num_seqs),
        lora_config=None,
        num_speculative_tokens=0,
    )
    dispatcher = CudagraphDispatcher(config)
    dispatcher.initialize_cudagraph_keys(graphs)
    ours = LaunchModes(config)
    for tokens in range(1, 600):
        for decodes_only in (True, False):
            if decodes_only and tokens > max_num_seqs:
                continue
            theirs, graph = dispatcher.dispatch(tokens, uniform_decode=decodes_only)
            batch = (0, tokens, 0) if decodes_only else (max(2, tokens), 0, 1)
            if not decodes_only and tokens < 2:
                continue  # one chunk of one token is uniform, too
            assert ours.of(*batch) == (theirs.name.lower(), graph.num_tokens), (tokens, decodes_only)


def test_an_engine_without_graphs_launches_kernel_by_kernel() -> None:
    config = SimpleNamespace(
        compilation_config=SimpleNamespace(cudagraph_mode=None, cudagraph_capture_sizes=None),
        scheduler_config=SimpleNamespace(max_num_seqs=16),
    )
    assert LaunchModes(config).of(30, 4, 2) == ("none", 34)
