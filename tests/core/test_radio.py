"""The radio: the same samples as Python's in a browser, sound, controls, and text of strangers on its page."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from melodygan_core.errors import InputError, TransientError
from melodygan_core.export import manifest as manifests
from melodygan_core.export.runtime.codec import refiner_noise
from melodygan_core.export.runtime.pipeline import ExportedPipeline
from melodygan_core.export.web import ort, radio
from melodygan_core.piece_files import frames_of, piece_seed
from tests.conftest import Site
from tests.core.made_export import CONDITIONS, HOSTILE_TITLE, release_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SEED, SECONDS = 12, 4.0
# Latents and spectra differ by rounding, which phases amplify; see docs/export.md.
TOLERANCE = 5e-3
# Samples of a piece by the page's modules, in blocks of several sizes, with the refiner's noise from a file.
RENDER = """async ([seed, condition, frames, width]) => {
  const ort = await import("/ort/ort.wasm.bundle.min.mjs");
  const { Engine } = await import("/engine.js"), { load } = await import("/networks.js");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: "/ort/ort-wasm-simd-threaded.wasm" };
  const manifest = await (await fetch("/models/export.json")).json();
  const noise = new Float32Array(await (await fetch("/noise.bin")).arrayBuffer());
  const from = (first, last) => noise.slice(first * width, last * width);
  const networks = await load(ort, manifest, location.href);
  const engine = new Engine(manifest, networks, { seed, condition, noise: from });
  const parts = [];
  for (let made = 0, size = 17; made < frames; made += size, size *= 2) {
    size = Math.min(size, frames - made);
    parts.push(await engine.next(size));
  }
  return [0, 1].map((c) => btoa(parts.flatMap((part) =>
    Array.from(new Uint8Array(part[c].buffer), (byte) => String.fromCharCode(byte))).join("")));
}"""


class _Handler(SimpleHTTPRequestHandler):
    """A static host: no headers beyond the types."""

    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A radio; with onnxruntime-web where the user's cache has it."""
    made = tmp_path_factory.mktemp("radio")
    files = {}
    if ort.is_cached(ort.default_cache()):
        files = {name: ort.default_cache() / name for name in ort.FILES}
    radio.write_radio(release_of("temporal_gan"), made, files)
    return made


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    if not (folder / "ort" / "ort.wasm.bundle.min.mjs").exists():
        pytest.skip("onnxruntime-web is not in the cache: `melodygan export --web` fetches it")
    handler = functools.partial(_Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which any error or refusal of the security policy fails the test."""
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(120_000)
    problems: list[str] = []
    # Browsers ask for it on pages that name none.
    opened.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    yield opened
    context.close()
    assert problems == []


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_browser_makes_the_samples_of_python(folder: Path, url: str, page: Page) -> None:
    exported = ExportedPipeline(folder / radio.MODELS, threads=1)
    manifest = exported.manifest
    # The piece goes on in the browser: what is compared ends before Python's end could be heard.
    frames = frames_of(SECONDS + 4, manifest.feature)
    tokens = exported.codec.tokens_for(frames)
    latents = exported.latents(tokens, piece_seed(SEED, 0), 1, manifest.generation.truncation)
    expected = exported.sound(exported.codec.decode(latents, frames))
    noise = refiner_noise(tokens + 400, manifest.codec.noise_values)
    (folder / "noise.bin").write_bytes(noise.tobytes())
    page.goto(f"{url}style.css")
    wanted = round(SECONDS * manifest.feature.frame_rate)
    made = page.evaluate(RENDER, [SEED, 1, wanted, manifest.codec.noise_values])
    found = np.stack([np.frombuffer(base64.b64decode(channel), np.float32) for channel in made])
    expected = expected[:, : found.shape[1]]
    assert found.shape == (2, wanted * manifest.feature.hop_length)
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < TOLERANCE


def test_it_plays_and_saves_what_was_heard(url: str, page: Page) -> None:
    page.goto(url)
    page.locator("#play:enabled").click()
    # A function, not an expression: the page's policy lets no text become code.
    level = """() => {
      const analyser = window.radioState.analyser;
      if (!analyser) return 0;
      const values = new Float32Array(analyser.fftSize);
      analyser.getFloatTimeDomainData(values);
      return Math.max(...values.map(Math.abs));
    }"""
    wait_for(lambda: page.evaluate(level) > 0.01)
    assert page.locator("#play").text_content() == "Pause"
    # Another condition and another seed begin a new piece.
    page.locator("#condition").select_option(label=CONDITIONS[2])
    page.locator("#seed").fill("77")
    page.locator("#seed").press("Enter")
    wait_for(lambda: page.evaluate("() => window.radioState.made") > 2)
    wait_for(lambda: page.evaluate(level) > 0.01)
    page.wait_for_timeout(1500)
    with page.expect_download() as downloaded:
        page.locator("#record").click()
    saved = Path(downloaded.value.path()).read_bytes()
    assert downloaded.value.suggested_filename == "radio-seed-77.wav"
    assert (saved[:4], saved[8:16]) == (b"RIFF", b"WAVEfmt ")
    samples = np.frombuffer(saved[44:], "<i2")
    assert len(samples) * 2 == int.from_bytes(saved[40:44], "little")
    assert len(samples) > 22_050 and np.abs(samples).max() > 300
    page.locator("#play").click()
    wait_for(lambda: page.evaluate("() => window.radioState.analyser.context.state") == "suspended")


def test_text_of_strangers_is_text(folder: Path) -> None:
    page = (folder / radio.PAGE).read_text("utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script>alert" not in page
    assert "&lt;b&gt;&amp;&#34;quoted&#34;&lt;/b&gt;" in page
    assert 'href="javascript:' not in page and "javascript:alert(2)" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert HOSTILE_TITLE not in page
    assert manifests.read(folder / radio.MODELS).sources.tracks[0].title == HOSTILE_TITLE


def test_every_file_of_the_page_is_in_the_folder(folder: Path) -> None:
    """No other host is asked for anything."""
    for source in [*folder.glob("*.js"), folder / radio.PAGE, folder / "style.css"]:
        text = source.read_text("utf-8").replace("https://www.npmjs.com/package/onnxruntime-web", "")
        text = text.replace("https://example.org/a?b=&lt;c&gt;", "")
        assert "http://" not in text and "https://" not in text, source.name
    assert -120 < json.loads((folder / "radio.json").read_text("utf-8"))["gain_db"] < 120


def test_a_release_that_a_browser_cannot_play_is_refused() -> None:
    for pipeline, vocoder, message in (
        ("dense_gan", "neural", "prior must be temporal/gan, temporal/flow"),
        ("temporal_gan", "griffin_lim", "vocoder must be neural for --web, got 'griffin_lim'"),
    ):
        with pytest.raises(InputError, match=message):
            radio.check_radio(release_of(pipeline, vocoder=vocoder))


# onnxruntime-web, by a stand-in for npm.


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A tarball of other files, whose hashes are those that are asked for."""
    contents = {"ort.wasm.bundle.min.mjs": b"export {}", "ort-wasm-simd-threaded.wasm": b"\0asm"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in {**contents, "../../outside": b"x"}.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(ort, "FILES", {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()})
    monkeypatch.setattr(ort, "TARBALL_SHA512", hashlib.sha512(packed.getvalue()).hexdigest())
    return packed.getvalue()


PATH = f"/onnxruntime-web/-/onnxruntime-web-{ort.VERSION}.tgz"


def test_the_files_are_fetched_once(site: Site, package: bytes, tmp_path: Path) -> None:
    site.add(PATH, package)
    for _ in range(2):
        found = ort.files(site.base_url + "/", tmp_path / "cache")
        assert found["ort-wasm-simd-threaded.wasm"].read_bytes() == b"\0asm"
    assert site.hits[PATH] == 1
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(ort.FILES)
    # A file that was changed since is fetched again.
    found["ort-wasm-simd-threaded.wasm"].write_bytes(b"other")
    ort.files(site.base_url, tmp_path / "cache")
    assert site.hits[PATH] == 2


def test_another_tarball_is_refused(site: Site, package: bytes, tmp_path: Path) -> None:
    site.add(PATH, package + b"\0")
    with pytest.raises(InputError, match=r"SHA-512 of .* must be"):
        ort.files(site.base_url, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_no_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        TransientError, match=r"cannot be fetched from npm .*: connect to a network once, or put"
    ):
        ort.files("http://127.0.0.1:1", tmp_path / "cache")
