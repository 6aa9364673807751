"""Engine options of vLLM V1 beyond the usual ones, stepping and leaping, and the batch that a GPU gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simsched.alone import alone_time
from simsched.cli import main
from simsched.cost_model.models import LinearCost
from simsched.cost_model.profile import load_profile
from simsched.engine.admissible import check_admissible
from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.gpu_defaults import batch_defaults
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace
from tests.engine.scenarios import same

COST = LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9)


def batches(prompts: list[int], policy: str = "fcfs", **options: Any) -> list[list[int]]:
    """The tokens of each step where these requests, of two output tokens, come at once; leaping does the
    same."""
    n = len(prompts)
    trace = Trace(np.zeros(n), np.array(prompts), np.full(n, 2))
    config = engine_config(num_gpu_blocks=500, **{"max_model_len": 512, **options})
    log: list[dict[str, Any]] = []
    stepped = simulate(trace, make_policy(policy), COST, config, leap=False, step_log=log.append)
    same(stepped, simulate(trace, make_policy(policy), COST, config))
    return [list(step["scheduled"].values()) for step in log]


WHOLE = {"enable_chunked_prefill": False, "max_num_batched_tokens": 512}


@pytest.mark.parametrize("policy", ["fcfs", "priority(preemptive=true)"])
@pytest.mark.parametrize(
    ("prompts", "options", "expected"),
    [
        ([10, 10, 10], {}, [[10, 10, 10], [1, 1, 1]]),
        ([10, 10, 10], {"max_num_active_seqs": 2}, [[10, 10], [1, 1], [10], [1]]),
        ([50, 50], {"max_num_scheduled_tokens": 60}, [[50, 10], [1, 40], [1]]),
        ([300, 300], {**WHOLE}, [[300], [1, 300], [1]]),
        ([300, 300], {"max_num_batched_tokens": 512}, [[300, 212], [1, 88], [1]]),
        # of two requests each may have half of the step, of one the whole
        (
            [200, 100, 30],
            {"long_prefill_token_threshold": 16, "long_prefill_token_threshold_adaptive": True,
             "max_num_batched_tokens": 150},
            [[50, 50, 30], [50, 50, 1], [75, 1], [25], [1]],
        ),
        (
            [200, 100, 30],
            {"long_prefill_token_threshold": 80, "long_prefill_token_threshold_adaptive": True,
             "max_num_batched_tokens": 150},
            [[80, 70], [80, 30, 30], [40, 1, 1], [1]],
        ),
        # the share is of max_num_batched_tokens
        (
            [200, 200],
            {"long_prefill_token_threshold": 16, "long_prefill_token_threshold_adaptive": True,
             "max_num_batched_tokens": 200, "max_num_scheduled_tokens": 120},
            [[100, 20], [100, 20], [1, 100], [60], [1]],
        ),
    ],
)  # fmt: skip
def test_batches(prompts: list[int], options: dict[str, Any], expected: list[list[int]], policy: str) -> None:
    assert batches(prompts, policy, **options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_num_active_seqs": 4, "vllm_version": "0.30.0"},
         "--max-num-active-seqs: vLLM 0.30.0 does not have it, 0.31 and later do"),
        ({"long_prefill_token_threshold_adaptive": True, "vllm_version": "0.24.0"},
         "--long-prefill-token-threshold-adaptive: vLLM 0.24.0 does not have it, 0.31 and later do"),
        ({"max_num_active_seqs": 0}, "--max-num-active-seqs 0"),
        ({"preset": "vllm-0.4.1-ltr", "enable_chunked_prefill": False}, "no such option"),
        ({"preset": "vllm-0.4.1-ltr", "max_num_active_seqs": 3}, "no such option"),
    ],
)  # fmt: skip
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EngineConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_num_active_seqs": 300}, "--max-num-active-seqs 300: expected at most --max-num-seqs 256"),
        ({"max_num_scheduled_tokens": 4096}, "--max-num-scheduled-tokens 4096: expected at most"),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 100}, "--no-enable-chunked-prefill"),
        ({**WHOLE, "max_num_scheduled_tokens": 200}, "expected at most 201 in all .*without chunked prefill"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    trace = Trace(np.zeros(1), np.array([200]), np.array([100]))
    with pytest.raises(InputError, match=message):
        check_admissible(trace, engine_config(num_gpu_blocks=500, max_model_len=512, **options))


def test_an_option_that_a_version_lacks_may_be_off() -> None:
    assert EngineConfig(vllm_version="0.24.0", long_prefill_token_threshold_adaptive=False).vllm_version


@pytest.mark.parametrize("version", ["0.30.0", "0.33.0"])
def test_the_time_alone_is_that_of_a_request_alone(version: str) -> None:
    trace = Trace(np.zeros(1), np.array([200]), np.array([5]))
    config = engine_config(
        vllm_version=version, long_prefill_token_threshold=48, num_gpu_blocks=100, max_model_len=512
    )
    record = simulate(trace, make_policy("fcfs"), COST, config)
    assert record.finish_time == pytest.approx(alone_time(trace, COST, config))


@pytest.mark.parametrize(
    ("gpu", "gib", "version", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", 79.2, "0.33.0", (2048, 256)),
        ("NVIDIA A100-SXM4-40GB", 39.5, "0.33.0", (2048, 256)),
        ("NVIDIA H100 80GB HBM3", 79.1, "0.33.0", (8192, 1024)),
        ("NVIDIA H100 80GB HBM3", 79.1, "0.24.0", (8192, 1024)),
        ("NVIDIA H200", 139.8, "0.32.0", (8192, 1024)),
        ("NVIDIA B200", 178.4, "0.26.0", (8192, 1024)),
        ("NVIDIA B200", 178.4, "0.28.0", (16384, 1024)),
        ("NVIDIA GB10", 119.6, "0.32.0", (8192, 1024)),
        ("NVIDIA GB10", 119.6, "0.33.0", (2048, 256)),
        ("NVIDIA L40S", 44.4, "0.33.0", (2048, 256)),
        (None, None, "0.33.0", (2048, 256)),
    ],
)
def test_the_batch_of_a_gpu(gpu: str | None, gib: float | None, version: str, expected: object) -> None:
    assert batch_defaults(gpu, None if gib is None else int(gib * 2**30), version) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (8192, 1024)),
        ({"max_num_seqs": 64}, (8192, 64)),
        ({"max_num_seqs": 2}, (4096, 2)),  # no more than those requests can have
        ({"max_num_batched_tokens": 512}, (512, 512)),  # no more sequences than tokens
        ({"max_num_batched_tokens": 512, "max_num_seqs": 600}, (512, 600)),
        ({"max_model_len": 8192, "enable_chunked_prefill": False}, (8192, 1024)),
        ({"preset": "vllm-0.4.1-ltr"}, (768, 256)),
    ],
)
def test_what_is_given_stands(options: dict[str, Any], expected: tuple[int, int]) -> None:
    config = EngineConfig(**{"max_model_len": 2048, "num_gpu_blocks": 500, **options})
    profile = load_profile("a100-80gb/llama-3-8b")
    assert profile.file is not None
    hardware = profile.file.hardware.model_copy(update={"gpu": "NVIDIA H100 80GB HBM3"})
    profile.file = profile.file.model_copy(update={"hardware": hardware})
    resolved = config.resolve(profile)
    assert (resolved.max_num_batched_tokens, resolved.max_num_seqs) == expected


@pytest.mark.parametrize(
    ("profile", "batch"),
    [
        ("a100-80gb/llama-3-8b", "2,048 / 256"),
        ("h100-80gb/llama-3-8b", "8,192 / 1,024"),
        ("a100-80gb/llama-3-8b/vllm-0.4.1-ltr", "768 / 256"),
    ],
)
def test_the_list_of_profiles_shows_the_batch(
    profile: str, batch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["list", "profiles"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [profile]]
    assert batch in line
