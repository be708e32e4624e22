"""Weights, configs and statistics that have changed, or that no training makes, are refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from melodygan_core import codec, prior, release, vocoder
from melodygan_core.errors import InputError
from melodygan_core.release import FILE, styles
from melodygan_core.release.manifest import folder_sha256
from melodygan_core.storage import ARTIFACT_FILE, Store, check_hashes
from melodygan_core.training.checkpoint import CONFIG_FILE, MAX_VALUE, WEIGHTS_FILE

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[1] / "data"
COMPONENTS = ("codec", "prior", "vocoder")
FLIPS = 24


def refused(load: Callable[[], object], *words: str) -> None:
    """A call raises one sentence that has these words."""
    with pytest.raises(InputError) as caught:
        load()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000
    for word in words:
        assert word in message


def flips(path: Path, count: int = FLIPS) -> Any:
    """Yields a file with one bit flipped, once at each of `count` positions, and restores it."""
    intact = path.read_bytes()
    for k in range(count):
        content = bytearray(intact)
        content[(len(intact) - 1) * k // (count - 1)] ^= 1 << k % 8
        path.write_bytes(content)
        yield k
    path.write_bytes(intact)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_flipped_bit_of_a_releases_weights_is_refused(temporal_folder: Path, name: str) -> None:
    path = temporal_folder / name / WEIGHTS_FILE
    for _ in flips(path):
        refused(lambda: release.load(temporal_folder, device="cpu"), "SHA-256", str(path.parent), FILE)
    release.load(temporal_folder, device="cpu")


@pytest.mark.parametrize("file", [FILE, styles.FILE])
def test_every_flipped_bit_of_what_describes_a_release_is_refused(temporal_folder: Path, file: str) -> None:
    path = temporal_folder / file
    for _ in flips(path, 8):
        refused(lambda: release.load(temporal_folder, device="cpu"), f"SHA-256 of {path}", ARTIFACT_FILE)


@pytest.mark.parametrize("kind", ["dense", "temporal"])
def test_every_flipped_bit_of_a_release_of_version_0_1_is_refused(tmp_path: Path, kind: str) -> None:
    folder = shutil.copytree(DATA / f"release-0.1-{kind}", tmp_path / "release")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (ARTIFACT_FILE, "MODEL_CARD.md"):
            for _ in flips(path):
                refused(lambda: release.load(folder, device="cpu"), f"SHA-256 of {path}", ARTIFACT_FILE)
    # A person may edit it.
    (folder / "MODEL_CARD.md").write_text("words", "utf-8")
    assert release.load(folder, device="cpu").pipeline.name == f"{kind}_gan"


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("file", [WEIGHTS_FILE, CONFIG_FILE])
def test_every_flipped_bit_of_a_checkpoint_is_refused(
    temporal_store: Store, tmp_path: Path, name: str, file: str
) -> None:
    assets = {"codec": "autoencoder_checkpoint", "prior": "gan_checkpoint"}
    group = (
        f"models/temporal/{assets[name].removesuffix('_checkpoint')}" if name in assets else "models/vocoder"
    )
    [made] = [p.parent for p in Path(temporal_store.root).glob(f"{group}/**/{WEIGHTS_FILE}")]
    folder = shutil.copytree(made, tmp_path / name)
    load: Callable[[Path], Any] = {"codec": codec.load, "prior": prior.load, "vocoder": vocoder.load}[name]
    for _ in flips(folder / file):
        refused(lambda: load(folder), f"SHA-256 of {folder / file}", ARTIFACT_FILE)
    load(folder)
    (folder / file).unlink()
    refused(lambda: load(folder), str(folder / file), "no such file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["must be the description of an artifact"]),
        ("[]", ["must be the description"]),
        ("{}", ["must be the description", "files"]),
        ('{"files": []}', ["must be names with their SHA-256, got []"]),
        ('{"files": {"a": 1}}', ["must be names with their SHA-256"]),
        ('{"files": {"../a": "0"}}', ["must be names in its folder, got '../a'"]),
        ('{"files": {"/etc/hostname": "0"}}', ["must be names in its folder"]),
        ('{"files": {"gone": "0"}}', ["gone must be 0", "got no such file"]),
    ],
)
def test_a_damaged_list_of_hashes_is_refused(tmp_path: Path, content: str, words: list[str]) -> None:
    (tmp_path / ARTIFACT_FILE).write_text(content, "utf-8")
    refused(lambda: check_hashes(tmp_path), ARTIFACT_FILE, *words)


# Changed together with their hashes, as whoever does it on purpose can.


def rehash(folder: Path, name: str) -> None:
    """Writes the hash of a changed component into the manifest, and removes the other list of hashes."""
    (folder / ARTIFACT_FILE).unlink(missing_ok=True)
    stored = json.loads((folder / FILE).read_text("utf-8"))
    stored["components"][name]["sha256"] = folder_sha256(folder / name)
    (folder / FILE).write_text(json.dumps(stored), "utf-8")


@pytest.mark.parametrize(
    ("name", "part", "value", "words"),
    [
        ("codec", "decoder", 1e38, [f"must be -{MAX_VALUE:g} to {MAX_VALUE:g}, got 1e+38"]),
        ("codec", "decoder", -1e38, ["got 1e+38"]),
        ("codec", "decoder", float("nan"), ["must be finite"]),
        ("codec", "log_mel_mean", 1e38, ["log_mel_mean must be", "got 1e+38"]),
        ("codec", "log_mel_std", 1e38, ["log_mel_std must be", "got 1e+38"]),
        ("codec", "log_mel_std", 0.0, ["log_mel_std must be above 0, got 0"]),
        ("codec", "log_mel_std", -1.0, ["log_mel_std must be above 0, got -1"]),
        ("prior", "", 1e38, ["got 1e+38"]),
        ("vocoder", "head", 1e38, ["got 1e+38"]),
    ],
)
def test_weights_that_no_training_makes_are_refused(
    temporal_folder: Path, name: str, part: str, value: float, words: list[str]
) -> None:
    path = temporal_folder / name / WEIGHTS_FILE
    tensors = load_file(path)
    key = next(k for k, v in tensors.items() if part in k and v.dtype == torch.float32)
    tensors[key].view(-1)[-1] = value
    save_file(tensors, path)
    rehash(temporal_folder, name)
    refused(lambda: release.load(temporal_folder, "neural", "cpu"), str(path), *words)


def test_weights_of_other_shapes_are_refused(temporal_folder: Path) -> None:
    path = temporal_folder / "codec" / WEIGHTS_FILE
    tensors = load_file(path)
    key = next(k for k in tensors if k.endswith("log_mel_std"))
    save_file({**tensors, key: tensors[key][:-1].clone()}, path)
    rehash(temporal_folder, "codec")
    refused(lambda: release.load(temporal_folder, device="cpu"), str(path), "log_mel_std", "shape")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": 1e38}, [f"mean must be finite and at most {MAX_VALUE:g}, got 1e+38"]),
        ({"std": 1e38}, ["std must be finite and at most", "got 1e+38"]),
        ({"std": 0.0}, ["std must be above 0, got 0"]),
        ({"std": -1.0}, ["std must be above 0, got -1"]),
        ({"std": float("nan")}, ["std must be finite"]),
        ({"mean": float("-inf")}, ["mean must be finite"]),
        ({"mean": 1e300}, ["mean must be finite"]),
    ],
)
def test_statistics_that_no_training_makes_are_refused(
    temporal_folder: Path, changes: dict[str, float], words: list[str]
) -> None:
    path = temporal_folder / "prior" / CONFIG_FILE
    stored = json.loads(path.read_text("utf-8"))
    for key, value in changes.items():
        stored[key][1] = value
    path.write_text(json.dumps(stored), "utf-8")
    rehash(temporal_folder, "prior")
    refused(lambda: release.load(temporal_folder, device="cpu"), str(path), *words)


def test_statistics_of_another_length_are_refused(temporal_folder: Path) -> None:
    path = temporal_folder / "prior" / CONFIG_FILE
    stored = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**stored, "mean": stored["mean"][:-1]}), "utf-8")
    rehash(temporal_folder, "prior")
    refused(lambda: release.load(temporal_folder, device="cpu"), "length of the prior's mean must be")


# Provenance.


TRACK = {"track_id": "a", "title": "A", "url": "https://a.example/", "licence": "", "rights": "own"}
SOURCES = {"dataset": "x", "stems": ["mix"], "tracks": [TRACK], "licences": ["CC0-1.0"], "rights": ["own"]}


@pytest.mark.parametrize("kind", ["", "dense"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": {}}, ["sources.dataset must be text", "got nothing"]),
        ({"sources": []}, ["sources must be a mapping", "got ()"]),
        ({"sources": None}, ["sources must be a mapping", "got None"]),
        ({"sources": "x" * 1_000_000}, ["sources must be a mapping", "..."]),
        ({"sources": {**SOURCES, "licences": 3}}, ["sources.licences must be", "got 3"]),
        ({"sources": {**SOURCES, "licences": [3]}}, ["sources.licences[0] must be text", "got 3"]),
        ({"sources": {**SOURCES, "licences": [["CC0"]]}}, ["sources.licences[0] must be text", "CC0"]),
        ({"sources": {**SOURCES, "licences": ["x" * 1_000_000]}}, ["sources.licences[0]", "1000 characters"]),
        ({"sources": {**SOURCES, "licences": [3] * 9999}}, ["sources.licences[4] must", "and 9994 more"]),
        ({"sources": {**SOURCES, "rights": {"own": 1}}}, ["sources.rights must be"]),
        ({"sources": {**SOURCES, "stems": [None]}}, ["sources.stems[0] must be text", "None"]),
        ({"sources": {**SOURCES, "tracks": [3]}}, ["sources.tracks[0] must be a mapping", "got 3"]),
        ({"sources": {**SOURCES, "tracks": [{**TRACK, "licence": [1]}]}}, ["sources.tracks[0].licence must"]),
        ({"sources": {**SOURCES, "tracks": [{**TRACK, "title": None}]}}, ["sources.tracks[0].title must"]),
        ({"sources": {**SOURCES, "other": 1}}, ["'other'"]),
        ({"models": 7}, ["models must be", "got 7"]),
        ({"models": {"a": [1]}}, ["models must be names with their versions"]),
        ({"version": 7}, ["version must be text", "got 7"]),
        ({"version": "x" * 9999}, ["version must be", "1000 characters"]),
    ],
)
def test_provenance_of_a_wrong_type_is_refused_before_anything_is_made(
    temporal_folder: Path, tmp_path: Path, kind: str, changes: dict[str, Any], words: list[str]
) -> None:
    folder, file = temporal_folder, FILE
    if kind:
        folder, file = shutil.copytree(DATA / f"release-0.1-{kind}", tmp_path / "old"), CONFIG_FILE
    (folder / ARTIFACT_FILE).unlink()
    stored = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps({**stored, **changes}), "utf-8")
    refused(lambda: release.load(folder, device="cpu"), str(folder / file), *words)


@pytest.mark.parametrize("value", [3, [1], {"a": [1]}, {"a": {"b": 1}}, {"a": "x" * 9999}])
def test_figures_of_a_wrong_type_are_refused(temporal_folder: Path, value: Any) -> None:
    (temporal_folder / ARTIFACT_FILE).unlink()
    stored = json.loads((temporal_folder / FILE).read_text("utf-8"))
    (temporal_folder / FILE).write_text(json.dumps({**stored, "evaluation": value}), "utf-8")
    refused(lambda: release.load(temporal_folder, device="cpu"), "evaluation of", "names with their figures")


def test_a_release_of_many_tracks_is_read(temporal_folder: Path) -> None:
    (temporal_folder / ARTIFACT_FILE).unlink()
    stored = json.loads((temporal_folder / FILE).read_text("utf-8"))
    stored["sources"] = {**SOURCES, "tracks": [{**TRACK, "title": "t" * 300}] * 20_000}
    (temporal_folder / FILE).write_text(json.dumps(stored, indent=2), "utf-8")
    assert (temporal_folder / FILE).stat().st_size > 4_000_000
    loaded = release.load(temporal_folder, device="cpu")
    assert loaded.provenance["sources"] == stored["sources"]
    assert dataclasses.asdict(loaded.manifest)["sources"]["licences"] == ["CC0-1.0"]
