"""Results of jobs when a track is forgotten: its variations are removed, the rest is marked."""

from __future__ import annotations

import csv
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from melodygan_core import release
from melodygan_core.config import AugmentConfig
from melodygan_core.maintenance import erasure
from melodygan_core.maintenance.check import check_store
from melodygan_core.services.augment import augment
from melodygan_core.storage import Store

pytestmark = pytest.mark.slow


@pytest.fixture
def used(temporal_store: Store, tmp_path: Path) -> Store:
    """A store with an augmented set, made with its own release."""
    root = tmp_path / "used"
    shutil.copytree(temporal_store.root, root)
    store = Store(str(root))
    made = store.record("temporal_gan/release")
    assert made is not None
    folder = root / "uses" / "augment" / "run"
    opened = release.load(root / made.uri)
    augment(opened, root, folder, AugmentConfig(copies=1, strength=0.1))
    store.write_json(store.at("uses/augment/run/use.json"), {"release": asdict(made)})
    return store


def test_variations_of_a_forgotten_track_are_removed_and_the_set_is_marked(used: Store) -> None:
    folder = Path(used.root) / "uses" / "augment" / "run"
    track_id = "made-03"
    assert (folder / "data" / f"{track_id}.01.wav").is_file()
    made = erasure.forget(used, [track_id])
    assert [p.name for p in folder.rglob(f"{track_id}*")] == []
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert all((folder / row["file_name"]).is_file() for row in rows)
    assert "uses/augment/run/metadata.csv" in made.removed
    [mark] = [m for m in made.marks if m.name == "uses/augment"]
    assert (mark.version, mark.uri, list(mark.tracks)) == ("run", "uses/augment/run", [track_id])
    assert not [f for f in check_store(used).findings if "uses/" in f.path]


def test_damaged_note_of_a_result_does_not_prevent_erasure(used: Store) -> None:
    used.at("uses/augment/run/use.json").write_text("{", "utf-8")
    assert not [m for m in erasure.forget(used, ["made-03"]).marks if m.name == "uses/augment"]
