"""Host times and CUDA graphs: their formulas, and how a profile holds them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.host import Capture, Graphs, HostCost, LaunchMode
from simsched.cost_model.profile import ProfileFile, load_profile, parse_profile
from simsched.errors import InputError
from tests.cost_model.test_profile import LINEAR, PROFILE

FULL, PIECEWISE, NONE = LaunchMode
HOST = HostCost(
    full=0.004,
    piecewise=0.010,
    none=0.025,
    per_sequence=5e-5,
    per_chunk=3e-4,
    per_prefill_token=1e-6,
    before_first_kernel=(0.003, 0.9),
    output_per_sequence=2e-5,
    tail=0.0033,
    copy=0.00026,
)
CAPTURE = Graphs().capture(max_num_seqs=256, max_num_batched_tokens=2048)
BLOCK = {"unit": "ms", "full": 4, "piecewise": 10, "none": 25, "before_first_kernel": [3, 0.9], "copy": 0.25}


def features(P: int, N: int, S: int) -> StepFeatures:
    return StepFeatures(P=P, N=N, S=S)


@pytest.mark.parametrize(
    ("step", "mode", "launch", "before", "output"),
    [
        (features(0, 1, 0), FULL, 0.00405, 0.003045, 2e-5),
        (features(0, 256, 0), FULL, 0.0168, 0.01452, 0.00512),
        (
            features(2, 9, 2),
            FULL,
            0.005052,
            0.003945,
            2.2e-4,
        ),  # two prompts that were cached but for one token
        (features(40, 8, 1), PIECEWISE, 0.01074, 0.00363, 1.8e-4),
        (features(504, 8, 1), PIECEWISE, 0.011204, 0.00363, 1.8e-4),
        (features(505, 8, 1), NONE, 0.026205, 0.00363, 1.8e-4),
        (features(2048, 0, 3), NONE, 0.027948, 0.00381, 6e-5),
    ],
)
def test_host_times(
    step: StepFeatures, mode: LaunchMode, launch: float, before: float, output: float
) -> None:
    assert CAPTURE.mode(step) is mode
    assert HOST.launch(step, mode) == pytest.approx(launch, rel=1e-12)
    assert HOST.before(step, mode) == pytest.approx(before, rel=1e-12)
    assert HOST.output(step) == pytest.approx(output, rel=1e-12)
    slow = replace(HOST, speed=1.5)
    assert slow.launch(step, mode) == pytest.approx(1.5 * launch, rel=1e-12)
    assert slow.before(step, mode) == pytest.approx(1.5 * before, rel=1e-12)
    assert slow.output(step) == pytest.approx(1.5 * output, rel=1e-12)


def test_nothing_begins_after_the_launch() -> None:
    late = replace(HOST, before_first_kernel=(0.1, 1.0))
    step = features(0, 10, 0)
    assert late.before(step, FULL) == late.launch(step, FULL)


@pytest.mark.parametrize(
    ("tokens", "padded"),
    [
        *((n, n) for n in (0, 1, 2, 4, 8, 248, 512, 513, 2048)),
        *((3, 4), (5, 8), (9, 16), (249, 256), (257, 272), (511, 512)),
    ],
)
def test_padding(tokens: int, padded: int) -> None:
    assert CAPTURE.padded(tokens) == padded


def test_captured_sizes() -> None:
    assert len(CAPTURE.sizes) == 51
    assert sum(size <= 256 for size in CAPTURE.sizes) == 35
    # vLLM adds its largest batches where they are off the grid
    assert Graphs().capture(20, 2048).sizes == (1, 2, 4, 8, 16, 20, 24, 32, 40)
    assert Graphs().capture(256, 100).sizes[-2:] == (96, 100)
    assert Graphs(piecewise=2048).capture(256, 4096).sizes[-1] == 2048
    assert Graphs().capture(1024, 8192).full == 512


def test_no_graphs_at_all() -> None:
    eager = Graphs(full=0, piecewise=0).capture(256, 2048)
    assert eager.mode(features(0, 1, 0)) is NONE
    assert eager.padded(3) == 3


def test_the_default_engine_captures_what_it_is_told() -> None:
    assert Graphs(full=64).capture(256, 2048).mode(features(0, 65, 0)) is PIECEWISE
    assert Capture(sizes=(1, 2, 4), full=2, piecewise=4).mode(features(0, 3, 0)) is PIECEWISE


def parse(data: dict[str, Any]) -> Any:
    return parse_profile(json.dumps(data).encode(), "F.json")


def test_a_profile_holds_them() -> None:
    profile = parse({**PROFILE, "host": BLOCK, "graphs": {"piecewise": 2048}})
    assert profile.host == HostCost(
        full=0.004, piecewise=0.010, none=0.025, before_first_kernel=(0.003, 0.9), copy=0.25e-3
    )
    assert profile.graphs == Graphs(piecewise=2048)
    assert "host times" in profile.describe()
    again = ProfileFile.model_validate_json(
        json.dumps({**PROFILE, "host": profile.host.to_json(), "graphs": profile.graphs.to_json()})
    ).to_text()
    assert parse(json.loads(again)).host == profile.host
    assert parse(json.loads(again)).graphs == profile.graphs


def test_a_profile_without_them_is_written_as_before() -> None:
    profile = parse(PROFILE)
    assert profile.host is None
    assert '"host"' not in profile.file.to_text()
    assert '"graphs"' not in profile.file.to_text()
    assert load_profile("a100-80gb/llama-3-8b").graphs == Graphs()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({k: v for k, v in BLOCK.items() if k != "unit"}, "host: unit None: expected one of s, ms"),
        ({**BLOCK, "full": -1}, "host: full -1"),
        ({**BLOCK, "full": 0}, "the launch of a full CUDA graph must take more than 0 s"),
        ({**BLOCK, "sd": 3}, "host: sd 3"),
        ({**BLOCK, "speed": 0}, "host: speed 0"),
        ({**BLOCK, "before_first_kernel": [3, 1.1]}, "host: before_first_kernel.1 1.1"),
        ({**BLOCK, "before_first_kernel": [3]}, "host: before_first_kernel"),
        ({**BLOCK, "colour": 1}, "host: colour 1"),
        ({k: v for k, v in BLOCK.items() if k != "none"}, "host: none: Field required"),
    ],
)
def test_bad_blocks_are_refused_in_one_line(host: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=r"F\.json") as caught:
        parse({**PROFILE, "host": host})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_graphs_are_refused() -> None:
    with pytest.raises(InputError, match=r"F\.json: graphs: piecewise"):
        parse({**PROFILE, "graphs": {"piecewise": -1}})
    with pytest.raises(InputError, match=r"F\.json: graphs: full"):
        parse({**PROFILE, "graphs": {"full": "max_num_reqs"}})
    with pytest.raises(InputError, match="form None"):
        parse({"host": BLOCK, **{k: v for k, v in LINEAR.items() if k != "form"}})
