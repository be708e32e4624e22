"""Transform: sounds are chosen, uploaded and recorded, and jobs show what was before and after."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.storage import Store, dump_json
from melodygan_web.jobs import JOB_KINDS
from melodygan_web.sounds import uploads
from melodygan_web.sounds.figures import in_words
from melodygan_web.transform_modes import MODES
from tests.browser.xss import STRINGS
from tests.core.hostile import converted, encoded, patched, sine
from tests.web.conftest import Opened, open_studio, put_release, put_samples
from tests.web.filling import put_sound, put_stems, put_track
from tests.web.markup import check_markup
from tests.web.test_security import upload


@pytest.fixture
def transform(store: Store) -> Iterator[Opened]:
    """A studio with a release that has tags, two samples and a track with stems."""
    put_release(store)
    styles = {"styles": {"piano": {}, "calm": {}}}
    dump_json(Path(str(store.release("temporal_flow", "r1"))) / "styles.json", styles)
    put_release(store, "temporal_gan", ())
    put_samples(store)
    put_track(store, "a", title="Ode")
    put_sound(store, "a")
    put_stems(store, "a")
    opened = open_studio(store)
    with opened.app:
        yield opened


def ids(opened: Opened) -> list[str]:
    return [sound.id for sound in opened.app.studio.sounds.all()]


def submit(
    opened: Opened, kind: str, sounds: dict[str, str], pipeline: str = "temporal_flow", **settings: Any
) -> str:
    request = {"kind": kind, "pipeline": pipeline, "settings": settings, "sounds": sounds}
    answer = opened.client.act("/jobs/submit", request)
    assert answer.status_code == 200, answer.text
    assert opened.finished(answer.json()["id"])["state"] == "done"
    return answer.json()["id"]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.kind)
def test_every_mode_asks_for_the_sounds_and_fields_of_its_request(transform: Opened, mode: Any) -> None:
    assert {slot.name for slot in mode.slots} == set(JOB_KINDS[mode.kind].sound_fields)
    fields = set(JOB_KINDS[mode.kind].request.model_fields) - {slot.name for slot in mode.slots}
    assert set(mode.main) | set(mode.more) == fields
    page = transform.client.page(f"/transform?do={mode.kind}")
    assert re.findall(r'data-slot="(\w+)"', page) == [slot.name for slot in mode.slots]
    assert all(f'name="{name}"' in page for name in fields)
    # Made sounds and tracks can be chosen.
    assert len(re.findall(r'<option value="t[0-9a-f]{20}"', page)) == len(mode.slots) and "Ode" in page
    check_markup(page)


def test_what_a_release_does_not_have_is_not_asked_for(transform: Opened) -> None:
    page = transform.client.page("/transform?do=transfer&pipeline=temporal_gan")
    assert not re.findall(r'name="(style_tag|guidance|steps)"', page)
    assert re.findall(
        r'<option value="(piano|calm)"', transform.client.page("/transform?pipeline=temporal_flow")
    )


def test_sounds_of_the_address_are_in_their_slots(transform: Opened) -> None:
    first, second = ids(transform)
    page = transform.client.page(f"/transform?do=interpolate&first={first}&second={second}")
    assert re.findall(r'data-sound-id="(\w+)"', page) == [first, second]
    # Several only where a slot takes several.
    assert transform.client.page(f"/transform?do=augment&sound={first},{second}").count("data-sound-id=") == 2
    assert (
        transform.client.page(f"/transform?do=reconstruct&sound={first},{second}").count("data-sound-id=") == 1
    )
    assert (
        transform.client.page("/transform?sound=nothing&content=../x&do=rm&pipeline=x").count("data-sound-id=")
        == 0
    )
    # A tab keeps the first sound.
    assert f"sound={first}" in page


def test_a_track_and_a_stem_go_through_the_models(transform: Opened) -> None:
    page = transform.client.page("/library/tracks/a")
    track, vocals, _ = dict.fromkeys(re.findall(r"/sounds/(t\w+)\.wav", page))
    job_id = submit(transform, "interpolate", {"first": track, "second": vocals}, steps=3)
    assert transform.tones.pieces[0].inputs == {"first": "raw/a.wav", "second": "stems/m1/a/vocals.wav"}
    card = transform.client.page(f"/transform/jobs/{job_id}/card")
    assert "From: Ode" in card and "To: Ode, vocals" in card
    # Before and after are one group, so that A and B are at the same place; all have a loudness.
    assert re.findall(r'data-group="(\w+)"', card) == [job_id] * 3
    assert len(re.findall(r'data-lufs="-?\d', card)) == 3
    assert transform.client.get(f"/studio/transform/sounds/{track}").text.count("data-lufs") == 1
    for name in ("nothing", "..%2f..%2fetc", "u" + "0" * 20):
        assert transform.client.get(f"/studio/transform/sounds/{name}").status_code == 404


def test_an_upload_is_shown_beside_its_result_with_words(transform: Opened, tone: bytes) -> None:
    sent = upload(transform, tone, "Hum.wav").json()
    assert f'data-sound-id="{sent["id"]}"' in transform.client.page(f"/transform/sounds/{sent['id']}")
    transform.tones.figures = {"chroma_correlation": 0.84, "onset_correlation": 0.2}
    job_id = submit(transform, "transfer", {"content": sent["id"]}, style_tag="piano", strength=0.5)
    page = transform.client.page("/transform")
    assert "Melody and rhythm: Hum.wav" in page
    assert "Melody kept: 0.84 (nearly all)" in page and "Rhythm kept: 0.20 (hardly any)" in page
    again = transform.client.page(f"/transform?again={job_id}")
    assert 'value="0.5"' in again and re.search(r'<option value="piano" selected', again)
    assert f'data-sound-id="{sent["id"]}"' in again
    made = transform.client.page(f"/transform/jobs/{job_id}/card")
    [sound] = re.findall(r"/sounds/(\w+)/provenance.json", made)
    assert transform.client.page(f"/transform?again={sound}") == transform.client.page(
        f"/transform?again={job_id}"
    )
    # The result goes on into the next one.
    assert f'data-sound-id="{sound}"' in transform.client.page(f"/transform?do=reconstruct&sound={sound}")


def test_variations_are_made_one_by_one(transform: Opened) -> None:
    [first, _] = ids(transform)
    job_id = submit(transform, "augment", {"sound": first}, count=3, seed=5, strength=0.2)
    assert [p.settings["seed"] for p in transform.tones.pieces] == [5, 6, 7]
    card = transform.client.page(f"/transform/jobs/{job_id}/card")
    assert len(re.findall(r'data-row="after-', card)) == 3 and len(re.findall(r'data-row="before-', card)) == 1


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("transfer", {}, "exactly one of `style` and `style_tag`"),
        ("transfer", {"style_tag": "piano", "strength": 2}, "strength must be"),
        ("transfer", {"style_tag": "piano", "method": ""}, "method must be"),
        ("augment", {"count": 201}, "count must be 1 to 200"),
        ("augment", {"sound": "/etc/passwd"}, "settings must be without sound files"),
        ("reconstruct", {"x": 1}, "a field of ReconstructConfig must be"),
        ("interpolate", {"steps": 1}, "steps must be"),
    ],
)
def test_requests_that_are_not_allowed_are_refused(
    transform: Opened, kind: str, settings: dict[str, Any], sentence: str
) -> None:
    sounds = dict.fromkeys(
        (s.name for m in MODES if m.kind == kind for s in m.slots if not s.is_optional), ids(transform)[0]
    )
    request = {"kind": kind, "pipeline": "temporal_flow", "settings": settings, "sounds": sounds}
    answer = transform.client.act("/jobs/submit", request)
    assert answer.status_code == 400 and answer.json()["error"].startswith(sentence), answer.text


def test_a_sound_that_is_gone_is_named_and_the_rest_is_shown(transform: Opened, tone: bytes) -> None:
    sent = upload(transform, tone).json()
    submit(transform, "reconstruct", {"sound": sent["id"]})
    transform.store.remove(transform.store.base / "studio" / "uploads" / sent["id"])
    page = transform.client.page("/transform")
    assert "This sound is not in the store any more." in page and 'data-row="after-' in page


def test_cards_are_of_jobs_of_this_screen(transform: Opened) -> None:
    answer = transform.client.act(
        "/jobs/submit", {"kind": "generate", "pipeline": "temporal_flow", "settings": {"count": 1}}
    )
    assert transform.client.get(f"/studio/transform/jobs/{answer.json()['id']}/card").status_code == 404
    assert transform.client.get("/studio/transform/jobs/x/card").status_code == 404


def test_text_of_strangers_is_text(transform: Opened, tone: bytes) -> None:
    transform.tones.figures = {}
    for number, text in enumerate(STRINGS):
        put_track(transform.store, f"x{number}", title=text, url=f"https://a.example/{number}")
        put_sound(transform.store, f"x{number}", 0.1)
    transform.app.studio.library.refresh()
    for text in STRINGS[::16]:
        sent = upload(transform, tone, text).json()
        submit(transform, "transfer", {"content": sent["id"]}, style_tag="piano")
        check_markup(transform.client.page(f"/transform/sounds/{sent['id']}"))
    check_markup(transform.client.page("/transform"))
    for text in STRINGS:
        query = dict.fromkeys(("do", "pipeline", "sound", "content", "style", "again"), text)
        check_markup(transform.client.get("/studio/transform", params=query).text)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({}, []),
        ({"strength": 1.0, "x": 2.0}, []),
        ({"chroma_correlation": 0.61}, ["Melody kept: 0.61 (most)"]),
        (
            {"chroma_correlation": -0.1, "onset_correlation": 0.4},
            ["Melody kept: -0.10 (hardly any)", "Rhythm kept: 0.40 (some)"],
        ),
        ({"style_distance_before": 2.0, "style_distance_after": 0.5}, ["Timbre: 75% of the way to the style"]),
        ({"style_distance_before": 2.0, "style_distance_after": 2.5}, ["Timbre: no nearer to the style"]),
        ({"style_distance_before": 0.0, "style_distance_after": 0.0}, []),
        ({"share_of_second": 0.25}, ["75% of the first sound, 25% of the second"]),
        ({"chroma_correlation": float("nan")}, ["Melody kept: nan (hardly any)"]),
    ],
)
def test_figures_are_put_into_words(figures: dict[str, float], words: list[str]) -> None:
    assert in_words(figures) == words


def _hostile(folder: Path) -> dict[str, bytes]:
    """Files that are no music, or not as they say; name to content."""
    webm = converted(folder, "r.webm", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "libopus")
    wav = encoded(sine(1.0))
    return {
        "cut.webm": webm[:40],
        "list.m3u8": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.wav\n",
        "list.webm": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "page.wav": b"<html><script>alert(1)</script></html>" * 50,
        "archive.wav": b"PK\x03\x04" + bytes(5000),
        "channels.wav": patched(wav, 22, "<H", 65_535),
        "short.wav": encoded(sine(0.1)),
        "long.wav": encoded(sine(3.0)),
        "empty.wav": wav[:44],
    }


def test_hostile_files_are_refused_in_one_sentence_and_leave_nothing(
    transform: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_S", 2.0)
    for name, content in _hostile(tmp_path).items():
        answer = upload(transform, content, name)
        assert answer.status_code == 400, name
        sentence = answer.json()["error"]
        assert "\n" not in sentence and "/tmp" not in sentence and "Traceback" not in sentence, sentence
    assert not list((transform.store.base / "studio").glob("uploads/*"))


def test_a_recording_of_a_browser_is_decoded(transform: Opened, tmp_path: Path) -> None:
    # As MediaRecorder writes it: a stream without a length in its header.
    options = ("-f", "lavfi", "-i", "sine=duration=2", "-c:a", "libopus", "-live", "1")
    sound = upload(
        transform, converted(tmp_path, "r.webm", *options), "Recording 2026-11-30 04.20.00.webm"
    ).json()
    assert sound["title"] == "Recording 2026-11-30 04.20.00.webm" and sound["duration_s"] == pytest.approx(
        2, abs=0.1
    )
