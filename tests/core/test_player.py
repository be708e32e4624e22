"""The player that gallery and studio share, in a browser: what is heard, and by mouse and keyboard."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from melodygan_core import audio
from melodygan_core.audio import previews
from melodygan_core.gallery import assets
from tests.browser import findings, level, new_page, screenshot, serving, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow
RATE, SECONDS = 22_050, 20.0
# Title, frequency, peak and group of each sound of the page.
SOUNDS = (("loud", 440.0, 0.5, "song"), ("quiet", 441.0, 0.1, "song"), ("other <b>", 660.0, 0.25, ""))


def write_page(folder: Path) -> None:
    """A page with a sound per row of SOUNDS, a field to type in, and a sound whose files are missing."""
    t = np.arange(round(RATE * SECONDS)) / RATE
    cards = []
    for k, (title, frequency_hz, peak, group) in enumerate(SOUNDS):
        wav = (peak * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)
        audio.write_wav(folder / f"{k}.wav", wav[None], RATE)
        (folder / f"{k}.png").write_bytes(previews.spectrogram_png(wav, RATE))
        (folder / f"{k}.json").write_text(json.dumps(previews.peaks(wav)), "utf-8")
        facts: dict[str, object] = {
            "title": title,
            "peaks": f"{k}.json" if k else json.dumps(previews.peaks(wav)),
            "duration": SECONDS,
            "spectrogram": f"{k}.png",
            "lufs": audio.loudness_lufs(wav[None], RATE),
            "group": group,
        }
        cards.append(card(f"{k}.wav", facts))
    styles = f"{assets.text(assets.THEME)} body {{ background: var(--mg-page); color: var(--mg-ink); }}"
    body = f"<main><h1>Sounds</h1>{''.join(cards)}<label>Name <input id=field></label></main>"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sounds</title>'
    head += '<link rel="icon" href="data:,">'
    page = f'<!doctype html><html lang="en">{head}<style>{styles}</style>{body}'
    page += f"<script>{assets.text(assets.PLAYER)}</script></html>"
    (folder / "index.html").write_text(page, "utf-8")


def card(source: str, facts: dict[str, object]) -> str:
    data = " ".join(f'data-{name}="{html.escape(str(value))}"' for name, value in facts.items())
    return f'<div class="sound" {data}><audio controls preload="none" src="{source}"></audio></div>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player")
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder, html=True))])
    with serving(lambda port: app) as url:
        yield url


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with new_page(browser) as opened:
        opened.goto(address)
        opened.locator(".mg-track").first.wait_for()
        yield opened


def sounds(page: Page) -> list[Locator]:
    return page.locator("audio").all()


def is_playing(sound: Locator) -> bool:
    return sound.evaluate("audio => !audio.paused")


def place(sound: Locator) -> float:
    return sound.evaluate("audio => audio.currentTime")


def wait_until(page: Page, condition: str) -> None:
    elements = "[a, b, c] = document.querySelectorAll('audio')"
    wait_for(page, f"() => {{ const {elements}; return {condition} }}")


def click_at(page: Page, sound: int, share: float, part: str = ".mg-wave") -> None:
    box = page.locator(part).nth(sound).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


def test_a_click_into_waveform_or_spectrogram_plays_from_there(page: Page) -> None:
    for part, share in ((".mg-wave", 0.5), (".mg-spectrogram", 0.25)):
        click_at(page, 0, share, part)
        wait_until(page, f"!a.paused && Math.abs(a.currentTime - {share * SECONDS}) < 2")
    # As loud as the quieter one of its group.
    assert level(sounds(page)[0]) == pytest.approx(0.1 / np.sqrt(2), rel=0.05)
    head = page.locator(".mg-head").first
    assert float(head.evaluate("head => parseFloat(head.style.left)")) == pytest.approx(27, abs=8)
    slider = page.get_by_role("slider", name="Position in loud")
    assert (slider.get_attribute("aria-valuetext") or "").endswith(" of 0:20")


def test_dragging_moves_the_place(page: Page) -> None:
    box = page.locator(".mg-track").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 20, steps=4)
    assert place(sounds(page)[0]) == pytest.approx(0.75 * SECONDS, abs=0.3)
    page.mouse.up()
    wait_until(page, "!a.paused")


def test_one_sound_plays_at_a_time(page: Page) -> None:
    click_at(page, 0, 0.1)
    wait_until(page, "a.currentTime > 2")
    click_at(page, 2, 0.5)
    wait_until(page, "!c.paused")
    assert [is_playing(sound) for sound in sounds(page)] == [False, False, True]
    # By the browser's own control, too.
    sounds(page)[1].evaluate("audio => audio.play()")
    wait_until(page, "!b.paused && c.paused")


def test_a_and_b_are_at_the_same_place_and_equally_loud(page: Page) -> None:
    loud, quiet, _ = sounds(page)
    click_at(page, 0, 0.25)
    wait_until(page, "a.currentTime > 5.2")
    page.keyboard.press("b")
    wait_until(page, "!b.paused && a.paused")
    assert place(quiet) == pytest.approx(place(loud), abs=1.0)
    # Both go on while the two are asked.
    assert place(quiet) >= place(loud) - 0.1
    heard_b = level(quiet)
    page.keyboard.press("A")
    wait_until(page, "!a.paused && b.paused")
    heard_a = level(loud)
    assert heard_b == pytest.approx(0.1 / np.sqrt(2), rel=0.05)
    assert 20 * np.log10(heard_a / heard_b) == pytest.approx(0, abs=0.5)
    # The one that is heard is marked.
    marked = page.locator(".mg-dock [aria-pressed=true]")
    assert marked.all_inner_texts() == ["A loud"] or "loud" in marked.first.inner_text()


def test_any_two_sounds_are_compared(page: Page) -> None:
    loud = sounds(page)[0]
    page.get_by_role("button", name="A: compare other <b>").click()
    page.get_by_role("button", name="B: compare loud").click()
    dock = page.get_by_role("region", name="Compare two sounds")
    assert dock.get_by_role("button", name="A other <b>").is_visible()
    page.keyboard.press("a")
    wait_until(page, "c.currentTime > 0.5")
    page.keyboard.press("b")
    wait_until(page, "!a.paused && a.currentTime > 0.5 && c.paused")
    assert loud.evaluate("audio => audio.volume") == pytest.approx(0.5, abs=0.03)
    dock.get_by_role("button", name="Stop comparing").click()
    assert not dock.is_visible()
    assert loud.evaluate("audio => audio.volume") == 1


def test_the_volume_of_the_listener_stays(page: Page) -> None:
    loud, quiet, _ = sounds(page)
    click_at(page, 0, 0.1)
    wait_until(page, "!a.paused && a.volume < 0.3")
    quiet.evaluate("audio => { audio.volume = 0.5 }")
    wait_for(page, "document.querySelectorAll('audio')[2].volume === 0.5")
    assert loud.evaluate("audio => audio.volume") == pytest.approx(0.1, abs=0.01)


def test_space_and_arrows(page: Page) -> None:
    page.keyboard.press(" ")
    wait_until(page, "!a.paused")
    page.keyboard.press("ArrowRight")
    assert place(sounds(page)[0]) == pytest.approx(5, abs=1.5)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert place(sounds(page)[0]) == pytest.approx(5, abs=2.5)
    page.keyboard.press(" ")
    wait_until(page, "a.paused")
    # The sound that has the focus comes first.
    page.get_by_role("slider", name="Position in other").focus()
    page.keyboard.press(" ")
    wait_until(page, "!c.paused")


def test_keys_are_typed_into_a_field(page: Page) -> None:
    page.locator("#field").focus()
    page.keyboard.type("a b")
    assert page.locator("#field").input_value() == "a b"
    assert not any(is_playing(sound) for sound in sounds(page))
    page.locator("#field").blur()
    page.keyboard.press("Control+b")
    assert page.locator(".mg-dock").is_hidden()


def test_a_button_with_the_focus_has_the_space_bar(page: Page) -> None:
    button = page.get_by_role("button", name="A: compare loud")
    button.focus()
    page.keyboard.press(" ")
    assert button.get_attribute("aria-pressed") == "true"
    assert not any(is_playing(sound) for sound in sounds(page))


def test_zoom_widens_the_picture_and_follows_the_place(page: Page) -> None:
    track = page.locator(".mg-track").first
    before = track.evaluate("track => track.offsetWidth")
    for _ in range(2):
        page.get_by_role("button", name="Zoom into loud").click()
    assert track.evaluate("track => track.offsetWidth") == pytest.approx(4 * before, abs=2)
    sounds(page)[0].evaluate("audio => { audio.currentTime = 15; return audio.play() }")
    wait_for(page, "document.querySelector('.mg-view').scrollLeft > 0")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for _ in range(2):
        page.get_by_role("button", name="Zoom out of loud").click()
    assert page.get_by_role("button", name="Zoom out of loud").is_disabled()


def test_the_waveform_is_drawn_in_the_pixels_of_the_screen(browser: Browser, address: str) -> None:
    with new_page(browser, device_scale_factor=3) as page:
        page.goto(address)
        wait_for(page, "document.querySelector('.mg-wave').width > 300")
        sizes = page.locator(".mg-wave").first.evaluate("canvas => [canvas.width, canvas.offsetWidth]")
        assert sizes[0] == pytest.approx(3 * sizes[1], abs=2)
        pixels = "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
        assert page.locator(".mg-wave").first.evaluate(f"canvas => {pixels}.some(value => value > 0)")


def test_reduced_motion_moves_the_head_without_frames(browser: Browser, address: str) -> None:
    with new_page(browser, reduced_motion="reduce") as page:
        page.add_init_script("window.requestAnimationFrame = () => { throw new Error('a frame') }")
        page.goto(address)
        click_at(page, 0, 0.5)
        wait_until(page, "a.currentTime > 10.5")
        assert page.locator(".mg-head").first.evaluate("head => parseFloat(head.style.left)") > 50


def test_what_cannot_be_loaded_is_said(browser: Browser, address: str) -> None:
    with new_page(browser, allowed=("404",)) as page:
        page.goto(address)
        markup = card("missing.wav", {"title": "gone", "peaks": "missing.json"})
        page.evaluate(
            """markup => {
                document.querySelector('main').insertAdjacentHTML('beforeend', markup);
                MelodyganPlayer.mount(document.querySelector('main').lastChild);
                MelodyganPlayer.mount();
            }""",
            markup,
        )
        assert page.locator(".sound.mg").count() == len(SOUNDS) + 1
        assert page.locator(".mg-track").count() == len(SOUNDS) + 1
        page.get_by_text("The waveform cannot be loaded: status 404.").wait_for()
        page.get_by_role("slider", name="Position in gone").focus()
        page.keyboard.press(" ")
        page.get_by_text("This sound cannot be").wait_for()


def test_without_javascript_the_sound_plays(browser: Browser, address: str) -> None:
    with new_page(browser, java_script_enabled=False) as page:
        page.goto(address)
        assert page.locator("audio[controls]").count() == len(SOUNDS)
        assert all(sound.is_visible() for sound in sounds(page))


def test_a_page_opened_as_a_file_has_everything(browser: Browser, folder: Path) -> None:
    # But peaks in files of their own: a browser reads none beside a page.
    with new_page(browser, allowed=("CORS", "Failed to load resource")) as page:
        page.goto((folder / "index.html").as_uri())
        click_at(page, 0, 0.5)
        wait_until(page, "!a.paused && a.currentTime > 10")
        page.keyboard.press("b")
        wait_until(page, "!b.paused && b.currentTime > 10")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, address: str, scheme: str) -> None:
    with new_page(browser, color_scheme=scheme) as page:
        page.goto(address)
        click_at(page, 0, 0.3)
        wait_until(page, "!a.paused")
        page.get_by_role("button", name="Zoom into loud").click()
        assert findings(page) == []
        screenshot(page, f"player-{scheme}")
