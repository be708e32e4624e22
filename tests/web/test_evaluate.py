"""Evaluate: plain sentences, tables, lineage, the nearest training music, two releases side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store, dump_json
from melodygan_web.jobs.kinds import JOB_KINDS
from melodygan_web.screens.evaluate_lineage import NEAREST
from tests.browser.xss import STRINGS
from tests.web.conftest import Opened, open_studio, put_release, put_samples
from tests.web.markup import check_markup

PIPELINE = "temporal_flow"
TRACK = {"track_id": "t-1", "title": "A song", "url": "https://a.test/1", "licence": "CC0-1.0", "rights": "own"}


def figures(kad: float | None = 12.0) -> dict[str, Any]:
    """Figures of an evaluation."""
    row = {"window_s": 3.0, "set": "generated", "tracks": 12, "kad": kad, "density": 0.5, "coverage": None}
    interval = {"kad_low": 10.0, "kad_high": 14.0} if kad is not None else {"kad_low": None, "note": "few"}
    excess = {"excess_kad": 2.0, "excess_kad_low": -1.0, "excess_kad_high": 5.0} if kad is not None else {}
    named = {**row, **interval, **excess}
    music = [{"measure": "tempo_bpm", "set": "generated", "n": 12, "median": 80.0, "ks": None, "note": ""}]
    return {
        **{f"generated/{k}": v for k, v in named.items() if k not in ("set", "window_s")},
        "memorisation/ratio": 1.5,
        "table": [named],
        "music": music,
    }


def put_evaluation(store: Store, pipeline: str = PIPELINE, **changes: Any) -> Artifact:
    """The evaluation in use of a pipeline."""
    metrics = {**figures(), **changes}
    artifact = Artifact(f"{pipeline}/evaluation", "e1", f"evaluations/{pipeline}/e1", "0", 1, metrics=metrics)
    store.write_record(artifact)
    return artifact


def put_measured_release(store: Store, version: str, kad: float, test_tracks: str = "t") -> None:
    """A release that says what it was measured on."""
    history = [{"setup": {"test_tracks": test_tracks}}]
    metrics = {"generated/kad": kad, "generated/kad_low": kad - 1, "generated/kad_high": kad + 1}
    folder = Path(str(store.release(PIPELINE, version)))
    folder.mkdir(parents=True)
    artifact = Artifact(
        f"{PIPELINE}/release",
        version,
        f"releases/{PIPELINE}/{version}",
        "0",
        1,
        metrics={**metrics, "gate_history": history},
    )
    dump_json(folder / ARTIFACT_FILE, vars(artifact))


def with_sources(**changes: Any) -> dict[str, Any]:
    track = {**TRACK, **changes}
    sources = {"dataset": "d1", "stems": ["mix"], "tracks": [track], "licences": [track["licence"]]}
    return {"sources": sources, "models": {"temporal/flow_checkpoint": "m1"}}


@pytest.fixture
def opened(store: Store) -> Iterator[Opened]:
    """A studio over a store with an evaluation, a release and two samples with their lineage."""
    put_release(store)
    put_samples(store, **with_sources())
    put_evaluation(store)
    made = open_studio(store)
    with made.app:
        yield made


def test_an_empty_store_says_what_to_do(store: Store) -> None:
    assert "Nothing has been evaluated yet" in open_studio(store).client.page("/evaluate")


def test_the_sentence_comes_before_the_tables(opened: Opened) -> None:
    page = opened.client.page(f"/evaluate?pipeline={PIPELINE}")
    sentence = "The new music of temporal_flow is as far from the test music as other real music is."
    assert page.index(sentence) < page.index("Tables and plots") < page.index("<td>12.0</td>")
    assert "10.0 to 14.0" in page and "tempo bpm" in page and "no nearer to the training music" in page


def test_what_an_evaluation_lacks_is_said(store: Store) -> None:
    put_evaluation(store, **figures(None))
    page = open_studio(store).client.page("/evaluate")
    assert "is not known: few." in page
    store.write_record(Artifact(f"{PIPELINE}/evaluation", "e2", f"evaluations/{PIPELINE}/e2", "0", 1))
    assert "The evaluation lacks figures" in open_studio(store).client.page("/evaluate")


def test_pictures_are_those_of_the_evaluation(opened: Opened) -> None:
    artifact = put_evaluation(opened.store)
    path = f"/studio/evaluate/{PIPELINE}/music.png"
    assert opened.client.get(path).status_code == 404
    picture = Path(str(opened.store.picture(f"{artifact.uri}/music")))
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"\x89PNG")
    assert opened.client.get(path).content == b"\x89PNG"
    assert path in opened.client.page("/evaluate")
    for other in (f"{PIPELINE}/x", "other/music", "..%2f..%2fx/music"):
        assert opened.client.get(f"/studio/evaluate/{other}.png").status_code == 404


def test_each_sound_names_models_data_and_licences(opened: Opened) -> None:
    page = opened.client.page("/evaluate")
    assert page.count("It was learned from 1 track: CC0-1.0.") == 2
    for text in ("temporal/flow_checkpoint", "m1", "d1", "A song", "https://a.test/1"):
        assert text in page, text


def test_a_sound_without_provenance_is_still_shown(opened: Opened) -> None:
    sound = opened.app.studio.sounds.all()[0]
    (Path(str(opened.store.at(sound.provenance_uri)))).write_text("[]")
    assert "Its provenance names no training tracks." in opened.client.page("/evaluate")


def test_the_nearest_training_music_is_beside_a_sound(opened: Opened) -> None:
    sound = opened.app.studio.sounds.all()[0]
    path = f"/evaluate/sounds/{sound.id}/nearest"
    assert "data-find-nearest" in opened.client.page(path)
    opened.tones.gate.clear()
    asked = {"kind": NEAREST, "pipeline": PIPELINE, "settings": {}, "sounds": {"sound": sound.id}}
    job = opened.client.act("/jobs/submit", asked).json()
    # A reload shows the search that is under way.
    assert f'data-job="{job["id"]}"' in opened.client.page("/evaluate")
    opened.tones.gate.set()
    assert opened.finished(job["id"])["state"] == "done"
    [made] = opened.app.studio.jobs.get(job["id"]).made  # type: ignore[union-attr]
    row = Path(str(opened.store.at(made.replace(".wav", ".json"))))
    found = {"training_track": TRACK, "sound_start_s": 2.0, "track_start_s": 61.0}
    row.write_text(json.dumps({**json.loads(row.read_text()), **found}))
    page = opened.client.page(path)
    assert "The part at 0:02 is nearest to “A song” at 1:01 (CC0-1.0)." in page and "<audio" in page
    # It is training music, and no sound of the pipeline.
    assert opened.client.page("/evaluate").count("data-lineage=") == 2
    assert opened.client.get("/studio/evaluate/sounds/x/nearest").status_code == 404


def test_why_a_search_failed_is_said(opened: Opened) -> None:
    sound = opened.app.studio.sounds.all()[0]
    opened.tones.failure = "dataset d1 must be in the store, and is gone"
    asked = {"kind": NEAREST, "pipeline": PIPELINE, "settings": {}, "sounds": {"sound": sound.id}}
    job = opened.client.act("/jobs/submit", asked).json()
    assert opened.finished(job["id"])["state"] == "failed"
    page = opened.client.page(f"/evaluate/sounds/{sound.id}/nearest")
    assert "is gone" in page and "data-find-nearest" in page


def test_the_search_is_given_the_store() -> None:
    assert [kind.name for kind in JOB_KINDS.values() if kind.reads_store] == [NEAREST]
    assert JOB_KINDS[NEAREST].sound_fields == ("sound",)


def test_two_releases_are_compared_if_they_can_be(store: Store) -> None:
    put_measured_release(store, "r1", 10.0)
    opened = open_studio(store)
    assert "There is one release: two can be compared." in opened.client.page("/evaluate")
    put_measured_release(store, "r2", 20.0)
    put_measured_release(store, "r3", 20.0, "other")
    query = f"first={PIPELINE}/r2&second={PIPELINE}/r1"
    page = opened.client.page(f"/evaluate?{query}")
    assert "temporal_flow r1 is nearer to the test music" in page
    assert re.search(r"<td>20\.00</td><td>10\.00</td><td>lower</td>", page)
    page = opened.client.page(f"/evaluate?first={PIPELINE}/r1&second={PIPELINE}/r3")
    assert "These two cannot be compared: they were measured with other test tracks." in page
    assert "20.00" not in page
    same = opened.client.page(f"/evaluate?first={PIPELINE}/r1&second={PIPELINE}/r1")
    assert "Choose two different releases." in same
    # An old link opens the page with the first two.
    assert 'role="status"' in opened.client.page("/evaluate?first=x&second=y&pipeline=z")


def test_texts_of_strangers_are_shown_as_text(store: Store) -> None:
    tags = 0
    for number, text in enumerate(("a word", *STRINGS)):
        own = Store(f"{store.root}-{number}")
        put_samples(own, 1, **with_sources(title=text, licence=text, url=text))
        put_evaluation(own, **{**figures(None), "generated/note": text})
        page = open_studio(own).client.page("/evaluate")
        tags = check_markup(page, tags)
        assert open_studio(own).client.get("/studio/evaluate", params={"first": text}).status_code == 200
