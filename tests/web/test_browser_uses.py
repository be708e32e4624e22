"""Transform and Library in a real browser, used as a person would; what the jobs make are tones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from melodygan_core import catalogue
from melodygan_core.catalogue import read_sources
from melodygan_core.storage import Store, dump_json
from melodygan_web.dagster_runs import DagsterRuns
from melodygan_web.library import erasure
from tests.browser import CHROMIUM, DESKTOP, PHONE, findings, level, new_page, screenshot
from tests.browser.xss import STRINGS
from tests.web.conftest import Tones, put_release, put_samples, tone, wait_for
from tests.web.filling import put_failure, put_sound, put_stems, put_track, row
from tests.web.serving import Served, served
from tests.web.test_library import Dagster

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
# What an AudioContext sends to the loudspeaker, and when its sources start.
TAP = """
  window.starts = [];
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...more) {
    const isLast = target === this.context.destination && !(this instanceof AnalyserNode);
    if (!isLast) return connect.call(this, target, ...more);
    if (!this.context.tap) {
      this.context.tap = this.context.createAnalyser();
      this.context.tap.fftSize = 8192;
      this.context.tap.smoothingTimeConstant = 0;
      connect.call(this.context.tap, this.context.destination);
      window.tap = this.context.tap;
    }
    return connect.call(this, this.context.tap);
  };
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (at, ...more) {
    window.starts.push([at, this.buffer.duration]);
    return start.call(this, at, ...more);
  };
"""
# Levels in dB at both frequencies.
LEVELS = """async frequencies => {
  await new Promise(done => setTimeout(done, 400));
  const values = new Float32Array(tap.frequencyBinCount);
  tap.getFloatFrequencyData(values);
  const bin = f => Math.round(f * tap.fftSize / tap.context.sampleRate);
  return frequencies.map(f => Math.max(...values.slice(bin(f) - 2, bin(f) + 3)));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium with a microphone that beeps."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    options = [
        "--no-sandbox",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield launched
        launched.close()


@dataclass
class Site:
    """A served studio, its runner, its store and what answers for Dagster."""

    served: Served
    tones: Tones
    store: Store
    sources: Path
    dagster: Dagster

    @property
    def url(self) -> str:
        return self.served.url


@pytest.fixture
def site(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    put_release(store)
    styles = {"styles": {"piano": {}, "calm": {}}}
    dump_json(Path(str(store.release("temporal_flow", "r1"))) / "styles.json", styles)
    put_samples(store)
    put_track(store, "a", title="Ode to Joy", uploader="A Choir", tags=("choir", "calm"))
    put_sound(store, "a", 6.0)
    put_stems(store, "a", 6.0)
    put_track(store, "b", title="Nobody knows whose", rights="unknown", licence="")
    put_track(store, "c", title="Too short")
    put_failure(store, "c", "it must last 5 to 1200 s, got 2.00 s")
    sources = tmp_path / "own" / "sources.yaml"
    sources.parent.mkdir()
    sources.write_text("sources:\n  - songs\n")
    monkeypatch.setattr(erasure, "in_child", lambda function, *arguments: function(*arguments))
    tones, dagster = Tones(store), Dagster()
    with served(store, tones, dagster=DagsterRuns(dagster), sources=sources) as opened:
        yield Site(opened, tones, store, sources, dagster)


def test_transferring_a_file_and_comparing(browser: Browser, site: Site, tmp_path: Path) -> None:
    tone(tmp_path / "Hum.wav", 2.0, 330.0)
    site.tones.figures = {"chroma_correlation": 0.84, "onset_correlation": 0.66}
    site.tones.gate.clear()
    with new_page(browser) as page:
        page.goto(f"{site.url}/transform?pipeline=temporal_flow")
        content = page.locator("[data-slot=content]")
        page.get_by_role("button", name="Transfer").click()
        page.get_by_text("Choose a sound for “Melody and rhythm”.").first.wait_for()
        content.locator("input[type=file]").set_input_files(tmp_path / "Hum.wav")
        content.get_by_text("Hum.wav", exact=True).wait_for()
        # The address has it, so that a reload loses nothing.
        page.reload()
        content.get_by_text("Hum.wav", exact=True).wait_for()
        style = page.locator("[data-slot=style]")
        style.locator("select").select_option(label="Ode to Joy")
        style.locator(".chosen").wait_for()
        # A tag takes the place of a sound.
        page.get_by_label("or the timbre of a tag").select_option("piano")
        style.locator(".chosen").wait_for(state="detached")
        page.get_by_role("button", name="Transfer").click()
        card = page.locator("[data-transform-job]").first
        card.locator("[data-row^=before]").wait_for()
        assert site.tones.figures and card.locator("[data-row^=after]").count() == 0
        site.tones.gate.set()
        card.locator("[data-row^=after]").wait_for()
        card.get_by_text("Melody kept: 0.84 (nearly all)").wait_for()
        # A and B: the same place.
        before, after = (card.locator(f"[data-row^={name}] audio") for name in ("before", "after"))
        before.evaluate("audio => { audio.loop = true; return audio.play() }")
        assert level(before) > 0.05
        page.locator("h1").click()
        page.keyboard.press("b")
        wait_for(lambda: after.evaluate("audio => !audio.paused"))
        assert before.evaluate("audio => audio.paused") and level(after) > 0.05
        page.keyboard.press("Space")
        assert findings(page) == []
        screenshot(page, "transform", full=True)


def test_recording_from_the_microphone(browser: Browser, site: Site) -> None:
    with new_page(browser, permissions=["microphone"]) as page:
        page.goto(f"{site.url}/transform?do=reconstruct")
        record = page.locator("[data-record]")
        record.click()
        page.get_by_text("Stop 0:02").wait_for()
        screenshot(page, "transform-recording")
        record.click()
        page.locator("[data-sound-id]").wait_for()
        assert page.locator(".chosen-title p").inner_text().startswith("Recording 20")
        length_s = float(page.locator(".chosen .sound").get_attribute("data-duration") or 0)
        assert 1.5 < length_s < 8
        # The browser's own microphone beeps once a second.
        audio = page.locator(".chosen audio")
        audio.evaluate("audio => { audio.loop = true; return audio.play() }")
        wait_for(lambda: level(audio) > 0.02)
        page.get_by_role("button", name="Reconstruct").click()
        page.locator("[data-row^=after]").wait_for()
        [piece] = site.tones.pieces
        assert piece.inputs["sound"].startswith("studio/uploads/u")


def test_several_files_are_augmented_by_a_job_each(browser: Browser, site: Site, tmp_path: Path) -> None:
    files = [tmp_path / f"Set {n}.wav" for n in range(2)]
    for n, file in enumerate(files):
        tone(file, 1.0, 200.0 + 100 * n)
    with new_page(browser) as page:
        page.goto(f"{site.url}/transform?do=augment")
        page.locator("input[type=file]").set_input_files(files)
        page.get_by_text("Set 1.wav", exact=True).wait_for()
        page.get_by_label("Variations of each").fill("2")
        page.get_by_role("button", name="Augment").click()
        wait_for(lambda: page.locator("[data-row^=after]").count() == 4)
        assert page.locator("[data-transform-job]").count() == 2
        page.reload()
        assert page.locator("[data-row^=after]").count() == 4 and page.locator("[data-sound-id]").count() == 2
        assert page.get_by_label("Variations of each").input_value() == "2"


def test_a_reload_in_the_middle_and_a_second_tab_follow(browser: Browser, site: Site) -> None:
    site.tones.gate.clear()
    with new_page(browser) as page, new_page(browser) as other:
        sound = site.served.app.studio.sounds.all()[0].id
        page.goto(f"{site.url}/transform?do=reconstruct&sound={sound}")
        page.get_by_role("button", name="Reconstruct").click()
        page.locator("[data-transform-job]").wait_for()
        page.reload()
        other.goto(f"{site.url}/transform")
        site.tones.gate.set()
        for tab in (page, other):
            tab.bring_to_front()
            tab.locator("[data-row^=after]").wait_for()
            assert tab.locator("[data-row^=after]").count() == 1


def test_stems_play_in_sync_and_are_muted_and_soloed(browser: Browser, site: Site) -> None:
    with new_page(browser) as page:
        page.add_init_script(TAP)
        page.goto(f"{site.url}/library")
        page.get_by_role("link", name="Ode to Joy", exact=True).click()
        vocals, instrumental = (
            page.locator(f"[data-stem]:has-text('{n}')").first for n in ("Vocals", "Instrumental")
        )
        page.get_by_role("button", name="Play together").click()
        page.locator("[data-stems][data-playing]").wait_for()

        def levels() -> list[float]:
            return page.evaluate(LEVELS, [440.0, 110.0])

        both = levels()
        assert min(both) > -40
        vocals.get_by_role("button", name="Mute").click()
        muted = levels()
        assert muted[0] < both[0] - 30 and abs(muted[1] - both[1]) < 6
        vocals.get_by_role("button", name="Mute").click()
        vocals.get_by_role("button", name="Solo").click()
        solo = levels()
        assert solo[1] < both[1] - 30 and abs(solo[0] - both[0]) < 6
        vocals.get_by_role("button", name="Solo").click()
        # To the sample: both stems of a part have one start.
        starts = page.evaluate("starts")
        assert len(starts) >= 4 and all(a == b for a, b in zip(starts[::2], starts[1::2], strict=True))
        # Parts follow each other without a gap.
        assert starts[2][0] == pytest.approx(starts[0][0] + starts[0][1], abs=1e-6)
        # One thing is heard at a time.
        vocals.locator("audio").evaluate("audio => audio.play()")
        page.get_by_role("button", name="Play together").wait_for()
        page.get_by_role("slider", name="Position in all stems").fill("5")
        page.get_by_role("button", name="Play together").click()
        wait_for(lambda: page.locator("[data-stems-time]").inner_text() == "0:05")
        # It ends at the end, and begins again.
        page.get_by_role("button", name="Play together").wait_for()
        assert page.locator("[data-stems-time]").inner_text() == "0:00"
        assert instrumental.is_visible() and findings(page) == []
        screenshot(page, "library-track", full=True)


def test_adding_a_file_and_an_address(browser: Browser, site: Site, tmp_path: Path) -> None:
    tone(tmp_path / "My song.wav", 1.0)
    with new_page(browser) as page:
        page.goto(f"{site.url}/library")
        page.locator("summary").filter(has_text="Add music").click()
        page.get_by_label("or files of yours").set_input_files(tmp_path / "My song.wav")
        page.get_by_label("Address").fill("https://music.example/album")
        page.get_by_role("button", name="Add", exact=True).click()
        page.get_by_text("Say what your rights are.").first.wait_for()
        screenshot(page, "library-add", full=True)
        assert len(read_sources(site.sources)) == 1
        page.get_by_label("Your rights").select_option("own")
        page.get_by_label("Licence").fill("CC0 1.0")
        page.get_by_label("Tags").fill("calm, piano , ")
        page.get_by_role("button", name="Add", exact=True).click()
        page.get_by_text("2 sources added.").first.wait_for()
        _, url, file = read_sources(site.sources)
        assert (url.url, url.rights, url.tags) == ("https://music.example/album", "own", ("calm", "piano"))
        assert file.path.endswith("/My song.wav") and file.licence == "CC0 1.0"
        page.locator("summary").filter(has_text="3 sources").click()
        remove = page.get_by_role("button", name="Remove the source https://music.example/album")
        remove.click()
        assert len(read_sources(site.sources)) == 3, "a second click is needed"
        remove.click()
        page.get_by_text("The source is removed").first.wait_for()
        assert len(read_sources(site.sources)) == 2


def test_problems_are_tried_again_and_a_track_is_forgotten(browser: Browser, site: Site) -> None:
    site.dagster.failed["stems"] = [{"track": "a", "title": "Ode", "reason": "made since", "permanent": False}]
    site.dagster.failed["raw_wav"] = [{"track": "b", "title": "B", "reason": "no answer", "permanent": False}]
    with new_page(browser) as page:
        page.goto(f"{site.url}/library")
        page.get_by_text("no answer").wait_for()
        page.get_by_role("button", name="Try again: Too short").click()
        page.get_by_text("Dagster tries it again.").first.wait_for()
        assert site.dagster.launched()[0][0] == "raw_wav_job"
        assert not site.store.raw_error("c").exists()
        page.get_by_role("link", name="Ode to Joy", exact=True).click()
        page.get_by_role("link", name="Show what follows").click()
        page.get_by_role("heading", name="Forget “Ode to Joy”?").wait_for()
        assert findings(page) == []
        screenshot(page, "library-forget", full=True)
        assert site.store.raw_wav("a").exists()
        page.get_by_role("button", name="Forget it for good").click()
        page.get_by_text("The track is forgotten").first.wait_for()
        assert not site.store.raw_wav("a").exists() and "a" in catalogue.forgotten(site.store)
        assert page.get_by_role("link", name="Ode to Joy", exact=True).count() == 0


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_both_screens_at_every_size_by_day_and_night(
    browser: Browser, site: Site, size: dict[str, Any]
) -> None:
    sound = site.served.app.studio.sounds.all()[0].id
    site.tones.figures = {"chroma_correlation": 0.84, "onset_correlation": 0.66}
    request = {"kind": "reconstruct", "pipeline": "temporal_flow", "settings": {}, "sounds": {"sound": sound}}
    name = "phone" if size is PHONE else "desktop"
    with new_page(browser, **size) as page:
        page.goto(f"{site.url}/transform?content={sound}")
        page.evaluate("request => Studio.post('/jobs/submit', request)", request)
        wait_for(lambda: not any(job.is_active for job in site.served.app.studio.jobs.all()))
        for path in ("/library", "/library/tracks/a", f"/transform?content={sound}"):
            page.goto(f"{site.url}{path}")
            page.locator("canvas.mg-wave").first.wait_for()
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
                assert findings(page) == [], path
                picture = path.strip("/").split("?")[0].replace("/", "-")
                screenshot(page, f"{picture}-{name}-{scheme}", full=True)


def test_reading_needs_no_script(browser: Browser, site: Site) -> None:
    sound = site.served.app.studio.sounds.all()[0].id
    with new_page(browser, java_script_enabled=False) as page:
        page.goto(f"{site.url}/library?q=ode")
        assert page.locator("audio").count() == 1
        page.get_by_role("link", name="Ode to Joy", exact=True).click()
        assert page.locator("audio[controls]").count() == 3
        assert not page.locator("[data-stems-play]").is_visible()
        page.get_by_role("link", name="Show what follows").click()
        page.get_by_text("melodygan forget a").wait_for()
        page.goto(f"{site.url}/transform?content={sound}")
        page.get_by_text("needs JavaScript").wait_for()
        assert (
            page.locator(".chosen audio").is_visible() and not page.locator("[data-record]").first.is_visible()
        )


def test_text_of_strangers_runs_nothing(browser: Browser, site: Site) -> None:
    rows = [
        row(f"x{n:02d}", title=t, uploader=t, licence=t, tags=(t,), url=f"https://a.example/{n}/{t}")
        for n, t in enumerate(STRINGS)
    ]
    catalogue.save(site.store, rows)
    put_sound(site.store, "x00", 1.0, problems=list(STRINGS))
    put_stems(site.store, "x00", 1.0)
    for n, text in enumerate(STRINGS):
        put_failure(site.store, f"x{n:02d}", text)
    site.dagster.sources = [{"source": text, "reason": text} for text in STRINGS]
    with new_page(browser) as page:
        for path in (
            "/library",
            "/library?from=20",
            "/library/tracks/x00",
            "/library/tracks/x00/forget",
            "/transform",
        ):
            page.goto(f"{site.url}{path}")
            page.wait_for_timeout(300)
            _assert_not_hacked(page)
        page.get_by_role("combobox").first.select_option(index=3)
        page.locator(".chosen").first.wait_for()
        _assert_not_hacked(page)


def _assert_not_hacked(page: Page) -> None:
    assert page.evaluate("window.hacked === undefined")
    assert page.url.startswith("http://127.0.0.1:")
