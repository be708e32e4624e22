"""Listen, Generate and Jobs as the server answers them, and what they load of a sound."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from melodygan_core.errors import InputError, TransientError
from melodygan_core.services.release_facts import releases_in_use
from melodygan_core.storage import Store
from melodygan_web.dagster_runs import DagsterRuns, over_http
from melodygan_web.screens import all_screens
from melodygan_web.sounds import SoundIndex, sound_id
from melodygan_web.sounds.views import draw_spectrogram, peaks_of
from tests.conftest import Site
from tests.web.conftest import RATE, Opened, open_studio, provenance, put_release, put_samples, tone

JSON = {"Accept": "application/json"}


def titles(page: str) -> list[str]:
    """Titles of the sounds of a page."""
    return re.findall(r"<h3>([^<]*)</h3>", page)


# Listen.


def test_the_newest_sound_is_first_and_filters_select(store: Store) -> None:
    put_samples(store, 2)
    put_samples(store, 1, "dense_gan", seed=12, condition="calm")
    opened = open_studio(store)
    page = opened.client.page("/listen")
    assert titles(page) == ["Seed 12", "Seed 7", "Seed 7 · 2"] and "3 sounds" in page
    for query, expected in (
        ("pipeline=dense_gan", ["Seed 12"]),
        ("condition=calm", ["Seed 12"]),
        ("seed=7", ["Seed 7", "Seed 7 · 2"]),
        ("seed=7&pipeline=dense_gan", []),
        ("service=loop", []),
        ("starred=1", []),
    ):
        assert titles(opened.client.page(f"/listen?{query}")) == expected, query
    assert "No sound fits" in opened.client.page("/listen?seed=999")


def test_a_long_list_comes_in_parts(store: Store) -> None:
    put_samples(store, 45)
    opened = open_studio(store)
    found, path = [], "/listen?seed=7"
    while path:
        page = opened.client.page(path)
        found += titles(page)
        more = re.search(r'href="/studio(/listen\?seed=7&amp;from=\d+)"', page)
        path = more[1].replace("&amp;", "&") if more else ""
    assert len(found) == len(set(found)) == 45
    part = opened.client.page("/listen?part=1&from=40")
    assert len(titles(part)) == 5 and "<html" not in part
    assert titles(opened.client.page("/listen?from=-1"))[0] == "Seed 7"


def test_an_empty_store_says_what_to_do(store: Store) -> None:
    opened = open_studio(store)
    assert "Nothing has been made yet" in opened.client.page("/listen")
    assert "There is no release yet" in opened.client.page("/generate")
    assert "No job yet" in opened.client.page("/jobs")


def test_stars_stay_and_can_be_filtered(studio: Opened) -> None:
    [sound, other] = [s.id for s in studio.app.studio.sounds.all()]
    assert studio.client.act(f"/sounds/{sound}/star", {"starred": True}).json() == {
        "id": sound,
        "starred": True,
    }
    again = open_studio(studio.store)
    page = again.client.page("/listen?starred=1")
    assert sound in page and other not in page and 'aria-pressed="true"' in page
    studio.client.act(f"/sounds/{sound}/star", {"starred": False})
    assert sound not in studio.client.page("/listen?starred=1")
    answer = studio.client.act(f"/sounds/{sound}/star", {"starred": "yes"})
    assert answer.status_code == 400 and answer.json()["error"].startswith("starred must be true or false")


def test_a_zip_holds_each_sound_with_its_provenance(studio: Opened) -> None:
    sounds = studio.app.studio.sounds.all()
    answer = studio.client.get("/studio/sounds.zip", params={"ids": ",".join(s.id for s in sounds)})
    assert answer.headers["content-disposition"] == 'attachment; filename="melodygan-sounds.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names)) == 4 and not any("/" in name for name in names)
        for wav in [name for name in names if name.endswith(".wav")]:
            assert archive.read(wav)[:4] == b"RIFF"
            assert json.loads(archive.read(wav.replace(".wav", ".json")))["seed"] == 7
    for ids in ("", "x", f"{sounds[0].id},x", "../x"):
        assert studio.client.get("/studio/sounds.zip", params={"ids": ids}).status_code == 400


def test_audio_comes_in_parts(studio: Opened) -> None:
    [sound, _] = studio.app.studio.sounds.all()
    file = (studio.store.base / sound.uri).read_bytes()
    answer = studio.client.get(f"/studio/sounds/{sound.id}.wav")
    assert answer.content == file and answer.headers["content-type"] == "audio/wav"
    part = studio.client.get(f"/studio/sounds/{sound.id}.wav", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == file[10:20]


def test_a_sound_that_is_erased_is_not_listed(studio: Opened) -> None:
    [sound, _] = studio.app.studio.sounds.all()
    (studio.store.base / sound.uri).unlink()
    studio.app.studio.sounds.refresh()
    assert [s.id for s in studio.app.studio.sounds.all()] != [sound.id]
    assert studio.client.get(f"/studio/sounds/{sound.id}.wav").status_code == 404


def test_damaged_and_unfinished_files_cost_no_other_sound(store: Store) -> None:
    put_samples(store, 3)
    folder = Path(str(store.samples("temporal_flow", "v1")))
    (folder / "sample-000.json").write_text("{")
    (folder / "sample-001.json").write_text(json.dumps({"duration_s": "long"}))
    unfinished = folder.with_name(".0123abcd-v2")
    tone(unfinished / "a.wav")
    (unfinished / "a.json").write_text(json.dumps(provenance("a.wav")))
    (unfinished / "artifact.json").write_text("{}")
    assert [s.title for s in SoundIndex(store).all()] == ["Seed 7 · 3"]


# Views.


def test_peaks_are_the_extremes_of_equal_parts(studio: Opened) -> None:
    [sound, _] = studio.app.studio.sounds.all()
    values = studio.client.get(f"/studio/sounds/{sound.id}/peaks.json").json()
    low, high = np.array(values[::2]), np.array(values[1::2])
    assert len(low) == 1600 and (low <= high).all()
    assert low.min() == pytest.approx(-0.3, abs=0.01) and high.max() == pytest.approx(0.3, abs=0.01)
    assert peaks_of(np.array([[0.5, -0.5, 0.25, 0.0]], np.float32), 2) == [-0.5, 0.5, 0.0, 0.25]
    assert peaks_of(np.zeros((2, 0), np.float32)) == []


def test_a_spectrogram_is_drawn_once(studio: Opened) -> None:
    [sound, _] = studio.app.studio.sounds.all()
    answer = studio.client.get(f"/studio/sounds/{sound.id}/spectrogram.png")
    assert answer.headers["content-type"] == "image/png"
    file = studio.store.work_base / "views" / f"{sound.id}.png"
    assert file.read_bytes() == answer.content
    file.write_bytes(b"the same")
    assert studio.client.get(f"/studio/sounds/{sound.id}/spectrogram.png").content == b"the same"
    # Nothing of a sound stays that was erased, also by another process while no server ran.
    (studio.store.base / sound.uri).unlink()
    assert SoundIndex(studio.store).get(sound.id) is None
    assert not file.exists() and not file.with_suffix(".json").exists()


def rows(wav: np.ndarray, rate: int = RATE) -> np.ndarray:
    """Mean brightness of each row of a spectrogram, the highest frequency first."""
    return np.asarray(Image.open(io.BytesIO(draw_spectrogram(wav, rate))).convert("L")).mean(axis=1)


def test_a_spectrogram_shows_pitch_and_level_on_one_scale() -> None:
    t = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * f * t).astype(np.float32) for f in (200, 4000))
    brightest = [int(rows(wav).argmax()) for wav in (low, high)]
    # Logarithmic: 50 Hz to 16 kHz over 160 rows.
    expected = [160 * (1 - np.log(f / 50) / np.log(320)) for f in (200, 4000)]
    assert np.allclose(brightest, expected, atol=3)
    assert rows(low * 0.01).max() < 0.7 * rows(low).max()
    assert rows(low * 0).max() == rows(low[:10] * 0).max() < 5


# Generate.


def test_the_form_has_what_the_prior_can_do(store: Store) -> None:
    put_release(store, "temporal_flow")
    put_release(store, "temporal_gan", ())
    opened = open_studio(store)
    flow = opened.client.page("/generate?pipeline=temporal_flow")
    assert 'name="guidance"' in flow and 'name="truncation"' not in flow
    assert re.search(r'<option value="calm">', flow)
    gan = opened.client.page("/generate?pipeline=temporal_gan")
    assert 'name="truncation"' in gan and 'name="guidance"' not in gan and 'name="condition"' not in gan
    # A mode that the pipeline cannot do opens with one that can.
    assert re.search(
        r'value="temporal_flow" selected', opened.client.page("/generate?do=loop&pipeline=temporal_gan")
    )
    assert [facts.is_flow for facts in releases_in_use(store)] == [True, False]


def test_a_prior_that_follows_plans_can_be_asked_for_chords(store: Store) -> None:
    put_release(store, "temporal_plan", ())
    put_release(store, "temporal_gan", ())
    plan = {"chords": "Am F", "tempo_bpm": 90.0, "melody": {"file": "x.wav"}}
    [sound] = put_samples(store, 1, "temporal_plan", plan=plan)
    opened = open_studio(store)
    page = opened.client.page("/generate?do=plan")
    assert 'value="temporal_plan" selected' in page
    for name in ("chords", "key", "form", "tempo_bpm", "beats"):
        assert f'id="f-{name}"' in page
    assert 'data-sound-field="melody"' in page and "Melody (can be left out)" in page
    again = opened.client.page(f"/generate?again={sound}")
    [chords] = re.findall(r'<input id="f-chords"[^>]*>', again)
    assert 'value="Am F"' in chords and 'data-mode="plan"' in again
    # The others are not asked.
    assert 'id="f-chords"' not in opened.client.page("/generate?do=generate")


def test_bounds_and_defaults_are_those_of_the_request(studio: Opened) -> None:
    page = studio.client.page("/generate")
    [count] = re.findall(r'<input id="f-count"[^>]*>', page)
    assert 'min="1"' in count and 'max="200"' in count and 'step="1"' in count and 'value="4"' in count
    [length] = re.findall(r'<input id="f-duration_s"[^>]*>', page)
    assert 'max="3600"' in length and 'step="any"' in length


def test_again_has_the_settings_of_the_sound(store: Store) -> None:
    put_release(store)
    settings = {"count": 1, "duration_s": 3.5, "seed": 123, "condition": "fast", "guidance": 2.0}
    [sound] = put_samples(store, 1, seed=123, generation=settings)
    page = open_studio(store).client.page(f"/generate?again={sound}")
    for name, value in (("seed", 123), ("count", 1), ("duration_s", 3.5), ("guidance", 2.0)):
        [field] = re.findall(rf'<input id="f-{name}"[^>]*>', page)
        assert f'value="{value:g}"' in field
    assert '<option value="fast" selected>' in page and 'data-again="1"' in page


def test_a_sound_to_start_from_is_shown(studio: Opened) -> None:
    [sound, _] = studio.app.studio.sounds.all()
    page = studio.client.page(f"/generate?do=continue&sound={sound.id}")
    assert f'data-source="{sound.id}"' in page and f'<option value="{sound.id}" selected>' in page
    assert "data-region" in studio.client.page(f"/generate?do=inpaint&sound={sound.id}")
    assert "data-source" not in studio.client.page("/generate?do=continue&sound=x")


# Jobs and Dagster.


def run(run_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "runId": run_id,
        "jobName": "job",
        "status": status,
        "startTime": 100.0,
        "endTime": None,
        "stepKeysToExecute": ["a", "b", "c", "d"],
        "assetSelection": [{"path": ["temporal_flow", "release"]}],
        "stats": {"stepsSucceeded": 1},
        **more,
    }


def test_dagsters_runs_are_listed_and_stopped(store: Store) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        asked.append((query, variables))
        if "terminateRun" in query:
            good = variables["run"] == "r1"
            return {"terminateRun": {"__typename": "TerminateRunSuccess" if good else "RunNotFoundError"}}
        ended = run("r2", "FAILURE", assetSelection=None, jobName="<b>job", endTime=160.0)
        return {"runsOrError": {"__typename": "Runs", "results": [run("r1", "STARTED"), ended]}}

    opened = open_studio(store, dagster=DagsterRuns(ask))
    page = opened.client.page("/jobs")
    assert "temporal_flow/release" in page and "Running, 1 of 4 steps" in page and 'value="25"' in page
    assert "&lt;b&gt;job" in page and "<b>job" not in page and "· 1:00" in page
    # What is active is first.
    assert page.index("temporal_flow/release") < page.index("&lt;b&gt;job")
    assert 'href="/runs/r1"' in page
    assert "<html" not in opened.client.page("/jobs/dagster")
    assert opened.client.act("/jobs/dagster/r1/stop").json() == {"stopping": "r1"}
    answer = opened.client.act("/jobs/dagster/other/stop")
    assert answer.status_code == 400 and answer.json()["error"].startswith("run must be one that runs")


def test_a_dagster_that_does_not_answer_is_reported(store: Store) -> None:
    def ask(query: str, variables: dict[str, Any]) -> dict[str, Any]:
        raise TransientError("Dagster must answer, and did not")

    assert "Dagster must answer, and did not" in open_studio(store, dagster=DagsterRuns(ask)).client.page(
        "/jobs"
    )
    opened = open_studio(store)
    assert opened.client.get("/studio/jobs/dagster").status_code == 404
    assert opened.client.act("/jobs/dagster/x/stop").status_code == 404


def test_graphql_is_asked_over_http(site: Site) -> None:
    # The test's site answers GET alone.
    with pytest.raises(TransientError, match="Dagster must answer at"):
        over_http(site.add("/graphql"))("query", {})
    with pytest.raises(TransientError, match="and did not"):
        over_http("http://127.0.0.1:9/graphql")("query", {})
    with pytest.raises(InputError, match="run must be one"):
        DagsterRuns(lambda q, v: {"terminateRun": {"__typename": "PythonError", "message": "x"}}).stop("r")


def test_every_screen_has_a_page_and_a_place() -> None:
    screens = all_screens()
    assert {"listen", "generate", "jobs"} <= {screen.name for screen in screens}
    assert len({screen.position for screen in screens}) == len(screens)
    for screen in screens:
        paths = [str(getattr(route, "path", "")) for route in screen.routes]
        assert paths[0] == f"/{screen.name}"
        assert all(path.startswith(f"/{screen.name}/") for path in paths[1:])


def test_the_addresses_of_the_studio(studio: Opened) -> None:
    assert studio.client.get("/studio").headers["location"] == "/studio/"
    assert studio.client.get("/studio/").headers["location"] == "/studio/listen"
    missing = studio.client.get("/studio/nothing", headers={"Accept": "text/html"})
    assert missing.status_code == 404 and "Not found" in missing.text
    assert studio.client.get("/studio/nothing", headers=JSON).json() == {"error": "Not Found"}
    assert sound_id("a") == sound_id("a") != sound_id("b")
