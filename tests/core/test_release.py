"""Releases: what publishing writes, what the gate decides, and which damaged folders are refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from melodygan_core import generation, release
from melodygan_core.config import GenerationConfig, replace
from melodygan_core.errors import InputError
from melodygan_core.pipeline import PipelineArtifacts
from melodygan_core.release import FILE, FORMAT, Published, styles
from melodygan_core.release.gate import HISTORY
from melodygan_core.release.manifest import folder_sha256
from melodygan_core.storage import ARTIFACT_FILE
from melodygan_core.storage.store import Artifact
from tests.conftest import copied
from tests.core.made import GENERATION, HOSTILE, Trained

COMPONENTS = ("codec", "prior", "vocoder")


def publish(
    trained: Trained,
    current: Artifact | None = None,
    artifacts: PipelineArtifacts | None = None,
    config: GenerationConfig = GENERATION,
    **figures: float,
) -> Published:
    """Publishes with some figures of the evaluation replaced, which makes it another evaluation."""
    evaluation = trained.evaluation
    if figures:
        changed = evaluation.metrics | {f"generated/{k}": v for k, v in figures.items()}
        evaluation = dataclasses.replace(
            evaluation, version="-".join(["other", *map(str, figures.values())]), metrics=changed
        )
    return release.publish(
        artifacts or trained.artifacts, evaluation, trained.dataset, trained.store, config, current
    )


def folder_of(trained: Trained, artifact: Artifact) -> Path:
    """The local folder of an artifact."""
    return Path(str(trained.store.at(artifact.uri)))


@pytest.fixture(scope="module")
def published(dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release folder of `dense_gan`; shared, so nobody may change it."""
    trained = copied(dense, tmp_path_factory.mktemp("published") / "store")
    return folder_of(trained, publish(trained).artifact)


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change; who changes it on purpose removes `artifact.json`."""
    without_hashes = shutil.ignore_patterns(ARTIFACT_FILE)
    return Path(shutil.copytree(published, tmp_path / "release", ignore=without_hashes))


# What publishing writes.


@pytest.mark.parametrize("fixture", ["own_dense", "own_temporal"])
def test_the_folder_generates_the_same_bytes_without_its_store(
    request: pytest.FixtureRequest, fixture: str, tmp_path: Path
) -> None:
    trained: Trained = request.getfixturevalue(fixture)
    made = publish(trained)
    assert made.replaced
    assert made.reason.startswith("first release")
    assert made.artifact.name == f"{trained.artifacts.name}/release"
    expected = [
        (folder_of(trained, trained.samples) / f"sample-00{i}.wav").read_bytes()
        for i in range(GENERATION.count)
    ]
    shutil.copytree(folder_of(trained, made.artifact), tmp_path / "elsewhere")
    shutil.rmtree(trained.store.root)
    loaded = release.load(tmp_path / "elsewhere", device="cpu")
    assert loaded.generation == GENERATION
    assert loaded.pipeline.name == trained.artifacts.name
    out = tmp_path / "out"
    out.mkdir()
    generation.write_pieces(loaded.pipeline, loaded.generation, out, loaded.provenance)
    assert [(out / f"sample-00{i}.wav").read_bytes() for i in range(GENERATION.count)] == expected
    provenance = json.loads((out / "sample-000.json").read_text("utf-8"))
    assert provenance["release"] == loaded.version == made.artifact.version
    assert provenance["pipeline"] == trained.artifacts.name
    assert provenance["models"] == trained.artifacts.inputs
    assert provenance["sources"]["rights"] == ["open"]


def test_the_manifest_names_every_component_with_its_hash(own_temporal: Trained) -> None:
    made = publish(own_temporal).artifact
    folder = folder_of(own_temporal, made)
    stored = json.loads((folder / FILE).read_text("utf-8"))
    assert (stored["format"], stored["pipeline"], stored["version"]) == (FORMAT, "temporal_gan", made.version)
    kinds = {name: part["kind"] for name, part in stored["components"].items()}
    assert kinds == {
        "codec": "temporal",
        "refiner": "none",
        "prior": "temporal/gan",
        "vocoder": "griffin_lim",
    }
    for name in COMPONENTS:
        part = stored["components"][name]
        assert part["path"] == name
        assert part["sha256"] == folder_sha256(folder / name)
        assert {p.name for p in (folder / name).iterdir()} == {"config.json", "weights.safetensors"}
    assert stored["griffin_lim"]["iterations"] == 4
    assert stored["models"] == own_temporal.artifacts.inputs
    assert made.inputs["temporal_gan/evaluation"] == own_temporal.evaluation.version
    assert "manifest.json" in made.files and "MODEL_CARD.md" in made.files
    assert list(release.load(folder, device="cpu").styles) == ["all", "mix", "fast", "minor", "slow"]


def test_a_hash_depends_on_names_and_bytes_of_the_files(tmp_path: Path) -> None:
    hashes = []
    for name, content in (("a", b"1"), ("b", b"1"), ("a", b"2"), ("x/a", b"1")):
        folder = tmp_path / str(len(hashes))
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
        hashes.append(folder_sha256(folder))
    assert len(set(hashes)) == 4
    shutil.copytree(tmp_path / "0", tmp_path / "copy")
    assert folder_sha256(tmp_path / "copy") == hashes[0]


def test_a_pipeline_without_a_vocoder_checkpoint_is_released(own_dense: Trained, tmp_path: Path) -> None:
    artifacts = dataclasses.replace(own_dense.artifacts, vocoder=None)
    made = publish(own_dense, artifacts=artifacts).artifact
    folder = folder_of(own_dense, made)
    assert not (folder / "vocoder").exists()
    assert "vocoder_checkpoint" not in made.inputs
    stored = json.loads((folder / FILE).read_text("utf-8"))
    assert stored["components"]["vocoder"] == {"kind": "griffin_lim", "path": "", "sha256": ""}
    loaded = release.load(folder, device="cpu")
    generation.write_pieces(loaded.pipeline, replace(GENERATION, count=1), tmp_path, loaded.provenance)
    with_checkpoint = next(generation.pieces(own_dense.open(), replace(GENERATION, count=1)))
    assert next(generation.pieces(loaded.pipeline, GENERATION)).wav.tolist() == with_checkpoint.wav.tolist()
    with pytest.raises(InputError, match=r"vocoder must be 'griffin_lim'.*got 'neural'"):
        release.load(folder, "neural", "cpu")


def test_the_vocoder_can_be_chosen_where_the_release_has_one(folder: Path) -> None:
    made = [release.load(folder, vocoder, "cpu").pipeline for vocoder in ("", "griffin_lim", "neural")]
    config = replace(GENERATION, count=1, duration_s=0.3)
    wavs = [next(generation.pieces(pipeline, config)).wav for pipeline in made]
    assert wavs[0].tolist() == wavs[1].tolist()
    assert wavs[2].std() > 0 and wavs[2].tolist() != wavs[0].tolist()
    with pytest.raises(InputError, match="vocoder must be neural, griffin_lim, flow, got 'other'"):
        release.load(folder, "other", "cpu")


def test_other_settings_of_generation_are_another_version(own_dense: Trained) -> None:
    first = publish(own_dense).artifact
    second = publish(own_dense, config=replace(GENERATION, duration_s=2.0)).artifact
    assert second.version != first.version
    assert release.load(folder_of(own_dense, second), device="cpu").generation.duration_s == 2.0


def test_publishing_twice_is_a_no_op(own_dense: Trained) -> None:
    first = publish(own_dense).artifact
    before = (folder_of(own_dense, first) / FILE).stat().st_mtime_ns
    assert publish(own_dense, first).artifact == first
    assert (folder_of(own_dense, first) / FILE).stat().st_mtime_ns == before


def test_the_folder_has_no_trace_of_the_machine(published: Path, folder: Path) -> None:
    store = published.parents[2]
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        if path.suffix in (".json", ".md"):
            assert str(store) not in path.read_text("utf-8")


# Model card.


def test_the_model_card_is_inert(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text("utf-8")
    assert "<script>" not in card
    assert "[x](y)" not in card
    rows = [line for line in card.splitlines() if "made" in line and line.startswith("|")]
    assert len(rows) == 5
    for row in rows:
        assert row.replace("\\|", "").count("|") == 5
        assert "\\<script\\>" in row
    assert "CC0\\-1.0" in card
    assert "| codec | dense |" in card
    assert "| prior | dense/gan |" in card


@pytest.mark.parametrize("character", list("\\`*_{}[]<>()#+!|~-"))
def test_markdown_is_escaped(character: str) -> None:
    assert release.escape_markdown(f"a{character}b\n c") == f"a\\{character}b c"


def test_the_titles_of_the_training_tracks_are_hostile(dense: Trained) -> None:
    sources = generation.sources(dense.store, dense.artifacts)
    assert HOSTILE in sources["tracks"][0]["title"]


# The gate.


def test_a_worse_evaluation_is_refused_and_leaves_the_release_in_use(own_dense: Trained) -> None:
    first = publish(own_dense, kad=100.0, kad_low=90.0, kad_high=110.0)
    worse = publish(own_dense, first.artifact, kad=121.0, kad_low=111.0, kad_high=131.0)
    assert (worse.artifact, worse.replaced) == (first.artifact, False)
    assert worse.reason == (
        "KAD 121.0 [111.0, 131.0] is worse than that of the release in use, 100.0 [90.0, 110.0]"
    )
    releases = folder_of(own_dense, first.artifact).parent
    assert [p.name for p in releases.iterdir()] == [first.artifact.version]


def test_a_similar_or_better_evaluation_replaces_it(own_dense: Trained) -> None:
    first = publish(own_dense, kad=100.0, kad_low=90.0, kad_high=110.0)
    similar = publish(own_dense, first.artifact, kad=110.0, kad_low=100.0, kad_high=120.0)
    assert similar.replaced
    assert similar.artifact.version != first.artifact.version
    assert publish(own_dense, first.artifact, kad=10.0, kad_low=8.0, kad_high=12.0).replaced
    with pytest.raises(InputError, match=r"generated/kad of evaluation .*nan"):
        publish(own_dense, first.artifact, kad=float("nan"), kad_low=0.0, kad_high=1.0)


def test_a_release_carries_the_measurements_of_earlier_ones(own_dense: Trained) -> None:
    first = publish(own_dense, kad=100.0, kad_low=90.0, kad_high=110.0)
    second = publish(own_dense, first.artifact, kad=110.0, kad_low=100.0, kad_high=120.0)
    assert second.replaced
    assert [m["kad"] for m in second.artifact.metrics[HISTORY]] == [110.0, 100.0]
    # Each step is within chance, their sum is not.
    third = publish(own_dense, second.artifact, kad=120.0, kad_low=110.0, kad_high=130.0)
    assert not third.replaced and "the best of the last releases, 100.0" in third.reason


def test_too_few_test_tracks_release_without_a_gate(own_dense: Trained) -> None:
    first = publish(own_dense)
    assert first.replaced
    assert first.reason == "first release; too few tracks to compare (2 of at least 5)"
    later = publish(own_dense, first.artifact, kad=500.0, kad_low=400.0, kad_high=600.0)
    assert later.replaced and "not comparable" in later.reason and "too few tracks" in later.reason


# Damaged folders.


def refused(folder: Path, *words: str) -> None:
    """Loading the folder raises one sentence that has these words."""
    with pytest.raises(InputError) as caught:
        release.load(folder, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def edit(folder: Path, **changes: Any) -> None:
    """Replaces keys of the manifest; None removes a key. Who changes it on purpose removes the hashes."""
    (folder / ARTIFACT_FILE).unlink(missing_ok=True)
    stored = {**json.loads((folder / FILE).read_text("utf-8")), **changes}
    (folder / FILE).write_text(json.dumps({k: v for k, v in stored.items() if v is not None}), "utf-8")


def edit_component(folder: Path, name: str, **changes: Any) -> None:
    """Replaces keys of one component of the manifest; None removes a key."""
    components = json.loads((folder / FILE).read_text("utf-8"))["components"]
    part = {**components[name], **changes}
    edit(folder, components={**components, name: {k: v for k, v in part.items() if v is not None}})


def rehash(folder: Path, name: str) -> None:
    """Writes the hash of a changed component into the manifest, as whoever changed it can."""
    edit_component(folder, name, sha256=folder_sha256(folder / name))


def test_a_folder_without_a_manifest_is_no_release(tmp_path: Path) -> None:
    refused(tmp_path, "release must be a folder with a manifest.json", str(tmp_path))
    refused(tmp_path / "none", "release must be a folder with a manifest.json")


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
def test_a_changed_byte_of_a_component_is_refused_by_name(folder: Path, name: str, file: str) -> None:
    path = folder / name / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    refused(folder, "SHA-256", str(folder / name), "manifest.json")


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_file_more_or_less_in_a_component_is_refused(folder: Path, name: str) -> None:
    (folder / name / "more").write_bytes(b"")
    refused(folder, "SHA-256", str(folder / name))
    (folder / name / "more").unlink()
    (folder / name / "config.json").unlink()
    refused(folder, "SHA-256", str(folder / name))


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_missing_component_is_refused_by_name(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name)
    refused(folder, f"path of {name} must be an existing folder of the release, got '{name}'")


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("path", ["..", ".", "../codec", "/etc", "codec/../prior", "..\\codec", "a/b"])
def test_a_path_that_leads_out_of_the_release_is_refused(folder: Path, name: str, path: str) -> None:
    edit_component(folder, name, path=path)
    refused(folder, f"path of {name} must be the name of a folder of the release", repr(path))


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("codec", {"path": ""}, ["path of codec", "''"]),
        ("prior", {"path": ""}, ["path of prior", "''"]),
        ("codec", {"path": 3}, ["path of codec", "3"]),
        ("codec", {"kind": 3}, ["kind of codec", "3"]),
        ("codec", {"kind": "other"}, ["prior", "'other'"]),
        ("prior", {"kind": "dense/other"}, ["prior", "'dense/gan'", "'dense/other'"]),
        ("prior", {"kind": "temporal/gan"}, ["prior", "'dense'", "'temporal/gan'"]),
        ("vocoder", {"kind": "other"}, ["vocoder must be neural, griffin_lim, flow, got 'other'"]),
        ("vocoder", {"kind": None}, [FILE]),
        ("vocoder", {"other": 1}, [FILE]),
        ("vocoder", {"sha256": "0"}, ["SHA-256"]),
    ],
)
def test_a_damaged_component_of_the_manifest_is_refused(
    folder: Path, name: str, changes: dict[str, Any], words: list[str]
) -> None:
    edit_component(folder, name, **changes)
    refused(folder, *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 1}, [f"format of .* must be 2 or {FORMAT}, got 1"]),
        ({"format": 99}, [f"must be 2 or {FORMAT}, got 99"]),
        ({"format": "2"}, ["got '2'"]),
        ({"format": None}, [FILE, "format"]),
        ({"components": {}}, [FILE, "codec"]),
        ({"components": [1]}, [FILE]),
        ({"components": None}, [FILE, "components"]),
        ({"generation": {"count": 0}}, ["count"]),
        ({"generation": {"other": 0}}, ["other"]),
        ({"generation": 3}, [FILE]),
        ({"griffin_lim": {"iterations": -1}}, ["iterations"]),
        ({"models": 3}, [FILE]),
        ({"sources": {}}, [FILE, "dataset"]),
        ({"sources": {"dataset": "x", "stems": [], "tracks": [], "licences": [1]}}, [FILE, "licences"]),
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, changes: dict[str, Any], words: list[str]) -> None:
    edit(folder, **changes)
    with pytest.raises(InputError) as caught:
        release.load(folder, device="cpu")
    for word in words:
        caught.match(word)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00"])
def test_a_manifest_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text, "utf-8")
    refused(folder, FILE)


@pytest.mark.parametrize(("name", "key"), [("codec", "codec"), ("prior", "codec"), ("prior", "prior")])
def test_an_unknown_codec_or_prior_is_refused(folder: Path, name: str, key: str) -> None:
    # The kinds of manifest and checkpoint agree.
    file = folder / name / "config.json"
    stored = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**stored, key: "other"}), "utf-8")
    rehash(folder, name)
    refused(folder, name, "'dense" if key == "codec" else "'dense/gan'", "other")
    if name == "codec":
        edit_component(folder, "codec", kind="other")
        edit_component(folder, "prior", kind="other/gan")
        prior = folder / "prior" / "config.json"
        prior.write_text(json.dumps({**json.loads(prior.read_text("utf-8")), "codec": "other"}), "utf-8")
        rehash(folder, "prior")
        refused(folder, "codec", "dense, temporal", "'other'")


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(own_dense: Trained, name: str, value: float) -> None:
    artifacts = dataclasses.replace(own_dense.artifacts, vocoder_kind="neural", griffin_lim=None)
    folder = folder_of(own_dense, publish(own_dense, artifacts=artifacts).artifact)
    file = folder / name / "weights.safetensors"
    tensors = load_file(file)
    first = next(key for key, tensor in tensors.items() if tensor.dtype == torch.float32)
    tensors[first].view(-1)[0] = value
    save_file(tensors, file)
    rehash(folder, name)
    refused(folder, str(file), "finite")


def test_a_prior_of_another_latent_size_is_refused(own_dense: Trained, own_temporal: Trained) -> None:
    folder, other = (folder_of(t, publish(t).artifact) for t in (own_dense, own_temporal))
    shutil.rmtree(folder / "prior")
    shutil.copytree(other / "prior", folder / "prior")
    rehash(folder, "prior")
    refused(folder, "prior", "'temporal/gan'", "'dense/gan'")


def test_damaged_styles_are_refused(folder: Path) -> None:
    (folder / styles.FILE).write_text("{", "utf-8")
    refused(folder, styles.FILE)
