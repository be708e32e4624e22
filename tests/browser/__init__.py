"""Pages in headless Chromium: the browser, the level of what is heard, findings of axe, screenshots.

`serving` serves an app of the tests to it. Tests that use it are skipped where there is no Chromium. axe-core
lies in `axe/` with its licence.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page
    from starlette.types import ASGIApp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(__file__).parent / "axe" / "axe.min.js"
DESKTOP: Mapping[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: Mapping[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
# What the element sends to the loudspeaker, after its volume: the highest RMS of 0.3 s, 0 for silence.
_LEVEL = """async audio => {
  window.taps ??= new WeakMap();
  window.tapContext ??= new AudioContext();
  if (!taps.has(audio)) {
    const tap = tapContext.createAnalyser();
    tapContext.createMediaElementSource(audio).connect(tap).connect(tapContext.destination);
    taps.set(audio, tap);
  }
  const values = new Float32Array(taps.get(audio).fftSize);
  let highest = 0;
  for (let k = 0; k < 15; k += 1) {
    await new Promise(done => setTimeout(done, 20));
    taps.get(audio).getFloatTimeDomainData(values);
    highest = Math.max(highest, Math.hypot(...values) / Math.sqrt(values.length));
  }
  return highest;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It lives as long as a module, because its event loop runs in the thread of the tests."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield launched
        launched.close()


@contextmanager
def serving(app: Callable[[int], ASGIApp]) -> Iterator[str]:
    """Serves an app on a free port of loopback until the block ends; yields its address.

    Args:
        app: Port -> app, for those that name their own host.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app(port), log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    # Connections wait in the listener's queue until the server accepts them.
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@contextmanager
def new_page(browser: Browser, *, allowed: Sequence[str] = (), **options: Any) -> Iterator[Page]:
    """Opens a page of its own context; an error or a refused resource of the page fails the test.

    Args:
        browser: See `browser`.
        allowed: Parts of errors that the test expects.
        options: Of the context, such as those of PHONE; DESKTOP by default.
    """
    context = browser.new_context(**{**DESKTOP, **options})
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert not [error for error in errors if not any(part in error for part in allowed)]


def wait_for(page: Page, expression: str, timeout_s: float = 20.0) -> None:
    """Waits until a JavaScript expression is true.

    `Page.wait_for_function` evaluates text inside the page, which the policy of the project's pages forbids.
    """
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression} must be true within {timeout_s:g} s"
        page.wait_for_timeout(50)


def level(audio: Locator) -> float:
    """The RMS of what an audio element plays now, after its volume; 0 for silence."""
    return audio.evaluate(_LEVEL)


def findings(page: Page) -> list[str]:
    """Rule and element of each serious or critical finding of axe."""
    # Without transitions: after a change of colours axe would measure what is between the two.
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def screenshot(page: Page, name: str, *, full: bool = False) -> None:
    """Saves what the browser shows to the folder named by SCREENSHOTS, for a person to look at."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=full)
