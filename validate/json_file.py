"""JSON files: whole or not at all, and without NaN, which JSON doesn't have."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from simsched.files import write_file


def write_json(path: Path, content: Any) -> None:
    """Write the content; numbers that are not finite become null."""
    write_file(path, (json.dumps(_finite(content), indent=1, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
