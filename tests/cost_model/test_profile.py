"""Profiles and bare cost files: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.models import LinearCost, TableCost
from simsched.cost_model.profile import load_profile, parse_profile, profile_names
from simsched.errors import InputError

LINEAR = {"form": "linear", "unit": "s", "t0": 0.01, "a": 5e-5, "b": 6e-5, "c": 8e-8, "d": 4e-9}
TABLE = {"form": "table", "unit": "ms", "knots": [1, 64, 65], "g": [11, 12, 14], "h": 0.02, "c": 0, "d": 0}
PROFILE = {
    "name": "card/model",
    "hardware": {"gpu": "card", "memory_bytes": 40_000_000_000},
    "model": {
        "name": "model",
        "max_model_len": 4096,
        "weight_bytes": 16_000_000_000,
        "kv_bytes_per_token": 131_072,
    },
    "reserve_bytes": 1_000_000_000,
    "cost": LINEAR,
    "predictor_time": 0.001,
}


def parse(data: Any) -> Any:
    return parse_profile(data if isinstance(data, bytes) else json.dumps(data).encode(), "F.json")


def test_a_bare_cost_file(tmp_path: Path) -> None:
    path = tmp_path / "COST.json"
    path.write_text(json.dumps(LINEAR))
    profile = load_profile(path)
    assert profile.name == "COST"
    assert profile.cost == LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9)
    assert profile.num_gpu_blocks(16) is None
    assert profile.max_model_len is None
    assert profile.predictor_time == 0.0


def test_milliseconds() -> None:
    cost = parse(TABLE).cost
    assert isinstance(cost, TableCost)
    assert cost.step_time(StepFeatures(N=65)) == pytest.approx(0.014 + 65 * 0.02e-3)


def test_a_cost_file_survives_a_round_trip() -> None:
    for data in (LINEAR, TABLE):
        cost = parse(data).cost
        assert parse(cost.to_json()).cost == cost


def test_blocks_are_what_memory_leaves() -> None:
    profile = parse(PROFILE)
    free = 40e9 * 0.9 - 16e9 - 1e9
    assert profile.num_gpu_blocks(16) == int(free // (131_072 * 16))
    assert profile.num_gpu_blocks(32, 0.5) == int((40e9 * 0.5 - 17e9) // (131_072 * 32))
    with pytest.raises(InputError, match="no room for KV blocks"):
        profile.num_gpu_blocks(16, 0.4)


def test_weights_and_cache_are_split_over_gpus() -> None:
    two = {**PROFILE, "hardware": {"gpu": "card", "num_gpus": 2, "memory_bytes": 40_000_000_000}}
    free_per_gpu = 40e9 * 0.9 - 8e9 - 1e9
    assert parse(two).num_gpu_blocks(16) == int(2 * free_per_gpu // (131_072 * 16))


def test_unknown_memory_means_unknown_blocks() -> None:
    assert parse({**PROFILE, "hardware": {"gpu": "card"}}).num_gpu_blocks(16) is None


BAD = [
    (b"", "not JSON"),
    (b"\x00\xff\x13", "not JSON"),
    (b'{"form": "linear", "unit": "s", "t0": ', "not JSON"),
    ([1, 2], "expected an object, found list"),
    ({}, "form None"),
    ({**LINEAR, "form": "cubic"}, "form 'cubic': expected one of linear, table"),
    ({**LINEAR, "form": ["linear"]}, "form"),
    ({**LINEAR, "unit": "us"}, "unit 'us': expected one of s, ms"),
    ({k: v for k, v in LINEAR.items() if k != "unit"}, "unit None"),
    ({k: v for k, v in LINEAR.items() if k != "a"}, "a: Field required"),
    ({**LINEAR, "t0": -1}, "t0 -1: Input should be greater than or equal to 0"),
    ({**LINEAR, "t0": float("nan")}, "t0 nan: Input should be a finite number"),
    ({**LINEAR, "a": float("inf")}, "a inf"),
    ({**LINEAR, "t0": "0.01"}, "t0 '0.01': Input should be a valid number"),
    ({**LINEAR, "t0": True}, "t0 True"),
    ({**LINEAR, "t0": None}, "t0 None"),
    ({**LINEAR, "speed": 1}, "speed"),
    ({**LINEAR, "t0": 0, "b": 0, "c": 0}, "a decode step must take more than 0 s"),
    ({**TABLE, "knots": [1, 64, 64]}, "knots must increase"),
    ({**TABLE, "knots": [1, 64]}, "2 knots but 3 times"),
    ({**TABLE, "knots": [1, "64", 65]}, "knots.1 '64'"),
    ({**TABLE, "knots": [1, 64, 10**12]}, "knots.2 1000000000000"),
    ({**LINEAR, "t0": "\ud800" * 1000}, "t0"),
    ({**LINEAR, "t0": 10**400}, "t0"),
    ({**PROFILE, "cost": 5}, "cost 5"),
    ({**TABLE, "g": [11, 14, 12]}, "must not decrease"),
    ({**PROFILE, "cost": {**LINEAR, "b": -1}}, "F.json: cost: b -1"),
    ({**PROFILE, "colour": "red"}, "colour 'red': Extra inputs"),
    ({**PROFILE, "predictor_time": -0.1}, "predictor_time -0.1"),
    ({**PROFILE, "hardware": {"gpu": "card", "memory_bytes": 0}}, "hardware.memory_bytes 0"),
    ({**PROFILE, "model": {"name": "m", "max_model_len": 1}}, "model.max_model_len 1"),
    ({**PROFILE, "version": 2}, "version 2"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_bad_files_are_refused_in_one_line(data: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(data)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("cost profile F.json")
    assert message in str(caught.value)


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such profile or file.*a100-80gb/llama-3-8b"):
        load_profile("a100/llama")
    with pytest.raises(InputError, match="cannot read it"):
        load_profile(tmp_path)


def test_embedded_profiles() -> None:
    names = profile_names()
    assert {
        "a100-80gb/llama-3-8b",
        "a100-40gb/llama-3-8b",
        "a100-80gb/llama-3.1-8b",
        "8xa100-80gb/llama-3-70b",
    } <= set(names)
    for name in names:
        profile = load_profile(name)
        assert profile.name == name
        assert profile.file is not None
        assert profile.file.provenance.measured
        assert profile.file.provenance.sources
        assert name in profile.describe()
        # one request of the greatest length must fit
        blocks, longest = profile.num_gpu_blocks(16), profile.max_model_len
        assert blocks is not None
        assert longest is not None
        assert blocks * 16 > longest
        assert len(profile.hash) == 64


def test_capacity_of_the_a100_profiles() -> None:
    """Llama-3-8B: 131,072 bytes a token beside 16.06 GB of weights, as vLLM divides the card."""
    large, small = load_profile("a100-80gb/llama-3-8b"), load_profile("a100-40gb/llama-3-8b")
    gib = 2**30
    expected = (0.9 * 79.25 - 16.06e9 / gib - 1.5) * gib / 131_072
    assert large.num_gpu_blocks(16) * 16 == pytest.approx(expected, rel=1e-3)  # type: ignore[operator]
    expected = (0.9 * 39.50 - 16.06e9 / gib - 1.5) * gib / 131_072
    assert small.num_gpu_blocks(16) * 16 == pytest.approx(expected, rel=1e-3)  # type: ignore[operator]
    assert load_profile("a100-80gb/llama-3.1-8b").max_model_len == 131_072
