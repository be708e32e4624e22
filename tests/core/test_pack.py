"""Sounds in the formats of others: what is in the shards and sets, and that equal folders give equal bytes."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodygan_core.audio import write_wav
from melodygan_core.errors import InputError
from melodygan_core.services.pack import pack

FACTS = {"seed": 3, "condition": "slow", "sources": {"licences": ["CC0-1.0", "MIT"]}, "file": "x.wav"}


def put(path: Path, **facts: Any) -> None:
    """A sound of its own, and its JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))
    write_wav(path, rng.normal(size=(1, 800)).astype(np.float32) * 0.1, 8000)
    path.with_suffix(".json").write_text(json.dumps({**FACTS, **facts}), "utf-8")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Three sounds as `generate` writes them."""
    for n in range(3):
        put(tmp_path / "samples" / f"sample-{n:03d}.wav", seed=n)
    return tmp_path / "samples"


@pytest.fixture
def audiofolder(tmp_path: Path) -> Path:
    """Two sounds as `augment` writes them; their names have dots."""
    for name in ("a.1", "b.1"):
        put(tmp_path / "set" / "data" / f"{name}.wav")
    text = "file_name,label,licence,rights\ndata/a.1.wav,slow,CC0-1.0,open\ndata/b.1.wav,fast,MIT,own\n"
    (tmp_path / "set" / "metadata.csv").write_text(text, "utf-8")
    return tmp_path / "set"


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        infos = tar.getmembers()
        assert all((i.mtime, i.uid, i.gid, i.uname) == (0, 0, 0, "") and i.isreg() for i in infos)
        return {i.name: content.read() for i in infos if (content := tar.extractfile(i)) is not None}


def test_a_shard_has_each_sound_beside_its_facts(samples: Path, tmp_path: Path) -> None:
    names = pack(samples, tmp_path / "out", shard_sounds=2)
    assert names == ["sounds-000000.tar", "sounds-000001.tar"]
    first = members(tmp_path / "out" / names[0])
    assert list(first) == ["sample-000.wav", "sample-000.json", "sample-001.wav", "sample-001.json"]
    assert first["sample-001.wav"] == (samples / "sample-001.wav").read_bytes()
    assert json.loads(first["sample-001.json"])["seed"] == 1
    assert list(members(tmp_path / "out" / names[1])) == ["sample-002.wav", "sample-002.json"]
    pack(samples, tmp_path / "again", shard_sounds=2)
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_names_with_dots_stay_one_key(audiofolder: Path, tmp_path: Path) -> None:
    (name,) = pack(audiofolder, tmp_path / "out")
    found = members(tmp_path / "out" / name)
    assert list(found) == ["a_1.wav", "a_1.json", "b_1.wav", "b_1.json"]
    assert json.loads(found["b_1.json"]) == {"label": "fast", "licence": "MIT", "rights": "own"}


def test_names_that_differ_in_other_characters_alone_stay_apart(tmp_path: Path) -> None:
    for name in ("a b.wav", "a+b.wav"):
        put(tmp_path / "in" / name)
    (name,) = pack(tmp_path / "in", tmp_path / "out")
    assert len(members(tmp_path / "out" / name)) == 4


def test_an_audiofolder_has_a_row_for_each_sound(samples: Path, tmp_path: Path) -> None:
    pack(samples, tmp_path / "out", "audiofolder")
    rows = list(csv.DictReader((tmp_path / "out" / "metadata.csv").open(encoding="utf-8")))
    assert [row["file_name"] for row in rows] == [f"data/sample-00{n}.wav" for n in range(3)]
    assert rows[2] == {
        "file_name": "data/sample-002.wav",
        "seed": "2",
        "condition": "slow",
        "licence": "CC0-1.0; MIT",
    }
    assert all((tmp_path / "out" / row["file_name"]).is_file() for row in rows)
    assert "CC0" in (tmp_path / "out" / "README.md").read_text("utf-8")
    # It is a set again.
    (shard,) = pack(tmp_path / "out", tmp_path / "shards")
    assert "sample-000.wav" in members(tmp_path / "shards" / shard)


def test_what_cannot_be_packed_is_refused(samples: Path, audiofolder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"folder must be one with metadata\.csv or metadata\.jsonl, or of sounds"
    ):
        pack(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match="folder must be one that is no audiofolder yet"):
        pack(audiofolder, tmp_path / "out", "audiofolder")
    with pytest.raises(InputError, match="out must be a folder outside of"):
        pack(samples, samples / "packed")
    (samples / "sample-001.json").write_text("[1]", "utf-8")
    with pytest.raises(InputError, match=r"sample-001\.json must be a JSON object, got"):
        pack(samples, tmp_path / "out")
    assert not (tmp_path / "out").exists()
