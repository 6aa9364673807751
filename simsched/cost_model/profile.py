"""Cost profiles: what one model costs on one machine, with where that was learnt and how sure it is.

A profile is a JSON file in `profiles/` (`a100-80gb/llama-3-8b` is `a100-80gb--llama-3-8b.json`) or the
user's own; a bare cost file (`{"form": "linear", "unit": "s", "t0": …}`) works wherever a profile does, but
knows nothing of memory, so KV blocks must then be given.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from simsched.cost_model.host import Graphs, HostCost, HostedCost
from simsched.cost_model.models import LinearCost, TableCost
from simsched.errors import InputError

Cost = LinearCost | TableCost
FORMS: dict[str, type[LinearCost] | type[TableCost]] = {"linear": LinearCost, "table": TableCost}
UNITS = {"s": 1.0, "ms": 1e-3}

# Embedded profiles whose times were set beside a real engine's, and what was; all others were not.
VALIDATED = {
    "a100-80gb/llama-3-8b": "decode steps of one published run; its host was not",
    "a100-80gb/llama-3-8b/serial": "decode steps of one published run",
    "a100-80gb/llama-3-8b/vllm-0.4.1-ltr": "published latencies",
    "h100-80gb/llama-3-8b": "replays on the card",
    "h200-141gb/llama-3-8b": "replays on the card",
}

Positive = Annotated[int, Field(gt=0, le=10**18)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Hardware(_Strict):
    """The machine of one engine."""

    gpu: str
    num_gpus: int = Field(1, ge=1, le=10**6)
    """Tensor-parallel GPUs: weights and KV cache are split evenly between them."""
    memory_bytes: Positive | None = None
    """Of one GPU, as the driver reports it; None: unknown (give the KV blocks)."""


class ModelFacts(_Strict):
    """What the engine's memory arithmetic needs to know of the model."""

    name: str
    max_model_len: int | None = Field(None, ge=2, le=10**9)
    """Prompt plus output, in tokens; None: unknown (give it)."""
    weight_bytes: Positive | None = None
    """All parameters, over all GPUs."""
    kv_bytes_per_token: Positive | None = None
    """Keys and values of one token in every layer, over all GPUs."""


class FitError(_Strict):
    """Absolute relative error of predicted step times on held-out steps (0.016 = 1.6 %)."""

    mean: float = Field(ge=0)
    median: float = Field(ge=0)
    p95: float = Field(ge=0)
    num_train: int = Field(ge=0)
    num_test: int = Field(ge=0)
    device: float | None = Field(None, ge=0)
    """Mean of those that the device bounds; None: host and device were not told apart."""
    host: float | None = Field(None, ge=0)
    """Mean of those that the host bounds."""
    total: float | None = None
    """Of the sum of all, signed."""


class Provenance(_Strict):
    """Which figures were measured, which derived from them, which assumed; and from where."""

    measured: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    command: str = ""
    """What makes this file again."""


class ProfileFile(_Strict):
    """The schema of a profile file."""

    version: Literal[1] = 1
    name: str
    hardware: Hardware
    model: ModelFacts
    reserve_bytes: int = Field(0, ge=0, le=10**18)
    """Of one GPU: peak activations, CUDA graphs, communication buffers; not for KV blocks."""
    cost: dict[str, Any]
    """A cost file's content: device time where there is a `host`, else all that a step takes."""
    host: dict[str, Any] | None = None
    """Host times (`HostCost`), with a `unit`; None: a step takes no host time of its own."""
    graphs: dict[str, Any] | None = None
    """CUDA graphs that the engine captures (`Graphs`)."""
    predictor_time: float = Field(0.0, ge=0, le=1e6)
    """Seconds that a length predictor takes for one request."""
    fit: FitError | None = None
    valid_range: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Least and largest value of each feature that the fit has seen."""
    warnings: tuple[str, ...] = ()
    """Terms that the data did not identify."""
    provenance: Provenance = Provenance()

    def to_text(self) -> str:
        """The file's content, with lists of numbers on one line."""
        absent: dict[str, Any] = {name: True for name in ("host", "graphs") if getattr(self, name) is None}
        if self.fit is not None:
            absent["fit"] = {name for name in ("device", "host", "total") if getattr(self.fit, name) is None}
        text = self.model_dump_json(indent=1, exclude=absent)
        return re.sub(r"\[[^][\"{}]+\]", lambda numbers: " ".join(numbers[0].split()), text) + "\n"


class Profile:
    """A cost model, and what its file says of memory, model and origin."""

    def __init__(
        self,
        name: str,
        content: bytes,
        cost: Cost,
        file: ProfileFile | None = None,
        host: HostCost | None = None,
        graphs: Graphs | None = None,
        origin: str | None = None,
    ) -> None:
        self.name = name
        self.origin = origin or name
        """What the user called it: a name or a path."""
        self.cost = cost
        self.file = file
        """None for a bare cost file."""
        self.host = host
        """None: a step takes device time alone."""
        self.graphs = graphs or Graphs()
        self._content = content

    def step_cost(
        self, host_speed: float | None = None, host_jitter: float | None = None
    ) -> Cost | HostedCost:
        """What `simulate` takes: the cost file, with the host's times where the profile has them.

        Args:
            host_speed: factor on all host times, besides the profile's own (2: takes twice as long).
            host_jitter: in place of the profile's own `sd`.
        """
        if self.host is None:
            return self.cost
        host = self.host
        if host_speed is not None:
            host = replace(host, speed=host.speed * host_speed)
        if host_jitter is not None:
            host = replace(host, sd=host_jitter)
        return HostedCost(device=self.cost, host=host, graphs=self.graphs)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self._content).hexdigest()

    @property
    def max_model_len(self) -> int | None:
        """Prompt plus output, in tokens; None if the file does not say."""
        return self.file.model.max_model_len if self.file else None

    @property
    def gpu(self) -> tuple[str | None, int | None]:
        """Name and bytes of memory of one GPU, None where the file does not say."""
        return (self.file.hardware.gpu, self.file.hardware.memory_bytes) if self.file else (None, None)

    @property
    def predictor_time(self) -> float:
        """Seconds of predictor per request; 0 for a bare cost file."""
        return self.file.predictor_time if self.file else 0.0

    @property
    def max_decodes(self) -> float:
        """The most decodes in a step that the fit has seen; infinite if the file does not say."""
        ranges = self.file.valid_range if self.file else {}
        return ranges["decodes"][1] if "decodes" in ranges else math.inf

    def num_gpu_blocks(self, block_size: int, gpu_memory_utilization: float = 0.9) -> int | None:
        """KV blocks that fit beside the weights and the reserve; None if the file does not say.

        Raises:
            InputError: nothing is left for KV blocks.
        """
        if self.file is None:
            return None
        hardware, model = self.file.hardware, self.file.model
        if hardware.memory_bytes is None or model.weight_bytes is None or model.kv_bytes_per_token is None:
            return None
        free = (
            hardware.memory_bytes * gpu_memory_utilization
            - model.weight_bytes / hardware.num_gpus
            - self.file.reserve_bytes
        )
        blocks = int(free * hardware.num_gpus // (model.kv_bytes_per_token * block_size))
        if blocks < 2:
            raise InputError(
                f"profile {self.name}: no room for KV blocks: {free / 1e9:.1f} GB are left of "
                f"{gpu_memory_utilization:g} x {hardware.memory_bytes / 1e9:.1f} GB"
            )
        return blocks

    def describe(self) -> str:
        """A line for people: machine, model, capacity and fit error."""
        if self.file is None:
            return f"{self.name}: bare {self.cost.form} cost file"
        hardware, model, fit = self.file.hardware, self.file.model, self.file.fit
        parts = [f"{self.name}: {model.name} on {hardware.num_gpus} x {hardware.gpu}, {self.cost.form} cost"]
        if self.host:
            parts.append("host times")
        blocks = self.num_gpu_blocks(16)
        if blocks:
            parts.append(f"{blocks * 16:,} KV tokens")
        if fit:
            parts.append(f"mean fit error {fit.mean:.1%}")
        return ", ".join(parts)


def profile_names() -> list[str]:
    """Names of the embedded profiles, sorted."""
    folder = resources.files("simsched.cost_model") / "profiles"
    names = [each.name.removesuffix(".json") for each in folder.iterdir() if each.name.endswith(".json")]
    return sorted(name.replace("--", "/") for name in names)


def longest_context() -> tuple[int, list[str]]:
    """The largest `max_model_len` of the embedded profiles, in tokens, and those that have it."""
    lengths = {name: load_profile(name).max_model_len or 0 for name in profile_names()}
    longest = max(lengths.values())
    return longest, [name for name, length in lengths.items() if length == longest]


def load_profile(name_or_path: str | Path) -> Profile:
    """The embedded profile of this name, or the profile or bare cost file at this path.

    Raises:
        InputError: unknown name, unreadable file, or content that is not a profile.
    """
    text = str(name_or_path)
    names = profile_names()
    if text in names:
        file = resources.files("simsched.cost_model") / "profiles" / f"{text.replace('/', '--')}.json"
        return parse_profile(file.read_bytes(), text)
    try:
        content = Path(text).read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"cost profile {text}: no such profile or file; the profiles are {', '.join(names)}"
        ) from None
    except OSError as error:
        raise InputError(f"cost profile {text}: cannot read it: {error.strerror}") from None
    return parse_profile(content, text)


def parse_profile(content: bytes, origin: str) -> Profile:
    """A profile or bare cost file from its bytes; `origin` names it in errors.

    Raises:
        InputError: not JSON, an unknown or missing field, or a value out of bounds.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"cost profile {origin}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"cost profile {origin}: expected an object, found {type(data).__name__}")
    if "cost" not in data:
        return Profile(Path(origin).stem, content, _cost(data, origin), origin=origin)
    file: ProfileFile = _validate(ProfileFile, data, origin)
    host = None if file.host is None else _host(file.host, f"{origin}: host")
    graphs = None if file.graphs is None else _validate(Graphs, file.graphs, f"{origin}: graphs")
    return Profile(file.name, content, _cost(file.cost, f"{origin}: cost"), file, host, graphs, origin)


def _cost(data: dict[str, Any], origin: str) -> Cost:
    form = data.get("form")
    if not isinstance(form, str) or form not in FORMS:
        raise InputError(f"cost profile {origin}: form {form!r}: expected one of {', '.join(FORMS)}")
    factor = _unit(data, origin)
    terms = {name: value for name, value in data.items() if name != "unit"}
    cost: Cost = _validate(FORMS[form], terms, origin)
    return cost if factor == 1.0 else cost.scaled(factor)


def _host(data: dict[str, Any], origin: str) -> HostCost:
    factor = _unit(data, origin)
    terms = {name: value for name, value in data.items() if name != "unit"}
    host: HostCost = _validate(HostCost, terms, origin)
    return host if factor == 1.0 else host.scaled(factor)


def _unit(data: dict[str, Any], origin: str) -> float:
    """Seconds in the unit of a block's times."""
    unit = data.get("unit")
    if not isinstance(unit, str) or unit not in UNITS:
        raise InputError(f"cost profile {origin}: unit {unit!r}: expected one of {', '.join(UNITS)}")
    return UNITS[unit]


def _validate(schema: type[Any], data: dict[str, Any], origin: str) -> Any:
    try:
        # through JSON, so that arrays are taken for tuples and nothing else is converted
        return TypeAdapter(schema).validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if isinstance(first["input"], str | float | int | list | None):
            where += f" {first['input']!r:.40}"
        what = first["msg"].removeprefix("Value error, ")
        raise InputError(f"cost profile {origin}: {where + ': ' if where else ''}{what}") from None
