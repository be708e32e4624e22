"""What was made from a track's own sound is removed with it: results, added files, waveforms of pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from melodygan_core import catalogue
from melodygan_core.config import CatalogueConfig
from melodygan_core.maintenance import erasure
from melodygan_core.storage import Artifact, Store
from melodygan_core.storage.kinds import ADDED_FILE, SOUND_PEAKS, parse

RELEASE = Artifact("p/release", "v", "releases/p/v", "0", 1)


def put_use(store: Store, run: str, **config: Any) -> str:
    """A result of a job with these settings; returns its URI."""
    folder = store.use("reconstruct", run)
    store.write_json(folder / "made.json", {})
    store.write_json(folder / "use.json", {"job": "reconstruct", "config": config, "release": vars(RELEASE)})
    return store.uri(folder)


@pytest.fixture
def store_of_two(store: Store) -> Store:
    for track_id in ("one", "two"):
        store.write_json(
            store.raw_json(track_id), {"track_id": track_id, "url": f"https://a.example/{track_id}"}
        )
    return store


def test_results_of_a_track_and_of_its_stems_are_removed_and_others_stay(store_of_two: Store) -> None:
    store = store_of_two
    gone = [
        put_use(store, "a", sound="raw/one.wav"),
        put_use(store, "b", first="raw/two.wav", second="stems/m/one/vocals.wav"),
        # As a path of this machine, as Dagster's jobs have it.
        put_use(store, "c", sound="/somewhere/store/raw/one.wav"),
        # Of a result of the track, and of a result of that.
        put_use(store, "d", sound="uses/reconstruct/a/made.wav"),
        put_use(store, "e", content="uses/reconstruct/d/made.wav"),
    ]
    stay = [
        put_use(store, "f", sound="raw/two.wav"),
        put_use(store, "g", sound="studio/uploads/u1/one.wav", style_tag="raw/one"),
        put_use(store, "h", sound="samples/p/v/one.wav", strength=1.0, tags=["raw/one.wav"]),
    ]
    store.write_json(store.use("reconstruct", "i") / "use.json", ["damaged"])
    assert [uri for uri in erasure.preview(store, ["one"]).files if uri.startswith("uses")] == gone
    report = erasure.forget(store, ["one"])
    assert [uri for uri in report.removed if uri.startswith("uses")] == gone
    assert not any(store.at(uri).exists() for uri in gone) and all(store.at(uri).exists() for uri in stay)
    assert store.raw_json("two").exists()


def test_a_preview_names_what_is_removed_and_removes_nothing(store_of_two: Store) -> None:
    store = store_of_two
    put_use(store, "a", sound="raw/one.wav")
    before = {p: p.read_bytes() for p in Path(store.root).rglob("*") if p.is_file()}
    found = erasure.preview(store, ["one"])
    assert {p: p.read_bytes() for p in Path(store.root).rglob("*") if p.is_file()} == before
    report = erasure.forget(store, ["one"])
    assert (report.removed, report.marks) == (found.files, found.marks)


def test_an_added_file_is_removed_with_its_track_alone(store: Store, tmp_path: Path, tone: bytes) -> None:
    sources = tmp_path / "own" / "sources.yaml"
    for number in (1, 2):
        path = Path(store.path(ADDED_FILE, file_id=f"u{number}").path) / "Übung.wav"
        path.parent.mkdir(parents=True)
        path.write_bytes(tone)
        catalogue.add_source(sources, catalogue.Source(path=str(path), rights="own"))
    report = catalogue.expand(sources, store, CatalogueConfig(allowed_roots=(str(sources.parent),)))
    assert not report.failed_sources and [t.title for t in report.tracks] == ["Übung", "Übung"]
    first, second = report.tracks
    for _ in range(2):
        # Again, as after a kill: the row of the catalogue is gone by then.
        erasure.forget(store, [first.track_id])
        assert not catalogue.local_path(first.url).exists() and catalogue.local_path(second.url).exists()
    assert catalogue.expand(sources, store, CatalogueConfig()).forgotten == 0
    assert list(catalogue.forgotten(store)) == [first.track_id]


def test_waveforms_of_pages_are_removed(store_of_two: Store) -> None:
    view = Path(store_of_two.locate(SOUND_PEAKS.uri(sound_id="x")).path)
    view.parent.mkdir(parents=True)
    view.write_text("[]")
    erasure.forget(store_of_two, ["one"])
    assert not view.exists()


def test_a_file_of_a_store_is_of_its_kind() -> None:
    assert parse("studio/files/u1/x.wav").kind is ADDED_FILE
