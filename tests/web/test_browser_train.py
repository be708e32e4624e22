"""Train and Evaluate in a real browser: start and stop, live curves, the nearest training music, axe, phone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from melodygan_core.config.presets import load
from melodygan_core.storage import Store
from melodygan_core.storage.kinds import TRAINING_SOUND
from melodygan_web.dagster_runs import DagsterRuns
from tests.browser import DESKTOP, PHONE, browser, findings, level, new_page, screenshot
from tests.browser.xss import STRINGS
from tests.web.conftest import Tones, put_release, put_samples, tone
from tests.web.serving import Served, served
from tests.web.test_evaluate import figures, put_evaluation, put_measured_release, with_sources
from tests.web.test_train import PRIOR, Dagster, observation, write_all

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
__all__ = ["browser"]

PIPELINE = "temporal_flow"


@dataclass
class Site:
    """A served studio with what answers as Dagster, its runner and its store."""

    served: Served
    dagster: Dagster
    tones: Tones
    store: Store

    @property
    def url(self) -> str:
        return self.served.url


@pytest.fixture
def site(store: Store) -> Iterator[Site]:
    config = load("small")
    write_all(store, config)
    put_release(store)
    put_samples(store, 2, **with_sources(title=STRINGS[13]))
    put_evaluation(store)
    put_measured_release(store, "r2", 10.0)
    put_measured_release(store, "r3", 20.0)
    for step in (100, 200):
        tone(Path(store.locate(TRAINING_SOUND.uri(asset=PRIOR, step=str(step))).path))
    tones, dagster = Tones(store), Dagster()
    with served(store, tones, dagster=DagsterRuns(dagster.ask), config=config) as opened:
        yield Site(opened, dagster, tones, store)


def test_a_training_is_started_followed_and_stopped(browser: Browser, site: Site) -> None:
    with new_page(browser) as page:
        page.goto(f"{site.url}/train?pipeline=temporal_gan")
        page.get_by_text("Everything is up to date.").wait_for()
        page.get_by_role("button", name="Check again").click()
        page.get_by_text("Running: Prior is being made.").wait_for()
        assert site.dagster.started == ["temporal_gan_job"]
        # Validations arrive while the page is open.
        site.dagster.events[PRIOR] = [
            observation(step, float(step), validation__kad=float(900 - step)) for step in (300, 200, 100)
        ]
        page.get_by_role("img", name="kad from step 100 to 300").wait_for()
        assert page.get_by_text("Step 300 of at most").is_visible()
        # What it made at a validation is heard, and goes on while figures arrive.
        sound = page.locator('[data-title="Prior, step 200"] audio')
        sound.evaluate("audio => { audio.loop = true; return audio.play() }")
        assert level(sound) > 0.1
        site.dagster.events[PRIOR].insert(0, observation(400, 400.0, validation__kad=400.0))
        page.wait_for_timeout(4500)
        assert level(sound) > 0.1
        sound.evaluate("audio => audio.pause()")
        page.get_by_text("Step 400 of at most").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Check again").wait_for()
        assert site.dagster.stopped == ["r1"]


def test_the_nearest_training_music_appears_beside_a_sound(browser: Browser, site: Site) -> None:
    with new_page(browser) as page:
        page.goto(f"{site.url}/evaluate?pipeline={PIPELINE}")
        site.tones.gate.clear()
        page.get_by_role("button", name="Find the nearest training music").first.click()
        bar = page.get_by_role("progressbar", name="Search for the nearest training music")
        bar.wait_for()
        page.reload()
        bar.wait_for()
        site.tones.gate.set()
        nearest = page.locator(".nearest audio")
        nearest.wait_for(state="attached")
        nearest.evaluate("audio => { audio.loop = true; return audio.play() }")
        assert level(nearest) > 0.1
        # Two releases, chosen as a person would.
        page.get_by_label("First").select_option("temporal_flow/r3")
        page.get_by_label("Second").select_option("temporal_flow/r2")
        page.get_by_role("button", name="Compare", exact=True).click()
        page.get_by_text("temporal_flow r2 is nearer to the test music").wait_for()
        assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_pages_fit_and_have_no_serious_findings(browser: Browser, site: Site, size: str, scheme: str) -> None:
    site.dagster.run("r1")
    site.dagster.events[PRIOR] = [
        observation(step, float(step), validation__kad=float(900 - step)) for step in (300, 200, 100)
    ]
    put_evaluation(site.store, **figures())
    options = {**(PHONE if size == "phone" else DESKTOP), "color_scheme": scheme}
    with new_page(browser, **options) as page:
        for path in ("train?pipeline=temporal_gan", f"evaluate?pipeline={PIPELINE}"):
            page.goto(f"{site.url}/{path}")
            page.evaluate("document.querySelectorAll('details').forEach(part => (part.open = true))")
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
            screenshot(page, f"{path.partition('?')[0]}-{size}-{scheme}", full=True)
            assert findings(page) == [], path


def test_pages_can_be_read_without_javascript(browser: Browser, site: Site) -> None:
    with new_page(browser, java_script_enabled=False) as page:
        page.goto(f"{site.url}/train?pipeline=temporal_gan")
        assert page.get_by_text("Everything is up to date.").is_visible()
        page.goto(f"{site.url}/evaluate?pipeline={PIPELINE}")
        assert page.get_by_text("as far from the test music").first.is_visible()
        page.get_by_role("button", name="Compare", exact=True).click()
        assert page.locator(".comparison").is_visible()
