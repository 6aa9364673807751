"""One self-contained HTML page: sections of prose, tables and figures, with configuration and versions.

Nothing is loaded from a network: figures are embedded as data URIs and the style is in the page.
"""

from __future__ import annotations

import base64
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from simsched._version import __version__
from simsched.files import write_file

_PACKAGES = ("numpy", "polars", "scipy", "simpy", "matplotlib")


@dataclass(frozen=True)
class Table:
    """Rows of cells. Numbers are set right, with at most four significant digits; None is a dash."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """An image: the bytes of a PNG or SVG file. `alt` says in words what it shows."""

    image: bytes
    alt: str
    caption: str = ""

    @classmethod
    def from_file(cls, path: str | Path, alt: str, caption: str = "") -> Figure:
        """The image in this file."""
        return cls(Path(path).read_bytes(), alt, caption)

    @classmethod
    def from_matplotlib(cls, figure: Any, alt: str, caption: str = "") -> Figure:
        """A drawn matplotlib figure, as SVG: sharp at every size."""
        from simsched.plotting.style import image_bytes

        return cls(image_bytes(figure, "svg"), alt, caption)

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        kind = "png" if self.image.startswith(b"\x89PNG") else "svg+xml"
        return f"data:image/{kind};base64,{base64.b64encode(self.image).decode()}"


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then points, tables and figures; sections may hold sections."""

    title: str
    prose: str | Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    sections: Sequence[Section] = ()
    points: Sequence[str] = ()
    """A list under the prose."""

    @property
    def paragraphs(self) -> list[str]:
        return [self.prose] if isinstance(self.prose, str) else list(self.prose)


def write_report(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    *,
    summary: str | Sequence[str] = (),
    configuration: Mapping[str, Any] | None = None,
) -> None:
    """Write the page, atomically.

    Args:
        path: the HTML file.
        title: the page's title.
        sections: what it holds, in order.
        summary: paragraphs above all sections: what was found.
        configuration: shown as JSON at the end, beside the installed versions.

    Raises:
        InputError: the file cannot be written.
    """
    html = render_report(title, sections, summary=summary, configuration=configuration)
    write_file(Path(path), html.encode())


def render_report(
    title: str,
    sections: Sequence[Section],
    *,
    summary: str | Sequence[str] = (),
    configuration: Mapping[str, Any] | None = None,
) -> str:
    """The page as text; see `write_report`."""
    import json

    from jinja2 import Environment, StrictUndefined

    source = resources.files("simsched.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = format_cell
    environment.tests["numeric"] = _is_number
    return environment.from_string(source).render(
        title=title,
        summary=[summary] if isinstance(summary, str) else list(summary),
        sections=sections,
        configuration=json.dumps(configuration, indent=2, default=str) if configuration else "",
        versions=installed_versions(),
    )


def installed_versions() -> dict[str, str]:
    """Versions of simsched, Python and the packages that results depend on."""
    versions = {"simsched": __version__, "python": platform.python_version()}
    return versions | {name: metadata.version(name) for name in _PACKAGES}


def format_cell(value: Any) -> str:
    """A cell as text: floats with four significant digits, a dash for what is missing."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
