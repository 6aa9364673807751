"""Classes that a user names: one of ours, one of another package (an entry point), or `./file.py:Class`."""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from importlib.metadata import entry_points
from os.path import abspath
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from simsched.errors import InputError
from simsched.text.options import is_no_number


class Found(NamedTuple):
    """A class that a name stands for."""

    cls: Any
    short_name: str
    """What to call it where it gives itself no name."""


def find_class(kind: str, name: str, known: Mapping[str, Any], group: str) -> Found:
    """The class that `name` stands for.

    Args:
        kind: what it is, for error messages: `policy`, `router`.
        name: a key of `known`, an entry point of another package, or FILE.py:CLASS.
        known: those that are registered, by name.
        group: of entry points.

    Raises:
        InputError: there is none, or importing it fails.
    """
    if name in known:
        return Found(known[name], name)
    if ".py:" in name:
        return _from_file(kind, name)
    plugins = {entry.name: entry for entry in entry_points(group=group)}
    if name in plugins:
        try:
            return Found(plugins[name].load(), name)
        except (Exception, SystemExit) as error:
            raise InputError(f"{kind} {name}: {plugins[name].value}: {raised(error, None)}") from error
    names = ", ".join(sorted({*known, *plugins}))
    raise InputError(f"{kind} {name}: unknown; expected one of {names}, or FILE.py:CLASS")


def _from_file(kind: str, name: str) -> Found:
    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise InputError(f"{kind} {name}: no file {path}")
    spec = importlib.util.spec_from_file_location(f"simsched_user_{kind}_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look here for what annotations mean
    for imported, file in neighbours(path).items():
        there = getattr(sys.modules.get(imported), "__file__", file)
        if there is None or not Path(there).samefile(file):
            del sys.modules[imported]  # another folder's module of this name
    folder = str(Path(path).resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{kind} {name}: {raised(error, path)}") from error
    finally:
        sys.path.remove(folder)
    if not hasattr(module, attribute):
        raise InputError(f"{kind} {name}: {path} has no {attribute}")
    return Found(getattr(module, attribute), attribute)


def neighbours(path: str | Path) -> dict[str, str]:
    """The modules beside a file that it imports, and those that they import: name -> file."""
    found: dict[str, str] = {}
    to_read = [Path(path)]
    while to_read:
        file = to_read.pop()
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # importing it says what is wrong
        for node in ast.walk(tree):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
            for name in (each.partition(".")[0] for each in names):
                beside = Path(path).resolve().parent / f"{name}.py"
                if name not in found and beside.is_file():
                    found[name] = str(beside)
                    to_read.append(beside)
    return found


def construct(
    kind: str, cls: Any, name: str, parameters: Mapping[str, Any], others: Sequence[str] = ()
) -> Any:
    """An object of this dataclass; `others`: further parameters that its spec may have, for the message.

    Raises:
        InputError: a parameter that it doesn't have, a value out of bounds, or what its constructor raises.
    """
    valid = [field.name for field in fields(cls) if field.init]
    for key in parameters:
        if key not in valid:
            expected = ", ".join([*valid, *others]) or "none"
            raise InputError(f"{kind} {name}: no parameter {key}; expected {expected}")
    for key, value in parameters.items():
        checked = getattr(cls, "__pydantic_fields__", {}).get(key)
        if checked is not None and is_no_number(value, checked.annotation):
            raise InputError(f"{kind} {name}: {key} is {str(value).lower()}: expected a number")
    try:
        made = cls(**parameters)
        deepcopy(made)  # as each run starts with one
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{kind} {name}: {first['loc'][0]} is {first['input']}: {message}") from None
    except InputError:
        raise
    except Exception as error:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        raise InputError(f"{kind} {name}: {raised(error, file)}") from error
    return made


def raised(error: BaseException, file: str | None) -> str:
    """What was raised and where in this file: `ZeroDivisionError: division by zero (mine.py:12)`."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return said  # which names its place itself
    if isinstance(error, TypeError) and str(error).startswith("non-default argument"):
        said += ", which a class that it extends has; expected a default for each field"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if file and abspath(frame.filename) == abspath(file)]
    return f"{said} ({Path(str(file)).name}:{lines[-1]})" if lines else said
