"""The gallery as a person opens it: from the store behind the guard, and as a file; with strangers' titles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import PlainTextResponse

from melodygan_core.gallery import render
from melodygan_core.gallery.render import to_html
from melodygan_core.gallery.sounds import GalleryEntry
from melodygan_dagster.front_door import build_app
from melodygan_dagster.guard import allowed_hosts
from tests.browser import PHONE, findings, level, new_page, screenshot, serving, wait_for
from tests.browser.xss import STRINGS
from tests.conftest import copied

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.core.made import Trained

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Gallery:
    """A rendered gallery: its folder, its address behind the guard, and what the template was given."""

    folder: Path
    url: str
    content: dict[str, Any]


@pytest.fixture(scope="module")
def gallery(dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    own = copied(dense, tmp_path_factory.mktemp("gallery") / "store")
    content: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "to_html", lambda given: content.update(given) or to_html(given))
        made = render.render(own.dataset, [GalleryEntry(own.artifacts, own.samples, own.evaluation)], own.store)
    own.store.write_record(made)
    with serving(lambda port: build_app(own.store, PlainTextResponse("dagster"), allowed_hosts(port))) as url:
        yield Gallery(Path(str(own.store.at(made.uri))), f"{url}/gallery", content)


@pytest.fixture
def page(browser: Browser, gallery: Gallery) -> Iterator[Page]:
    with new_page(browser) as opened:
        opened.goto(gallery.url)
        opened.locator(".mg-track").first.wait_for()
        yield opened


def play(page: Page, title: str) -> None:
    """Clicks into the middle of a picture, and waits until it is heard."""
    track = page.get_by_role("slider", name=f"Position in {title}").first
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    assert box is not None
    track.click(position={"x": box["width"] / 2, "y": 20})
    wait_for(page, "[...document.querySelectorAll('audio')].some(a => !a.paused && a.readyState > 2)")


def test_a_row_is_compared_by_ear(page: Page) -> None:
    play(page, "real: ")
    row = page.locator("#compared .sound[data-group=row-0] audio")
    real, codec = row.nth(0), row.nth(1)
    assert level(real) > 1e-3
    page.keyboard.press("b")
    wait_for(page, "document.querySelectorAll('#compared audio')[1].currentTime > 3")
    assert real.evaluate("audio => audio.paused")
    assert level(codec) > 1e-3
    positions = [sound.evaluate("audio => audio.currentTime") for sound in (real, codec)]
    assert 0 <= positions[1] - positions[0] < 2
    gains = [sound.evaluate("audio => audio.volume") for sound in (real, codec)]
    lufs = [float(s.get_attribute("data-lufs") or "") for s in page.locator("[data-group=row-0]").all()[:2]]
    for gain, loudness in zip(gains, lufs, strict=True):
        assert gain == pytest.approx(10 ** ((min(lufs) - loudness) / 20), rel=0.01)
    screenshot(page, "gallery-row")


def test_every_picture_and_sound_is_there(page: Page) -> None:
    broken = page.evaluate(
        """async () => {
            const images = [...document.querySelectorAll('img')];
            for (const image of images) { image.loading = 'eager'; await image.decode().catch(() => {}); }
            const audio = [...document.querySelectorAll('audio')];
            const lengths = await Promise.all(audio.map(a => new Promise(done => {
                a.onloadedmetadata = () => done(a.duration); a.onerror = () => done(0); a.preload = 'metadata';
            })));
            const silent = lengths.filter(seconds => !(seconds > 1));
            return [images.filter(image => !image.naturalWidth).length, silent.length, audio.length];
        }"""
    )
    assert broken[:2] == [0, 0] and broken[2] >= 20


def test_its_script_reaches_nothing_of_the_server(browser: Browser, gallery: Gallery) -> None:
    with new_page(browser, allowed=("Content Security Policy", "violates the following")) as page:
        page.goto(gallery.url)
        outcomes = page.evaluate(
            """async () => {
                const tried = {};
                tried.fetch = await fetch('/graphql').then(() => 'read', () => 'refused');
                const script = Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'});
                document.body.append(script);
                const outside = Object.assign(document.createElement('script'), {src: '/store/gallery/x.js'});
                tried.outside = await new Promise(done => {
                    outside.onload = () => done('read'); outside.onerror = () => done('refused');
                    document.body.append(outside);
                });
                document.body.insertAdjacentHTML('beforeend', '<img src="/nothing" onerror="window.ran = 2">');
                await new Promise(done => setTimeout(done, 200));
                return {...tried, ran: window.ran ?? 'nothing'};
            }"""
        )
        assert outcomes == {"fetch": "refused", "outside": "refused", "ran": "nothing"}


def test_it_works_as_a_file(browser: Browser, gallery: Gallery) -> None:
    with new_page(browser) as page:
        page.goto((gallery.folder / "index.html").as_uri())
        play(page, "real: ")
        page.keyboard.press("b")
        wait_for(page, "document.querySelectorAll('#compared audio')[1].currentTime > 3")
        assert page.locator("#compared .mg-playing").count() == 1


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_axe_finds_nothing_serious(browser: Browser, gallery: Gallery, options: dict[str, Any]) -> None:
    with new_page(browser, **options) as page:
        page.goto(gallery.url)
        page.locator(".mg-track").first.wait_for()
        name = str(options.get("color_scheme") or ("phone" if options else "light"))
        screenshot(page, f"gallery-{name}")
        for summary in page.locator("summary").all():
            summary.click()
        page.get_by_role("button", name="A: compare").first.click()
        assert findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        luminance = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(luminance) < 60) == (options.get("color_scheme") == "dark")
        # Plots are drawn on white, and turned over in the dark.
        filtered = page.locator(".plot").first.evaluate("plot => getComputedStyle(plot).filter !== 'none'")
        assert filtered == (options.get("color_scheme") == "dark")


def test_without_javascript_it_is_read_and_heard(browser: Browser, gallery: Gallery) -> None:
    with new_page(browser, java_script_enabled=False) as page:
        page.goto(gallery.url)
        assert page.get_by_role("heading", name="Best pieces").is_visible()
        assert page.locator("audio[controls]").first.is_visible()
        assert page.locator("img.mg-spectrogram").first.is_visible()
        assert page.locator("noscript p").bounding_box()


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Go to the sounds")
    assert skip.evaluate("link => link === document.activeElement && link.getBoundingClientRect().top >= 0")
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "slider":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press(" ")
    wait_for(page, "!document.querySelector('#best audio').paused")


def test_strangers_texts_stay_texts(browser: Browser, gallery: Gallery) -> None:
    """Each of STRINGS in every field that comes from strangers, on one page."""
    rows = [hostile_row(gallery.content["examples"][0], text, k) for k, text in enumerate(STRINGS)]
    one = gallery.content["tracks"][0]
    tracks = [{**one, "title": text, "licence": text, "rights": text} for text in STRINGS]
    file = gallery.folder / "hostile.html"
    file.write_text(to_html({**gallery.content, "examples": rows, "tracks": tracks}), "utf-8")
    with new_page(browser) as page:
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.goto(file.as_uri())
        page.locator("#compared .mg-track").first.wait_for()
        # The dock shows a title, too.
        page.locator("#compared .mg-choose").first.click()
        assert page.get_by_role("button", name=f"A {STRINGS[0]}").is_visible()
        titles = page.locator("#compared .sound").evaluate_all("sounds => sounds.map(s => s.dataset.title)")
        assert titles == [text.replace("\x00", "\ufffd") for text in STRINGS for _ in range(2)]
        names = set(page.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))
        assert not names & {"iframe", "object", "embed", "form", "base", "svg", "math", "video", "textarea"}
        assert page.evaluate("document.querySelectorAll('script').length") == 1
        handlers = "e => [...e.attributes].some(a => a.name.startsWith('on') || a.name === 'autofocus')"
        assert page.evaluate(f"[...document.querySelectorAll('*')].filter({handlers}).length") == 0
        assert page.evaluate("window.hacked") is None
        assert page.locator("h2").first.is_visible()


def hostile_row(row: dict[str, Any], text: str, k: int) -> dict[str, Any]:
    """A row whose titles, captions and licence are a stranger's text."""
    those = {"title": text, "label": text, "note": text}
    sounds = {name: [{**row[name][0], **those}] for name in ("sounds", "parts")}
    return {**row, **sounds, "title": text, "licence": text, "group": f"row-{k}"}
