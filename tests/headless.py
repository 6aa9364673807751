"""A real headless browser, where there is one, and what a page shows in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<script>addEventListener("load", () => {
const images = [...document.images];
parent.postMessage({
  width: innerWidth, needed: document.documentElement.scrollWidth, images: images.length,
  loaded: images.filter(i => i.complete && i.naturalWidth > 1 && i.alt).length,
  small: [...document.querySelectorAll("p, li, td, th, h1, h2, figcaption")]
    .filter(e => parseFloat(getComputedStyle(e).fontSize) < 13).length,
}, "*");
});</script>"""
# a browser window has a least width; a frame has none
FRAME = """<script>addEventListener("message", event => {{
document.body.innerHTML = "<pre id=probe>" + JSON.stringify(event.data) + "</pre>";
}});</script><body><iframe width="{width}" height="900" frameborder="0" src="{page}"></iframe></body>"""
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium")


class Links(HTMLParser):
    """Every address that the page loads or points to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def browse(page: Path, width: int, profile: Path) -> tuple[dict[str, Any], list[str]]:
    """What the probe saw in a headless browser of this width, and its console's lines."""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=width, page=probed.as_uri()))
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--window-size=1400,1000", "--enable-logging=stderr",
            "--virtual-time-budget=5000", "--dump-dom", frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"<pre id=\"probe\">(.*?)</pre>", done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found[1]), [line for line in done.stderr.splitlines() if "CONSOLE" in line]
