"""The studio in a real browser, used as a person would; its sounds are tones, so that each takes a moment."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from melodygan_core.storage import Store
from melodygan_web.dagster_runs import DagsterRuns
from tests.browser import DESKTOP, PHONE, browser, findings, level, new_page, screenshot
from tests.browser.xss import STRINGS
from tests.web.conftest import Tones, put_release, put_samples, tone, wait_for
from tests.web.serving import Served, free_port, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow
__all__ = ["browser"]

# What a browser reports while no server listens, and of the old token.
RESTART = (
    "403 (Forbidden)",
    "ERR_CONNECTION",
    "ERR_INCOMPLETE_CHUNKED_ENCODING",
    "ERR_EMPTY_RESPONSE",
    "ERR_NETWORK",
)


@dataclass
class Site:
    """A served studio, its runner and its store."""

    served: Served
    tones: Tones
    store: Store

    @property
    def url(self) -> str:
        return self.served.url

    def jobs(self) -> list[Any]:
        return self.served.app.studio.jobs.all()


def fill(store: Store) -> None:
    put_release(store)
    put_release(store, "temporal_gan", ())
    put_samples(store, 2)
    put_samples(store, 1, "temporal_gan", condition="calm", seed=12, loudness_lufs=-20.0)


@pytest.fixture
def site(store: Store) -> Iterator[Site]:
    fill(store)
    tones = Tones(store)
    with served(store, tones) as opened:
        yield Site(opened, tones, store)


def card(page: Page, title: str) -> Locator:
    return page.locator(".sound-card").filter(has=page.get_by_role("heading", name=title, exact=True))


def playing(page: Page) -> list[str]:
    """Titles of the sounds that play."""
    found = page.evaluate(
        "[...document.querySelectorAll('.sound')].filter(s => !s.querySelector('audio').paused)"
        ".map(s => s.dataset.title)"
    )
    return [title.split(",")[0] for title in found]


def test_listening_filtering_and_comparing(browser: Browser, site: Site, tmp_path: Path) -> None:
    with new_page(browser, accept_downloads=True) as page:
        page.goto(f"{site.url}/listen")
        page.get_by_label("Pipeline").select_option("temporal_gan")
        page.get_by_text("1 of 3 sounds").wait_for()
        page.get_by_label("Pipeline").select_option("")
        page.get_by_text("3 sounds", exact=True).wait_for()
        page.get_by_label("Seed", exact=True).fill("7")
        page.get_by_text("2 of 3 sounds").wait_for()
        page.get_by_label("Seed", exact=True).fill("")
        page.get_by_text("3 sounds", exact=True).wait_for()
        first, second = card(page, "Seed 7"), card(page, "Seed 12")
        # One player at a time, and something is heard.
        first.locator("audio").evaluate("audio => { audio.loop = true; return audio.play() }")
        assert level(first.locator("audio")) > 0.1
        second.locator("audio").evaluate("audio => { audio.loop = true; return audio.play() }")
        assert playing(page) == ["Seed 12"] and level(first.locator("audio")) < 1e-3
        # By keyboard: A and B at one place and one loudness.
        first.get_by_role("button", name="A: compare").click()
        second.get_by_role("button", name="B: compare").click()
        page.locator("h1").click()
        page.keyboard.press("a")
        wait_for(lambda: playing(page) == ["Seed 7"])
        # Its figures say that it is 6 dB louder.
        volumes = [c.locator("audio").evaluate("audio => audio.volume") for c in (first, second)]
        assert volumes[1] == 1 and volumes[0] == pytest.approx(10 ** (-6 / 20), rel=0.02)
        page.keyboard.press("Space")
        assert playing(page) == []
        # A star stays, and can be filtered.
        first.get_by_role("button", name="Star").click()
        page.locator("[data-star][aria-pressed=true]").wait_for()
        page.reload()
        page.get_by_label("Starred only").check()
        page.get_by_text("1 of 3 sounds").wait_for()
        assert card(page, "Seed 7").is_visible()
        page.get_by_label("Starred only").uncheck()
        page.get_by_text("3 sounds", exact=True).wait_for()
        # Two sounds in one file.
        for box in page.get_by_role("checkbox", name="Select").all()[:2]:
            box.check()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download as zip").click()
        download.value.save_as(tmp_path / "sounds.zip")
        with zipfile.ZipFile(tmp_path / "sounds.zip") as archive:
            assert len(archive.namelist()) == 4
        screenshot(page, "listen", full=True)


def generate(page: Page, site: Site, count: int = 2, seed: int = 5) -> None:
    page.goto(f"{site.url}/generate?pipeline=temporal_flow")
    page.get_by_label("How many").fill(str(count))
    page.get_by_label("Seed", exact=True).fill(str(seed))
    page.get_by_role("button", name="Generate").click()


def test_generating_stopping_and_again(browser: Browser, site: Site) -> None:
    with new_page(browser) as page:
        site.tones.gate.clear()
        generate(page, site, count=3, seed=40)
        job = page.locator(".job").first
        job.get_by_text("Making 1 of 3").wait_for()
        # The seed changed, because it was not kept.
        assert page.get_by_label("Seed", exact=True).input_value() != "40"
        site.tones.gate.set()
        job.get_by_text("Done").wait_for()
        assert job.locator(".sound-card").count() == 3
        sound = card(page, "Seed 41")
        sound.locator("audio").evaluate("audio => { audio.loop = true; return audio.play() }")
        assert level(sound.locator("audio")) > 0.05
        # Settings are remembered; a kept seed, too.
        page.get_by_label("Length (s)").fill("3.5")
        page.get_by_label("Keep this seed").check()
        page.get_by_label("Seed", exact=True).fill("77")
        page.locator("h1").click()
        page.reload()
        assert page.get_by_label("Length (s)").input_value() == "3.5"
        assert page.get_by_label("Seed", exact=True).input_value() == "77"
        assert page.get_by_label("Keep this seed").is_checked()
        # Stopped.
        site.tones.gate.clear()
        page.get_by_role("button", name="Generate").click()
        page.locator(".job").first.get_by_role("button", name="Stop").click()
        page.locator(".job").first.get_by_text("Stopped, 0 of 3 made").wait_for()
        site.tones.gate.set()
        page.locator(".job").first.get_by_role("button", name="Make the missing ones").click()
        page.locator(".job").first.get_by_text("Done").wait_for()
        screenshot(page, "generate", full=True)
        # Again, with the settings of that sound.
        card(page, "Seed 41").get_by_role("link", name="Again").click()
        assert page.get_by_label("Seed", exact=True).input_value() == "41"
        # A value that is not allowed stays in the page.
        page.get_by_label("How many").fill("0")
        before = len(site.jobs())
        page.get_by_role("button", name="Generate").click()
        assert len(site.jobs()) == before


def test_a_reload_two_tabs_and_a_restart_lose_nothing(browser: Browser, store: Store) -> None:
    fill(store)
    port = free_port()
    with new_page(browser, allowed=RESTART) as page:
        tones = Tones(store)
        with served(store, tones, port) as opened:
            site = Site(opened, tones, store)
            tones.gate.clear()
            generate(page, site)
            page.locator(".job").get_by_text("Making 1 of 2").wait_for()
            page.reload()
            page.locator(".job").get_by_text("Making 1 of 2").wait_for()
            other = page.context.new_page()
            other.goto(f"{site.url}/jobs")
            other.locator(".job").get_by_text("Making 1 of 2").wait_for()
            tones.gate.set()
            # Both follow without being touched.
            for tab in (page, other):
                tab.locator(".job[data-state=done]").wait_for()
                tab.locator(".job .sound-card").nth(1).wait_for()
            tones.gate.clear()
            page.get_by_role("button", name="Generate").click()
            page.locator(".job").first.get_by_text("Making 1 of").wait_for()
            # A job of one tab appears in the list of the other.
            other.locator(".job").nth(1).wait_for()
            # As a killed server leaves it: the worker does not end what it was making.
            tones.failure = "killed"
            opened.app.studio.jobs._closed = True
        tones = Tones(store)
        with served(store, tones, port) as opened:
            # The page reconnects, and its old token is renewed at the first request.
            job = page.locator(".job").first
            job.get_by_text("Interrupted when the server ended").wait_for(timeout=30_000)
            job.get_by_role("button", name="Make the missing ones").click()
            job.get_by_text("Done").wait_for()
            # The cards come after the label.
            job.locator(".sound-card").nth(1).wait_for()
            assert job.locator(".sound-card").count() == 2
        other.close()


def test_a_part_is_marked_on_the_waveform(browser: Browser, site: Site) -> None:
    with new_page(browser) as page:
        page.goto(f"{site.url}/listen")
        card(page, "Seed 7").get_by_role("link", name="Vary").click()
        page.get_by_role("link", name="Make a part anew").click()
        # The form scrolls by itself.
        page.locator(".region canvas").scroll_into_view_if_needed()
        box = page.locator(".region canvas").bounding_box()
        assert box is not None
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 0.25 * box["width"], y)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.75 * box["width"], y, steps=4)
        page.mouse.up()
        start, end = (float(page.get_by_label(name).input_value()) for name in ("From (s)", "To (s)"))
        assert (start, end) == (pytest.approx(0.25, abs=0.02), pytest.approx(0.75, abs=0.02))
        # By keyboard.
        page.get_by_label("To (s)").fill("0.9")
        page.get_by_role("button", name="Make a part anew").click()
        page.locator(".job[data-state=done]").wait_for()
        [piece] = site.tones.pieces
        assert piece.kind == "inpaint" and piece.settings["end_s"] == 0.9 and "sound" in piece.inputs
        screenshot(page, "inpaint", full=True)


def test_a_file_is_uploaded_and_varied(browser: Browser, site: Site, tmp_path: Path) -> None:
    tone(tmp_path / "my <b>song.wav", 2.0)
    (tmp_path / "words.wav").write_text("words, not sound\n" * 99)
    with new_page(browser, allowed=("400 (Bad Request)",)) as page:
        page.goto(f"{site.url}/generate?do=variations")
        page.get_by_role("button", name="Vary").click()
        page.get_by_text("Choose a sound to start from").first.wait_for()
        page.get_by_label("or a file of yours").set_input_files(tmp_path / "words.wav")
        page.locator(".toast", has_text="no audio").wait_for()
        page.get_by_label("or a file of yours").set_input_files(tmp_path / "my <b>song.wav")
        page.get_by_role("heading", name="my <b>song.wav").wait_for()
        page.get_by_role("button", name="Vary").click()
        page.locator(".job[data-state=done]").wait_for()
        assert site.tones.pieces[0].inputs["sound"].startswith("studio/uploads/u")


def test_pages_are_read_without_scripts(browser: Browser, site: Site) -> None:
    with new_page(browser, java_script_enabled=False) as page:
        page.goto(f"{site.url}/listen")
        assert page.locator(".sound-card audio[controls]").count() == 3
        page.get_by_label("Pipeline").select_option("temporal_gan")
        page.get_by_role("button", name="Show").click()
        assert page.locator(".sound-card").count() == 1
        card(page, "Seed 12").get_by_text("How it was made").click()
        assert card(page, "Seed 12").get_by_text("-20.0 LUFS").is_visible()
        page.get_by_role("link", name="Generate", exact=True).click()
        assert page.get_by_text("Making sounds needs JavaScript").is_visible()
        page.get_by_role("link", name="Jobs").click()
        assert page.get_by_role("heading", name="Jobs").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_serious_findings_and_no_overflow(browser: Browser, site: Site, scheme: str, device: Any) -> None:
    sound = site.served.app.studio.sounds.all()[0].id
    with new_page(browser, allowed=("404 (Not Found)",), **{**device, "color_scheme": scheme}) as page:
        generate(page, site)
        page.locator(".job[data-state=done] .sound-card").nth(1).wait_for()
        for path in ("/listen", "/generate", f"/generate?do=inpaint&sound={sound}", "/jobs", "/nothing"):
            page.goto(f"{site.url}{path}")
            page.wait_for_timeout(150)
            for summary in page.locator("summary").all()[:1]:
                summary.click()
            assert findings(page) == [], path
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{path} is {wide} px too wide"
            name = path.strip("/").partition("?")[2][:10] or path.strip("/")
            screenshot(page, f"{name}-{scheme}-{'phone' if device is PHONE else 'desktop'}")


def test_strangers_texts_run_nothing(browser: Browser, store: Store) -> None:
    put_release(store, conditions=STRINGS)
    for k, text in enumerate(STRINGS):
        named = {"condition": text, "pipeline": text, "release": text, "settings": {text: text}}
        put_samples(store, 1, f"p{k}", service="transfer", inputs=[{"file": text}], **named)
    tones = Tones(store, failure=STRINGS[11])

    def ask(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        runs = [
            {
                "runId": str(k),
                "jobName": text,
                "status": text,
                "stepKeysToExecute": None,
                "assetSelection": None,
            }
            for k, text in enumerate(STRINGS)
        ]
        return {"runsOrError": {"__typename": "Runs", "results": runs}}

    with served(store, tones, dagster=DagsterRuns(ask)) as opened, new_page(browser) as page:
        page.on("dialog", lambda dialog: dialog.dismiss())
        page.goto(f"{opened.url}/generate")
        page.get_by_label("Condition").select_option(index=3)
        page.get_by_role("button", name="Generate").click()
        page.locator(".job[data-state=failed]").wait_for()
        page.evaluate("text => Studio.toast(text)", STRINGS[11])
        for path in ("/listen", "/listen?from=20", "/generate?do=variations", "/jobs"):
            page.goto(f"{opened.url}{path}")
            for summary in page.locator("summary").all():
                summary.click()
            page.wait_for_timeout(100)
            assert page.evaluate("window.hacked") is None
            assert page.locator("main").is_visible()
        # Stored settings of another version, or of somebody else, are values only.
        bad = json.dumps({"count": STRINGS[0], "duration_s": STRINGS[13], "condition": STRINGS[1]})
        page.goto(f"{opened.url}/generate")
        page.evaluate("bad => localStorage.setItem('studio.generate.generate', bad)", bad)
        page.reload()
        assert page.evaluate("window.hacked") is None


def test_the_keyboard_reaches_everything(browser: Browser, site: Site) -> None:
    with new_page(browser) as page:
        page.goto(f"{site.url}/listen")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        names = set()
        for _ in range(30):
            page.keyboard.press("Tab")
            names.add(page.evaluate("document.activeElement.textContent.trim()"))
        assert {"Again", "Vary", "Continue", "Download"} <= names


def test_a_busy_queue_shows_how_many(browser: Browser, site: Site) -> None:
    with new_page(browser) as page:
        site.tones.gate.clear()
        generate(page, site, count=1)
        page.locator(".job").get_by_text("Making 1 of 1").wait_for()
        page.get_by_role("button", name="Generate").click()
        page.locator(".job").get_by_text("Waiting").wait_for()
        assert page.locator("[data-active-jobs]").text_content() == "2"
        site.tones.gate.set()
        wait_for(lambda: not any(job.is_active for job in site.jobs()))
        page.locator("[data-active-jobs]").wait_for(state="hidden")
