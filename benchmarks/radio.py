"""How fast the radio makes sound in headless Chromium, when the first sound comes, and whether memory stays.

    python benchmarks/radio.py [minutes of sound, 10 by default]

The release has the size of the preset `small` and random weights. The sound is made without waiting for its
playback. The rate is of the processor's time of the browser's renderer, so that other work on the machine
changes it little; the waits are of the clock. onnxruntime-web is taken from the user's cache, or from npm.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from library import timed
from playwright.sync_api import Page, sync_playwright
from untrained import write_release

MINUTES = 10
BLOCK_S = 4
# Where memory is measured, as parts of the run; before the first it grows to what it needs.
PARTS = 5
SETUP = """async () => {
  const ort = await import("/ort/ort.wasm.bundle.min.mjs");
  const { Engine } = await import("/engine.js"), { load } = await import("/networks.js");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: "/ort/ort-wasm-simd-threaded.wasm" };
  const manifest = await (await fetch("/models/export.json")).json();
  const engine = new Engine(manifest, await load(ort, manifest, location.href), { seed: 0 });
  window.make = async (seconds) => {
    const frames = Math.ceil((BLOCK_S * engine.sampleRate) / engine.hop);
    for (let made = 0; made < seconds; made += BLOCK_S) await engine.next(frames);
  };
}""".replace("BLOCK_S", str(BLOCK_S))


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: object) -> None:
        pass


def renderer() -> psutil.Process:
    """The renderer of the browser that uses most memory: the page's."""
    found = [
        child for child in psutil.Process().children(recursive=True) if "--type=renderer" in child.cmdline()
    ]
    return max(found, key=lambda process: process.memory_info().rss)


def rate(page: Page, url: str, seconds: float) -> None:
    """Prints seconds of sound per second of the processor, and the memory of the renderer on the way."""
    page.goto(f"{url}style.css")
    page.evaluate(SETUP)
    page.evaluate(f"make({5 * BLOCK_S})")
    process = renderer()
    before, memory = process.cpu_times(), []
    for _ in range(PARTS):
        page.evaluate(f"make({seconds / PARTS})")
        memory.append(process.memory_info().rss / 1e6)
    after = process.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    print(f"{seconds / used_s:.1f} times real time, on one wasm thread")
    print(f"memory of the renderer in MB over {seconds / 60:g} minutes of sound: {[round(m) for m in memory]}")


def waits(page: Page, url: str) -> None:
    """Prints how long the page loads, and how long after a click the first sound is there."""
    page.goto(url)
    page.locator("#play:enabled").click()
    state = "() => ({ ready: window.radioState.ready, first: window.radioState.firstSound })"
    found: dict[str, Any] = page.evaluate(state)
    while found["first"] is None:
        time.sleep(0.1)
        found = page.evaluate(state)
    print(f"ready after {found['ready'] / 1000:.1f} s, first sound {found['first'] / 1000:.1f} s after that")


def main() -> None:
    seconds = 60 * float(sys.argv[1] if len(sys.argv) > 1 else MINUTES)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("chromium is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        folder, web = Path(temporary) / "release", Path(temporary) / "radio"
        write_release(folder)
        timed([str(Path(sys.executable).with_name("melodygan")), "export", str(folder), "--web", str(web)])
        handler = functools.partial(_Handler, directory=str(web))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
            browser = playwright.chromium.launch(executable_path=chromium, args=options)
            url = f"http://127.0.0.1:{server.server_address[1]}/"
            for measure in (lambda page: waits(page, url), lambda page: rate(page, url, seconds)):
                page = browser.new_page()
                page.set_default_timeout(0)
                measure(page)
                page.close()
            browser.close()
            server.shutdown()


if __name__ == "__main__":
    main()
