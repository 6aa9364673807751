"""A study from flags and from YAML: one schema, one line for whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from simsched.cost_model.profile import profile_names
from simsched.engine.config import EngineConfig, presets
from simsched.errors import InputError
from simsched.plotting.figures import KINDS
from simsched.sweep.study import (
    PAPER_POLICIES,
    Figure,
    axes,
    make_study,
    parse_rate,
    read_study,
)


def test_lists_keep_parentheses_whole() -> None:
    assert make_study({"policy": "fcfs, mlfq(a=1,b=2),x"}).policy == ("fcfs", "mlfq(a=1,b=2)", "x")
    with pytest.raises(InputError, match=r"--policy fcfs,mlfq\(a=1: parentheses don't match"):
        make_study({"policy": "fcfs,mlfq(a=1"})


def test_bare_study_is_the_papers_comparison() -> None:
    study = make_study({})
    assert study.policy == PAPER_POLICIES
    assert study.workload == ("sharegpt",)
    assert study.num_runs == 3
    assert make_study({"num_requests": "50"}).num_runs == 3
    assert make_study({"policy": "fcfs"}).num_runs == 1


def test_flags_and_yaml_mean_the_same(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "policy: [fcfs, 'mlfq(base_quantum=0.03,threshold=2)']\n"
        "request_rate: [4, 8.5, 0.9x]\n"
        "max_num_seqs: 64\nenable_prefix_caching: false\ngoodput: {ttft: 200}\n"
    )
    flags = {
        "policy": "fcfs,mlfq(base_quantum=0.03,threshold=2)",
        "request_rate": "4,8.5,0.9x",
        "max_num_seqs": "64",
        "enable_prefix_caching": False,
        "goodput": "ttft:200",
        "tau": None,
    }
    assert make_study(read_study(file), origin=str(file)) == make_study(flags)


def test_every_engine_option_can_be_swept() -> None:
    around = {"cost_profile", "host_speed", "host_jitter", "num_replicas", "replicas", "router"}
    assert set(axes("engine")) == {*EngineConfig.model_fields, *around}


def test_every_preset_has_a_profile() -> None:
    assert {preset.cost_profile for preset in presets().values()} <= set(profile_names())


def test_every_kind_of_figure_can_be_asked_for() -> None:
    assert set(get_args(Figure.model_fields["kind"].annotation)) == set(KINDS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": ""}, "--policy"),
        ({"policy": "fcfs,,ranking"}, "--policy fcfs,,ranking"),
        ({"policy": "fcfs,fcfs"}, "each value once"),
        ({"request_rate": "16,16.0"}, "--request-rate 16,16.0: each value once"),
        ({"request_rate": "0.9x,.90x"}, "each value once"),
        ({"tau": "0.5,0.50"}, "each value once"),
        ({"max_num_seqs": "64,064"}, "each value once"),
        ({"workload": "lmsys", "format": "jsonl"}, "--format jsonl: only with --trace"),
        ({"request_rate": "0"}, "--request-rate 0: expected requests/s above 0"),
        ({"request_rate": "nan"}, "--request-rate nan"),
        ({"request_rate": "-2x"}, "--request-rate -2x"),
        ({"request_rate": "inf"}, "--request-rate inf"),
        ({"figures": [{"kind": "pie"}]}, "--figures"),
        ({"max_num_seqs": "many"}, "--max-num-seqs many"),
        ({"num_runs": "0"}, "--num-runs 0"),
        ({"num_requests": "1.5"}, "--num-requests 1.5"),
        ({"seed": "-1"}, "--seed -1"),
        ({"tau": "2"}, "--tau 2"),
        ({"duration": "inf"}, "--duration inf"),
        ({"goodput": "itl:3"}, "--goodput itl:3"),
        ({"num_requests": "5", "duration": "5"}, "exclude each other"),
        ({"max_num_seqs": [64, True]}, "--max-num-seqs [64, True]: expected a number"),
        ({"seed": True}, "--seed True: expected a number"),
        ({"warmup": True}, "--warmup True: expected seconds, or auto"),
    ],
)
def test_bad_flags(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        make_study(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"policy: [", "study.yaml:1: not YAML"),
        (b"- fcfs\n", "expected a mapping"),
        (b"", "expected a mapping"),
        (b"\xff\xfe\x00\x01", "not a text file"),
        (b"polcy: fcfs\n", "study.yaml: polcy: unknown; expected"),
        (b"num_runs: many\n", "study.yaml: num_runs many"),
        (b"max_num_seqs: yes\n", "study.yaml: max_num_seqs True: expected a number"),
        (b"seed: 1\npolicy: fcfs\nseed: 2\n", "study.yaml:3: seed is given twice"),
        (b"policy: {edf: {deadlines: {a: 1, a: 2}}}\n", "study.yaml:1: a is given twice"),
        (b"goodput: {itl: 3}\n", "study.yaml: goodput"),
        (b"figures: [{kind: latency, colour: red}]\n", "study.yaml: figures"),
    ],
)
def test_bad_study_file(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        make_study(read_study(file), origin=str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_study_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the study"):
        read_study(tmp_path / "nope.yaml")


def test_parse_rate() -> None:
    assert parse_rate("8") == (8.0, False)
    assert parse_rate("0.9x") == (0.9, True)


def test_a_figures_own_options_are_checked_and_named() -> None:
    study = make_study({"figures": [{"kind": "latency", "relative_to": "fcfs"}]}, "study.yaml")
    assert study.figures[0].relative_to == "fcfs"
    with pytest.raises(InputError, match=r"study.yaml: figures.0.relativ_to: unknown; expected kind, metric"):
        make_study({"figures": [{"relativ_to": "fcfs"}]}, "study.yaml")
