"""The page in a real browser: it renders, complains about nothing, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import report_examples
from test_report_html import hostile

from dfmobile.report.html import render

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip

# Addresses that the browser asks its maker for by itself, whatever page is open (none is reached).
_ERRANDS = re.compile(r"https?://(~notfound|([a-z0-9-]+\.)*(google|googleapis|gstatic|gvt1)\.com)\b", re.IGNORECASE)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here to open the page with")


def visit(page: str, folder: Path) -> tuple[str, list[str], set[str]]:
    """Open a page from file://; return its DOM, the console's lines and the addresses that it asked for."""
    path, log = folder / "page.html", folder / "network.json"
    path.write_text(page, encoding="utf-8")
    command = [str(BROWSER), *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", path.as_uri()]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    addresses = set(re.findall(r"https?://[^\"'\\ ]+", log.read_text(encoding="utf-8", errors="replace")))
    return done.stdout, console, {address for address in addresses if not _ERRANDS.match(address)}


def test_the_page_renders_without_a_complaint_or_a_request(tmp_path: Path) -> None:
    dom, console, asked = visit(render(report_examples.full()), tmp_path)
    assert console == []
    assert asked == set()
    for text in ("Winners: the boundary", "Predicted against measured", "Latency table", "What these numbers are"):
        assert text in dom
    assert dom.count("<svg") > 30


def test_hostile_text_neither_runs_nor_asks(tmp_path: Path) -> None:
    dom, console, asked = visit(render(hostile(report_examples.full())), tmp_path)
    assert console == []  # a script or a style that was stopped by the policy would be in the console
    assert asked == set()
    assert "<script" not in dom


def test_the_checks_can_fail(tmp_path: Path) -> None:
    """The same visit of a page that misbehaves: its complaint is heard and its request is seen."""
    page = "<!DOCTYPE html><body><img src='http://example.org/x.png'><script>console.error('loud')</script></body>"
    _, console, asked = visit(page, tmp_path)
    assert any("loud" in line for line in console)
    assert asked
    # The page's own policy stops such an image and such a script, and says so.
    policy = re.search(r"<meta http-equiv=[^>]*>", render(replace(report_examples.full(), title="x")))
    assert policy is not None
    (tmp_path / "second").mkdir()
    _, console, asked = visit(page.replace("<body>", f"{policy[0]}<body>"), tmp_path / "second")
    assert not any("loud" in line and "Content Security Policy" not in line for line in console)
    assert asked == set()
