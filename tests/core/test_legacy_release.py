"""Release folders of version 0.1: they load, generate what version 0.1 generated, and damage is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodygan_core import generation, release
from melodygan_core.config import replace
from melodygan_core.errors import InputError
from melodygan_core.release import styles
from melodygan_core.services.generate import generate
from melodygan_core.services.releases import open_release

DATA = Path(__file__).parents[1] / "data"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_text("utf-8"))
FOLDERS = list(EXPECTED)
# Differences between instruction sets. The neural vocoder amplifies them most: where a bin is almost silent,
# rounding decides its phase, so that single samples differ and the RMS error is compared.
LATENTS, LOG_MEL = 1e-5, 1e-5
WAV = {"griffin_lim": 1e-5, "neural": 1e-2}


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a release folder that a test may change; who changes it on purpose removes the hashes."""
    without_hashes = shutil.ignore_patterns("artifact.json")
    return Path(shutil.copytree(DATA / request.param, tmp_path / request.param, ignore=without_hashes))


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("vocoder", list(WAV))
@pytest.mark.parametrize("name", FOLDERS)
def test_it_generates_what_version_0_1_generated(name: str, vocoder: str) -> None:
    loaded = release.load(DATA / name, vocoder, "cpu")
    config = replace(loaded.generation, seed=7, count=2, duration_s=1.0)
    expected = EXPECTED[name][vocoder]["pieces"]
    for piece, row in zip(generation.pieces(loaded.pipeline, config), expected, strict=True):
        sample, (wav,) = piece.sample, piece.wav
        assert (piece.index, piece.condition) == (row["index"], row["condition"])
        assert sample.decoded.stereo is None
        latents, log_mel = (
            values.numpy().astype(float) for values in (sample.latents, sample.decoded.spectrum[0].T)
        )
        assert [list(latents.shape), list(log_mel.shape)] == [row[k]["shape"] for k in ("latents", "log_mel")]
        np.testing.assert_allclose(latents[0], row["latents"]["first_row"], atol=LATENTS)
        np.testing.assert_allclose(log_mel[:, 0], row["log_mel"]["first_frame"], atol=LOG_MEL)
        for values, figures, tolerance in (
            (latents, row["latents"], LATENTS),
            (log_mel, row["log_mel"], LOG_MEL),
            (wav.astype(float), row["wav"], WAV[vocoder]),
        ):
            assert values.mean() == pytest.approx(figures["mean"], abs=tolerance)
            assert values.std() == pytest.approx(figures["std"], abs=tolerance)
        assert len(wav) == row["wav"]["samples"] == loaded.pipeline.feature.sample_rate
        for samples, name_of in ((wav[:20], "first_20"), (wav[::1000], "every_1000th")):
            assert rms(samples - row["wav"][name_of]) < WAV[vocoder], name_of


@pytest.mark.parametrize("name", FOLDERS)
def test_its_description_is_that_of_a_manifest(name: str) -> None:
    loaded = release.load(DATA / name, device="cpu")
    family = name.removeprefix("release-0.1-")
    assert loaded.pipeline.name == loaded.manifest.pipeline == f"{family}_gan"
    assert loaded.version == EXPECTED[name]["version"]
    assert list(loaded.styles) == EXPECTED[name]["styles"]
    kinds = {k: part.kind for k, part in loaded.manifest.components.items()}
    assert kinds == {"codec": family, "refiner": "none", "prior": f"{family}/gan", "vocoder": "neural"}
    assert (loaded.generation.count, loaded.generation.duration_s) == (2, 1.0)
    assert loaded.manifest.griffin_lim["iterations"] == 4
    assert loaded.manifest.sources["licences"] == ["CC0-1.0"]
    assert loaded.manifest.models["vocoder_checkpoint"]


@pytest.mark.parametrize("vocoder", ["", "griffin_lim"])
def test_new_pieces_are_written_from_it(folder: Path, tmp_path: Path, vocoder: str) -> None:
    opened = open_release(str(folder), vocoder, "cpu")
    assert opened.erased == []
    result = generate(opened.release, opened.release.generation, tmp_path / "out")
    assert [sound.file for sound in result.sounds] == ["sample-000.wav", "sample-001.wav"]
    assert result.licences == ["CC0-1.0"]
    stored = json.loads((tmp_path / "out" / "sample-001.json").read_text("utf-8"))
    assert stored["pipeline"] == opened.release.pipeline.name
    assert stored["release"] == EXPECTED[folder.name]["version"]


# Damage.


def edit(path: Path, **changes: Any) -> None:
    """Replaces keys of a JSON file; None removes a key."""
    stored = {**json.loads(path.read_text("utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in stored.items() if v is not None}), "utf-8")


def edit_config(path: Path, key: str = "config", **changes: Any) -> None:
    """Replaces fields of a config in a checkpoint's `config.json`."""
    edit(path, **{key: {**json.loads(path.read_text("utf-8"))[key], **changes}})


def refused(folder: Path, *words: str) -> None:
    """Loading the folder raises one sentence that has these words."""
    with pytest.raises(InputError) as caught:
        release.load(folder, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "other"}, ["family", "'other'", "dense, temporal"]),
        ({"family": ["dense"]}, ["family", "dense, temporal"]),
        ({"family": None}, ["family"]),
        ({"generation": [1]}, ["config.json"]),
        ({"generation": {"count": 0}}, ["count", "0"]),
        ({"generation": {"vocoder": "other"}}, ["vocoder must be neural, griffin_lim, flow", "'other'"]),
        ({"generation": {"griffin_lim": {"iterations": "x"}}}, ["iterations"]),
        ({"models": 7}, ["config.json"]),
        ({"sources": "x"}, ["config.json"]),
        ({"sources": {}}, ["config.json", "licences"]),
    ],
)
def test_a_damaged_description_is_refused(folder: Path, changes: dict[str, Any], words: list[str]) -> None:
    edit(folder / "config.json", **changes)
    refused(folder, *words)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\x00"])
def test_a_description_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, "utf-8")
    refused(folder, "config.json")


@pytest.mark.parametrize("part", ["autoencoder", "gan", "vocoder"])
def test_damaged_weights_are_refused(folder: Path, part: str) -> None:
    weights = folder / part / "weights.safetensors"
    intact = weights.read_bytes()
    for content in (b"", b"x", intact[:-1], intact[: len(intact) // 2], b"\xff" * 8 + intact[8:]):
        weights.write_bytes(content)
        refused(folder, part, "weights.safetensors")
    weights.unlink()
    refused(folder, part, "weights.safetensors")


@pytest.mark.parametrize("part", ["gan", "vocoder"])
def test_a_missing_component_is_refused(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    refused(folder, part, "config.json")


@pytest.mark.parametrize(
    ("part", "changes", "word"),
    [
        ("autoencoder", {"family": "other"}, "'other'"),
        ("autoencoder", {"feature": 3}, "FeatureConfig"),
        ("gan", {"family": ["dense"]}, "dense"),
        ("gan", {"mean": [1.0]}, "mean"),
        ("gan", {"std": None}, "std"),
        ("gan", {"conditions": 3}, "config.json"),
        ("vocoder", {"config": []}, "config"),
    ],
)
def test_a_damaged_config_of_a_component_is_refused(
    folder: Path, part: str, changes: dict[str, Any], word: str
) -> None:
    edit(folder / part / "config.json", **changes)
    refused(folder, word)


def test_a_config_that_does_not_fit_the_weights_is_refused(folder: Path) -> None:
    edit_config(folder / "vocoder" / "config.json", width=16)
    refused(folder, "vocoder", "does not fit")
    edit_config(folder / "vocoder" / "config.json", width=8, other=1)
    refused(folder, "vocoder", "other")


def test_a_vocoder_of_other_features_is_refused(folder: Path) -> None:
    edit_config(folder / "vocoder" / "config.json", "feature", sample_rate=16_000)
    refused(folder, "the vocoder's features must be", "sample_rate=16000")
    assert release.load(folder, "griffin_lim", "cpu").pipeline.feature.sample_rate == 22_050


def test_components_of_two_families_are_refused(folder: Path) -> None:
    other = next(DATA / name for name in FOLDERS if name != folder.name)
    shutil.rmtree(folder / "gan")
    shutil.copytree(other / "gan", folder / "gan")
    refused(folder, "gan")


def test_a_release_without_styles_generates_and_its_styles_are_reported_missing(folder: Path) -> None:
    (folder / styles.FILE).unlink()
    loaded = release.load(folder, "griffin_lim", "cpu")
    with pytest.raises(InputError, match="without styles"):
        loaded.style("slow")
    assert next(generation.pieces(loaded.pipeline, loaded.generation)).wav.std() > 0
