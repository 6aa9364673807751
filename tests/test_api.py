"""The public face: `import simsched`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic.dataclasses import dataclass

import simsched
from simsched.errors import InputError
from simsched.policies.adopted import adopt
from simsched.policies.spec import make_policy
from simsched.policies.user_policy import PolicyError
from simsched.routers.base import Replicas, Router
from simsched.workload.formats import load_trace
from simsched.workload.frames import write_rows

pytestmark = pytest.mark.usefixtures("policies_restored")
LOAD: dict[str, Any] = {"workload": "sharegpt", "request_rate": 20, "num_requests": 60}
ROWS = [{"timestamp": i / 20, "input_length": 40 + i, "output_length": 10 + i % 7} for i in range(50)]


@dataclass
class Short(simsched.Policy):
    """Short prompts first."""

    cap: int = 2048
    word: str = "a"
    preemptive: bool = False

    def priority(self, request: Any, now: float) -> float:
        return min(request.num_prompt_tokens, self.cap)

    def next_change(self, request: Any, now: float) -> simsched.Change:
        return simsched.NEVER


@dataclass(eq=False)
class Last(Router):
    """The last replica."""

    def choose(self, request: Any, replicas: Replicas, now: float) -> int:
        return len(replicas) - 1


class Chosen(simsched.Policy):
    """Serves the requests in the order of a list: a parameter that no text holds."""

    def __init__(self, order: list[str]) -> None:
        super().__init__(preemptive=False)
        self.order = order

    def priority(self, request: Any, now: float) -> float:
        return self.order.index(request.request_id)


class Wrong(Chosen):
    """Answers what is no priority."""

    def priority(self, request: Any, now: float) -> float:
        return "first"  # type: ignore[return-value]


def times(simulation: Any) -> list[float]:
    return simulation.requests["finish_time"].to_list()


def test_importing_it_loads_nothing() -> None:
    program = "import sys; before = set(sys.modules); import simsched; print(*(set(sys.modules) - before))"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    heavy = {"numpy", "polars", "pydantic", "matplotlib", "simpy", "scipy", "click"}
    assert not heavy & set(loaded)


def test_every_name_of_the_face_is_there() -> None:
    program = "import simsched; print(*(type(getattr(simsched, name)).__name__ for name in simsched.__all__))"
    assert len(subprocess.check_output([sys.executable, "-c", program], text=True).split()) == 10
    assert set(simsched.__all__) <= set(dir(simsched))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        simsched.nothing  # noqa: B018


def test_a_simulation_is_what_the_command_line_gives(tmp_path: Path) -> None:
    from simsched.cli import main

    with pytest.raises(SystemExit):
        main(["run", "--policy", "ranking", "--request-rate", "20", "--num-requests", "60", "--log-steps",
              "--max-num-seqs", "16", "--no-plot", "-o", str(tmp_path / "out")])  # fmt: skip
    expected = simsched.Results.open(tmp_path / "out")
    found = simsched.simulate(
        "ranking", **LOAD, log_steps=True, config=simsched.EngineConfig(max_num_seqs=16)
    )
    assert found.requests.equals(expected.requests)
    assert found.summary["mean_ttft_ms"] == expected.summary["mean_ttft_ms"][0]
    assert found.steps == list(expected.steps(next(iter(expected.cells))))
    assert found.config.max_num_seqs == 16
    assert any("capacity about" in note for note in found.notes)
    saved = found.save(tmp_path / "saved")
    assert (tmp_path / "saved/requests.parquet").read_bytes() == (
        tmp_path / "out/requests.parquet"
    ).read_bytes()
    assert saved.summary.equals(expected.summary)
    with pytest.raises(InputError, match="exists"):
        found.save(tmp_path / "saved")
    assert simsched.simulate("ranking", **LOAD).requests.height == 60


def test_its_directory_goes_with_it() -> None:
    simulation = simsched.simulate("fcfs", **LOAD)
    folder = simulation.results.path
    assert folder.is_dir()
    del simulation
    assert not folder.exists()


def test_steps_need_a_log() -> None:
    with pytest.raises(InputError, match="log_steps=True"):
        _ = simsched.simulate("fcfs", **LOAD).steps


@pytest.mark.parametrize("kind", ["cdf", "decile"])
def test_figures(kind: str) -> None:
    assert simsched.simulate("fcfs", **LOAD).plot(kind).axes


def test_a_policy_as_class_object_and_spec() -> None:
    first = times(simsched.simulate(Short, **LOAD, max_num_seqs=8))
    assert first == times(simsched.simulate(Short(), **LOAD, max_num_seqs=8))
    assert first == times(simsched.simulate("Short", **LOAD, max_num_seqs=8))  # it has this name now
    assert first != times(simsched.simulate("fcfs", **LOAD, max_num_seqs=8))
    capped = simsched.simulate(Short(cap=30), **LOAD, max_num_seqs=8)
    assert capped.options["policy"] == "Short(cap=30)"
    assert times(capped) == times(simsched.simulate("Short(cap=30)", **LOAD, max_num_seqs=8)) != first


@pytest.mark.parametrize(
    ("policy", "spec"),
    [
        (Short, "Short"),
        (Short(), "Short"),
        (Short(cap=7, preemptive=True), "Short(preemptive=true,cap=7)"),
        (Short(word="b"), "Short(word=b)"),
        (make_policy("mlfq(base_quantum=0.5)"), "mlfq(base_quantum=0.5)"),
        (make_policy("fcfs"), "fcfs"),
    ],
)
def test_specs(policy: Any, spec: str) -> None:
    assert adopt(policy) == spec
    made = make_policy(spec)
    assert made.name == spec.partition("(")[0]
    if not isinstance(policy, type):
        assert {**vars(made), "_": 0} == {**vars(policy), "_": 0} or spec.startswith("mlfq")


@pytest.mark.parametrize("policy", [Short(word="a,b"), Short(word="1"), Chosen([])])
def test_an_object_that_no_text_holds_is_copied(policy: Any) -> None:
    spec = adopt(policy)
    assert adopt(policy) == spec == f"{type(policy).__name__}-{spec.rpartition('-')[2]}"
    made = make_policy(spec)
    assert made is not policy
    assert isinstance(made, type(policy))
    assert vars(made) == vars(policy)


def test_an_object_of_any_kind() -> None:
    backwards = [str(i) for i in reversed(range(50))]
    at_once = [{**row, "timestamp": 0.0} for row in ROWS]
    simulation = simsched.simulate(Chosen(backwards), trace=at_once, max_num_seqs=1)
    first = simulation.requests.sort("first_token_time")["request_id"].to_list()
    assert first == backwards
    with pytest.raises(PolicyError, match="expected a number or a tuple of numbers"):
        simsched.simulate(Wrong(backwards), trace=ROWS)


@pytest.mark.parametrize("policy", [3, dict, simsched.EngineConfig()])
def test_what_is_no_policy(policy: Any) -> None:
    with pytest.raises(InputError, match="expected a name, a subclass of Policy or an object"):
        simsched.simulate(policy, **LOAD)


def test_a_name_that_is_taken() -> None:
    @dataclass
    class Fcfs(simsched.Policy):
        name = "fcfs"

        def priority(self, request: Any, now: float) -> float:
            return 0.0

    with pytest.raises(InputError, match="there is a policy fcfs already"):
        simsched.simulate(Fcfs, **LOAD)


def frames() -> list[Any]:
    found: list[Any] = [ROWS, tuple(ROWS), pl.DataFrame(ROWS)]
    try:
        import pandas
    except ImportError:
        return found
    return [*found, pandas.DataFrame(ROWS)]


@pytest.mark.parametrize("trace", frames(), ids=lambda trace: type(trace).__module__.partition(".")[0])
def test_a_trace_from_python(trace: Any, tmp_path: Path) -> None:
    file = tmp_path / "T.jsonl"
    file.write_text("".join(str(row).replace("'", '"') + "\n" for row in ROWS))
    expected = times(simsched.simulate("sjf", trace=file))
    assert times(simsched.simulate("sjf", trace=trace)) == expected
    assert times(simsched.simulate("sjf", trace=load_trace(file)[0])) == expected


def test_missing_values_of_a_frame_are_not_given() -> None:
    frame = pl.DataFrame(ROWS).with_columns(tenant=pl.when(pl.col("timestamp") < 100).then(pl.lit("a")))
    numbers = [
        {**row, "hash_block_size": 16, "score": np.float64(i), "hash_ids": np.array([1, i])}
        for i, row in enumerate(ROWS)
    ]
    assert simsched.simulate("fcfs", trace=frame).requests.height == 50
    assert simsched.simulate("ranking", trace=numbers).requests.height == 50


@pytest.mark.parametrize("seconds", [timedelta(seconds=1.5), np.timedelta64(1500, "ms")])
def test_durations_from_python_are_seconds(seconds: Any, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    write_rows([{**ROWS[0], "deadline": seconds}], file)
    trace, _ = load_trace(file)
    assert trace.deadline is not None
    assert trace.deadline.tolist() == [1.5]


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (3, "expected a path, a Trace, a data frame"),
        ([{**ROWS[0], "output_length": 0}], "output_length 0"),
        ([ROWS[0], 5], "expected a path"),
        ([{"prompt": object()}], "row 1: Object of type object is not JSON serializable"),
        ([], "expected at least one request"),
    ],
)
def test_what_is_no_trace(trace: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        simsched.simulate("fcfs", trace=trace)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected request_rate"),
        ({"workload": "sharegpt"}, "expected request_rate"),
        ({**LOAD, "request_rate": [4, 8]}, "2 settings; expected one value"),
        ({**LOAD, "request_rate": -1}, "simulate: request_rate -1: expected requests/s above 0"),
        ({**LOAD, "max_num_seqs": 0}, "--max-num-seqs 0"),
        ({**LOAD, "nonsense": 1}, "simulate: nonsense: unknown; expected"),
        ({**LOAD, "preset": "nope"}, "--preset nope: unknown"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        simsched.simulate("fcfs", **options)
    assert "\n" not in str(caught.value)


def test_a_config_gives_what_differs_from_its_presets_defaults() -> None:
    fork = simsched.EngineConfig(preset="vllm-0.4.1-ltr", max_num_seqs=32)
    simulation = simsched.simulate("fcfs", **LOAD, config=fork)
    assert simulation.config.preset == "vllm-0.4.1-ltr"
    assert simulation.config.max_num_batched_tokens == 768
    assert simsched.simulate("fcfs", **LOAD, config=fork, max_num_seqs=8).config.max_num_seqs == 8


def test_a_study_with_policies_and_traces_from_python(tmp_path: Path) -> None:
    study: dict[str, Any] = {
        "policy": ["fcfs", Short(cap=60), Chosen([str(i) for i in range(50)])],
        "trace": pl.DataFrame(ROWS), "request_rate": [5, 40], "num_runs": 2,
    }  # fmt: skip
    results = simsched.run_study(study, tmp_path / "one", jobs=1)
    assert results.summary.height == 12
    assert "Short(cap=60)" in results.summary["policy"].to_list()
    comparison = simsched.compare(results, baseline="fcfs")
    assert {row.arm for row in comparison.rows} == set(results.summary["policy"])
    # the trace has been kept beside the results, so that they can be finished and their bounds found
    again = simsched.run_study(study, tmp_path / "one", jobs=1, resume=True)
    assert again.summary.equals(results.summary)
    with pytest.raises(InputError, match="exists"):
        simsched.run_study(study, tmp_path / "one")


def test_a_class_from_a_notebook_reaches_other_processes(tmp_path: Path) -> None:
    """A class of `__main__` can't be imported by a worker: it must travel."""
    program = tmp_path / "cell.py"
    program.write_text(
        textwrap.dedent("""
        import simsched
        from pydantic.dataclasses import dataclass

        @dataclass
        class Mine(simsched.Policy):
            cap: int = 100
            def priority(self, request, now):
                return min(request.num_prompt_tokens, self.cap)

        if __name__ == "__main__":
            grid = dict(policy=["fcfs", Mine, Mine(cap=5)], workload="sharegpt", request_rate=[8, 30],
                        num_requests=40, max_num_seqs=4)
            one = simsched.run_study(grid, "one", jobs=1)
            two = simsched.run_study(grid, "two", jobs=2)
            assert one.requests.equals(two.requests)
            assert one.requests["policy"].n_unique() == 3
        """)
    )
    subprocess.run([sys.executable, str(program)], cwd=tmp_path, check=True)


def test_a_router_class(tmp_path: Path) -> None:
    simulation = simsched.simulate(router=Last, num_replicas=3, **LOAD)
    assert set(simulation.requests["replica"]) == {2}
    results = simsched.run_study(
        {**LOAD, "policy": [Short, "fcfs"], "router": [Last, "round-robin"], "num_replicas": 3},
        tmp_path / "r",
        jobs=2,
    )
    assert results.summary["policy"].unique().sort().to_list() == ["Short", "fcfs"]
    assert results.summary["router"].unique().sort().to_list() == ["Last", "round-robin"]
    for wrong in (3, Last(), Short):
        with pytest.raises(InputError, match=r"router .*: expected a name, such as .*, or a class"):
            simsched.simulate(router=wrong, num_replicas=3, **LOAD)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"request_rat": 5}, "simulate: request_rat: unknown; expected request_rate"),
        ({"max_num_seq": 5, "request_rate": 5}, "simulate: max_num_seq: unknown; expected max_num_seqs"),
        (
            {"trace": [ROWS[0], ROWS[1] | {"output_length": 0}]},
            "trace, row 2: output_length 0: expected a whole number of tokens, at least 1; skip_invalid=True "
            "drops such rows",
        ),
    ],
)
def test_messages_are_those_of_python(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        simsched.simulate("fcfs", **options)
    assert str(error.value) == message


def test_a_number_of_processes_is_checked_before_old_results_go(tmp_path: Path) -> None:
    study: dict[str, Any] = {"policy": "fcfs", "num_requests": 20, "request_rate": 4, "out": tmp_path / "out"}
    simsched.run_study(**study)
    for jobs in (0, "2", 1.5, True):
        with pytest.raises(InputError, match=r"run_study: jobs .*: expected a number of processes"):
            simsched.run_study(**study, jobs=jobs, overwrite=True)  # type: ignore[arg-type]
    assert simsched.compare(tmp_path / "out").baseline == "fcfs"


def test_an_engine_is_no_dict() -> None:
    with pytest.raises(InputError, match="config: a dict; expected an EngineConfig"):
        simsched.simulate("fcfs", **LOAD, config={"max_num_seqs": 4})  # type: ignore[arg-type]
