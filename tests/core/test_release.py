from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from melodygan_core import generation, release
from melodygan_core.errors import InputError
from melodygan_core.release import Published
from melodygan_core.storage.store import Artifact
from tests.core.made import GENERATION, HOSTILE, Family


def publish(family: Family, current: Artifact | None = None, **figures: float) -> Published:
    """Publishes with some figures of the evaluation replaced, which makes it another one."""
    evaluation = family.evaluation
    if figures:
        changed = evaluation.metrics | {f"generated/{k}": v for k, v in figures.items()}
        evaluation = replace(
            evaluation, version="-".join(["other", *map(str, figures.values())]), metrics=changed
        )
    return release.publish(
        family.gan,
        family.autoencoder,
        family.vocoder,
        evaluation,
        family.dataset,
        family.store,
        GENERATION,
        current,
    )


def test_the_folder_works_without_its_store(own_family: Family, tmp_path: Path) -> None:
    made = publish(own_family)
    assert made.replaced
    assert made.reason.startswith("first release")
    store = own_family.store
    samples = Path(str(store.at(own_family.samples.uri)))
    expected = [(samples / f"sample-00{i}.wav").read_bytes() for i in range(3)]
    shutil.copytree(str(store.at(made.artifact.uri)), tmp_path / "elsewhere")
    shutil.rmtree(store.root)
    loaded = release.load(tmp_path / "elsewhere")
    description = loaded.description
    assert loaded.generation == GENERATION
    out = tmp_path / "out"
    out.mkdir()
    generation.write_pieces(loaded.models, loaded.generation, out, {"release": description["version"]})
    assert [(out / f"sample-00{i}.wav").read_bytes() for i in range(3)] == expected
    assert description["version"] == made.artifact.version
    assert description["sources"]["rights"] == ["open"]
    assert description["models"]["dense/gan_checkpoint"] == own_family.gan.version
    assert description["models"]["vocoder_checkpoint"] == own_family.vocoder.version


def test_a_temporal_release_makes_what_its_store_made(own_temporal: Family, tmp_path: Path) -> None:
    made, store = publish(own_temporal), own_temporal.store
    expected = Path(str(store.at(own_temporal.samples.uri))) / "sample-000.wav"
    loaded = release.load(Path(str(store.at(made.artifact.uri))))
    generation.write_pieces(loaded.models, replace(loaded.generation, count=1), tmp_path, {})
    assert (tmp_path / "sample-000.wav").read_bytes() == expected.read_bytes()
    assert made.artifact.name == "temporal/release" and loaded.description["family"] == "temporal"
    # With the neural vocoder that lies in the folder, too.
    other = release.publish(
        own_temporal.gan,
        own_temporal.autoencoder,
        own_temporal.vocoder,
        own_temporal.evaluation,
        own_temporal.dataset,
        store,
        replace(GENERATION, vocoder="neural"),
        None,
    ).artifact
    assert other.version != made.artifact.version
    loaded = release.load(Path(str(store.at(other.uri))))
    assert next(generation.pieces(loaded.models, loaded.generation)).wav.std() > 0


def test_a_worse_evaluation_is_refused_and_leaves_the_release_in_use(own_family: Family) -> None:
    first = publish(own_family, excess_kad=100.0, excess_kad_high=120.0)
    worse = publish(own_family, first.artifact, excess_kad=121.0, excess_kad_high=500.0)
    assert worse == Published(first.artifact, False, "excess KAD 121.0 is worse than the limit of 120.0")
    folder = Path(str(own_family.store.at(first.artifact.uri))).parent
    assert [p.name for p in folder.iterdir()] == [first.artifact.version]


def test_a_like_or_better_evaluation_replaces_it(own_family: Family) -> None:
    first = publish(own_family, excess_kad=100.0, excess_kad_high=120.0)
    like = publish(own_family, first.artifact, excess_kad=119.0, excess_kad_high=150.0)
    assert like.replaced
    assert like.artifact.version != first.artifact.version
    assert publish(own_family, first.artifact, excess_kad=10.0, excess_kad_high=12.0).replaced
    with pytest.raises(InputError, match="is nan"):
        publish(own_family, first.artifact, excess_kad=float("nan"), excess_kad_high=1.0)


def test_releases_that_are_each_a_little_worse_do_not_drift(own_family: Family) -> None:
    first = publish(own_family, excess_kad=100.0, excess_kad_high=120.0)
    second = publish(own_family, first.artifact, excess_kad=119.0, excess_kad_high=150.0)
    assert second.replaced
    assert not publish(own_family, second.artifact, excess_kad=130.0, excess_kad_high=160.0).replaced


def test_publishing_twice_is_a_no_op(own_family: Family) -> None:
    first = publish(own_family)
    again = publish(own_family, first.artifact)
    assert again.artifact == first.artifact


def test_the_model_card_is_inert(own_family: Family) -> None:
    made = publish(own_family)
    card = (Path(str(own_family.store.at(made.artifact.uri))) / "MODEL_CARD.md").read_text("utf-8")
    assert "<script>" not in card
    assert "[x](y)" not in card
    rows = [line for line in card.splitlines() if "made" in line and line.startswith("|")]
    assert len(rows) == 5
    for row in rows:
        assert row.replace("\\|", "").count("|") == 5
        assert "\\<script\\>" in row
    assert "CC0\\-1.0" in card


@pytest.mark.parametrize("character", list("\\`*_{}[]<>()#+!|~-"))
def test_markdown_is_escaped(character: str) -> None:
    assert release.escape_markdown(f"a{character}b\n c") == f"a\\{character}b c"


def test_the_hostile_title_came_this_far(family: Family) -> None:
    told = generation.sources(family.store, family.autoencoder, family.vocoder)
    assert HOSTILE in told["tracks"][0]["title"]


def test_what_is_no_release_says_why(own_family: Family, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint: it has no config\.json"):
        release.load(tmp_path)
    folder = Path(str(own_family.store.at(publish(own_family).artifact.uri)))
    stored = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(stored | {"family": "other"}), "utf-8")
    with pytest.raises(InputError, match="says family 'other'; its models are dense"):
        release.load(folder)
    (folder / "config.json").write_text(json.dumps(stored), "utf-8")
    (folder / "gan" / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        release.load(folder)


def test_the_folder_holds_no_trace_of_the_machine(own_family: Family) -> None:
    folder = Path(str(own_family.store.at(publish(own_family).artifact.uri)))
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        if path.suffix in (".json", ".md"):
            assert own_family.store.root not in path.read_text("utf-8")
