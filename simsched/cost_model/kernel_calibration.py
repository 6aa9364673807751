"""A profile from tables of single GPU kernels: the device's, with another machine's host beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from simsched.cost_model import kernels
from simsched.cost_model.calibrate import PREDICTOR_TIME, Calibration, Form, Target, calibrated
from simsched.cost_model.facts import GIB
from simsched.cost_model.profile import Provenance, load_profile
from simsched.errors import InputError

NUM_TRAIN, NUM_TEST = 4000, 2000  # composed batches
HOST_OF = "h100-80gb/llama-3-8b"  # the one profile whose host was measured


def from_kernels(
    folder: Path, target: Target, form: Form, seed: int, command: str, *, host_apart: bool = False
) -> Calibration:
    """A profile from kernel tables, fitted to composed batches.

    Args:
        folder: of the tables.
        target: what the profile is for.
        form: linear or table.
        seed: of the batches.
        command: recorded in the profile.
        host_apart: the step times are the device's alone, and a host block has what was measured on another
            machine; else a step takes the serial host work of one published run. One GPU only: with several,
            launches happen in processes of their own, which nobody has measured here.

    Raises:
        InputError: missing or damaged tables, a model or number of GPUs that they do not cover, or a host
            apart on several.
    """
    if target.model is None or target.gpu is None:
        raise InputError("--from-kernels needs --model and --gpu")
    if host_apart and target.tp > 1:
        raise InputError(
            f"--host apart: with --tp {target.tp} nobody has measured the launches; one GPU only"
        )
    tables = kernels.Kernels(folder, target.model, target.tp, target.gpu)
    train, test = (
        kernels.compose(
            tables, kernels.sample_batches(target.model, count, [seed, part]), device_only=host_apart
        )
        for part, count in enumerate((NUM_TRAIN, NUM_TEST))
    )
    provenance = _provenance(target, host_apart, command)
    done = calibrated(train, test, target, form, provenance, predictor_time=PREDICTOR_TIME)
    if not host_apart:
        return done
    measured = load_profile(HOST_OF)
    assert measured.host is not None
    host = replace(measured.host, provenance=f"assumed: as on the machine of {HOST_OF}")
    blocks = {"host": host.to_json(), "graphs": measured.graphs.to_json()}
    return replace(done, file=done.file.model_copy(update=blocks))


def _provenance(target: Target, host_apart: bool, command: str) -> Provenance:
    gpu, tp, reserve_bytes = target.gpu, target.tp, target.reserve_bytes
    assert gpu is not None
    vidurs = gpu.tables == kernels.MEASURED_ON.tables
    card = kernels.MEASURED_ON if vidurs else gpu
    measured = [
        f"kernel times on {card.name}, by {'Vidur and ' if vidurs else ''}AIConfigurator; not by us",
        "memory of the card as CUDA reports it; parameters and shape of the model from its configuration",
    ]
    derived = [
        "step times: sums of kernel times over operations and layers",
        "coefficients: least relative squares on composed batches; no whole step was measured here",
        "KV blocks: 0.9 x memory - weights - reserve, over the bytes of a block",
    ]
    assumed = [
        _host(host_apart),
        f"reserve of {reserve_bytes / GIB:g} GiB a GPU: 1.26 GiB peak activations as vLLM printed for "
        "Llama-3-8B (vllm-project/vllm pull request 10511), the rest for CUDA graphs and communication",
        f"predictor time of {PREDICTOR_TIME * 1e3:g} ms a request: 1.11 % of the mean latency in the paper's "
        "burst of 2,000 (0.56 s a token x 412 tokens)",
    ]
    if vidurs:
        assumed.append("prefill: about 9 % faster than in one published end-to-end run; take it as +-10 %")
    if gpu != kernels.MEASURED_ON:
        ratio = kernels.slower(gpu)
        what = "memory-bound kernel times" if vidurs else "small operations: an A100's times"
        derived.append(f"{what} x {ratio:.2f}, the ratio of the cards' bandwidths; unchecked")
    if not vidurs:
        derived.append("products between the sizes in the tables: interpolated")
    if tp > 1:
        derived.append(f"sharded over {tp} GPUs with two all-reduces a layer; unchecked against a whole run")
    sources = ["microsoft/vidur @ 7d475133 (MIT): A100 times of every operation of a layer but attention"]
    version = "0.14.0" if vidurs else "0.24.0"
    sources.append(
        f"aiconfigurator-core 0.12.0 on PyPI (Apache-2.0), {gpu.tables}_sxm, vLLM {version}: products, "
        "attention, all-reduce"
    )
    return Provenance(
        measured=tuple(measured),
        derived=tuple(derived),
        assumed=tuple(assumed),
        sources=tuple(sources),
        command=command,
    )


def _host(apart: bool) -> str:
    if apart:
        return (
            f"host: as measured on the machine of {HOST_OF} (launches, output handling; +-30 % between its "
            "own runs); no host of this card was measured"
        )
    host, per_sequence = kernels.HOST_MS, kernels.HOST_MS_PER_SEQUENCE
    return (
        f"host work of {host} ms a step and {per_sequence} ms a sequence, fitted to decode steps of one "
        "end-to-end run (Llama-3-8B, A100-80GB, CUDA graphs)"
    )
