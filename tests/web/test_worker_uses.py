"""The jobs of Transform as they are: services of a real release, in the worker's process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from melodygan_core.progress import ProgressEvent
from melodygan_core.storage import Store
from melodygan_web.jobs.worker import Piece, Worker
from melodygan_web.sounds import SoundIndex, sound_id
from melodygan_web.sounds.figures import in_words
from tests.core.conftest import flow_store, temporal_store
from tests.web.filling import put_sound

pytestmark = pytest.mark.slow
__all__ = ["flow_store", "temporal_store"]


@pytest.fixture(scope="module")
def store(flow_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a release, and the sound of a track."""
    root = tmp_path_factory.mktemp("worker") / "store"
    shutil.copytree(flow_store.root, root, ignore=shutil.ignore_patterns("work"))
    made = Store(str(root))
    put_sound(made, "one", 1.5)
    return made


@pytest.fixture(scope="module")
def process(store: Store) -> Iterator[Worker]:
    made = Worker(store.root)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "settings", "fields", "count"),
    [
        ("reconstruct", {}, ("sound",), 1),
        ("interpolate", {"steps": 3}, ("first", "second"), 3),
        ("transfer", {"strength": 0.5, "method": "eq"}, ("content", "style"), 1),
        ("augment", {"count": 1, "seed": 4, "method": "eq"}, ("sound",), 1),
    ],
)
def test_a_track_goes_through_every_kind(
    store: Store, process: Worker, kind: str, settings: dict[str, object], fields: tuple[str, ...], count: int
) -> None:
    release = store.record("temporal_flow/release")
    assert release is not None
    events: list[ProgressEvent] = []
    inputs = dict.fromkeys(fields, "raw/one.wav")
    piece = Piece(f"s-{kind}-000", kind, release.uri, settings, inputs)
    made = process.make(piece, events.append, lambda: False)
    assert len(made) == count and events[-1].done == events[-1].total
    index = SoundIndex(store)
    sounds = [index.get(sound_id(uri)) for uri in made]
    assert all(
        s is not None and s.service == kind and s.duration_s == pytest.approx(1.5, abs=0.01) for s in sounds
    )
    assert all(s is not None and in_words(s.figures) for s in sounds)
    # Erasure finds the track by it.
    note = json.loads(Path(str(store.use(kind, piece.run_id) / "use.json")).read_text("utf-8"))
    assert [note["config"][name] for name in fields] == ["raw/one.wav"] * len(fields)
