"""Releases that ask for endless time or memory, or whose parts do not fit, end in one sentence."""

from __future__ import annotations

import importlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from melodygan_core import audio, release
from melodygan_core.cli import main
from melodygan_core.config import FeatureConfig, GriffinLimConfig
from melodygan_core.errors import InputError
from melodygan_core.features import check_spectrum_bytes
from melodygan_core.release import FILE
from melodygan_core.release.manifest import folder_sha256
from melodygan_core.release.styles import Style
from melodygan_core.services.transfer import transfer_wav
from melodygan_core.storage import ARTIFACT_FILE
from melodygan_core.vocoder import GriffinLim
from tests.conftest import copied
from tests.core.hostile import sine
from tests.core.made import GENERATION, Trained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trained = copied(dense, tmp_path_factory.mktemp("published") / "store")
    made = release.publish(
        trained.artifacts, trained.evaluation, trained.dataset, trained.store, GENERATION, None
    )
    return Path(str(trained.store.at(made.artifact.uri)))


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(published, tmp_path / "release"))
    # Whoever changes a folder can change its hashes, too.
    for artifact in copy.rglob(ARTIFACT_FILE):
        artifact.unlink()
    return copy


def change(folder: Path, part: str, path: str, value: Any) -> None:
    """Changes one value of a part's config, or of the manifest, and the hash, as whoever made it can."""
    file = folder / FILE if part == "manifest" else folder / part / "config.json"
    stored = json.loads(file.read_text("utf-8"))
    *outer, last = path.split(".")
    inner = stored
    for key in outer:
        inner = inner[key]
    inner[last] = value(inner[last]) if isinstance(value, Callable) else value
    file.write_text(json.dumps(stored), "utf-8")
    if part != "manifest":
        manifest = json.loads((folder / FILE).read_text("utf-8"))
        manifest["components"][part]["sha256"] = folder_sha256(folder / part)
        (folder / FILE).write_text(json.dumps(manifest), "utf-8")


ATTACKS: dict[str, tuple[list[tuple[str, str, Any]], str]] = {
    "n_fft": (
        [("codec", "feature.n_fft", 65_536), ("vocoder", "feature.n_fft", 65_536)],
        "n_fft must be even, 64 to 8192, got 65536",
    ),
    "iterations": (
        [("manifest", "griffin_lim.iterations", 10**9)],
        "iterations must be 1 to 1000, got 1000000000",
    ),
    "hop_length": (
        [("codec", "feature.hop_length", 1), ("vocoder", "feature.hop_length", 1)],
        "hop_length must be 64 to 1024 for sample_rate = 22050 and n_fft = 1024, got 1",
    ),
    "learning_rate": (
        [("codec", "config.optimizer.learning_rate", float("inf"))],
        "optimizer.learning_rate must be above 0 and at most 10, got inf",
    ),
    "max_steps": (
        [("prior", "config.optimizer.max_steps", 10**21)],
        "optimizer.max_steps must be 1 to 10000000, got 1000000000000000000000",
    ),
    "workers": ([("codec", "feature.workers", 100_000)], "workers must be 1 to 256, got 100000"),
    "duration": ([("manifest", "generation.duration_s", 1e12)], "duration_s must be above 0 and at most 3600"),
    "noise_dim": ([("prior", "config.noise_dim", 8192)], "does not fit its config"),
    "condition": ([("manifest", "generation.condition", "x")], "condition of the release must be "),
    "conditions": ([("prior", "conditions", 3)], "conditions of the prior must be a list of names, got 3"),
    "no latents": ([("prior", "mean", 1e38)], "length of the prior's mean must be 8, the codec's latent_dim"),
    "latents": (
        [("prior", "std", lambda v: v[:5])],
        "length of the prior's std must be 8, the codec's latent_",
    ),
}
MISFITS: dict[str, tuple[list[tuple[str, str, Any]], str]] = {
    "rate": (
        [("vocoder", "feature.sample_rate", 44_100)],
        "sample_rate of the vocoder must be 22050, the codec's",
    ),
    "hop": (
        [("vocoder", "feature.hop_length", 512)],
        "hop_length of the vocoder must be 256, the codec's, got 512",
    ),
    "mels": ([("vocoder", "feature.n_mels", 80)], "n_mels of the vocoder must be 40, the codec's, got 80"),
}


def run(folder: Path, command: str, *more: str) -> str:
    """Runs `generate` or `transfer` to its end; returns what it says."""
    sound, out = folder.parent / "sound.wav", folder.parent / "out"
    audio.write_wav(sound, sine(1.0).astype(np.float32), 44_100)
    words = {
        "generate": ["generate", str(folder), "--count", "1", "--seconds", "0.5"],
        "transfer": ["transfer", str(folder), str(sound), "--style-tag", "all"],
    }
    started = time.process_time()
    done = CliRunner().invoke(main, [*words[command], *more, "--device", "cpu", "--out", str(out)])
    assert time.process_time() - started < 20
    assert (done.exit_code == 0) == out.exists()
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output if done.exit_code else ""


@pytest.mark.parametrize("command", ["generate", "transfer"])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_release_that_asks_for_too_much_is_refused_in_one_sentence(
    folder: Path, name: str, command: str
) -> None:
    changes, message = ATTACKS[name]
    for part, path, value in changes:
        change(folder, part, path, value)
    output = run(folder, command)
    assert message in output
    assert len(output.strip().splitlines()) <= 3


@pytest.mark.parametrize("name", MISFITS)
def test_a_vocoder_of_other_features_is_refused_before_a_weight_is_read(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, message = MISFITS[name]
    for part, path, value in changes:
        change(folder, part, path, value)
    # The package exports a function of the module's name.
    module = importlib.import_module("melodygan_core.codec.train")
    monkeypatch.setattr(module, "load_weights", lambda *_: pytest.fail("weights were read"))
    assert message in run(folder, "generate", "--vocoder", "neural")


def test_the_release_itself_works_with_both_commands(folder: Path) -> None:
    assert run(folder, "generate") == ""
    shutil.rmtree(folder.parent / "out")
    assert run(folder, "transfer") == ""


def test_a_sound_too_long_for_the_stft_is_named_before_anything_is_computed() -> None:
    feature = FeatureConfig(sample_rate=96_000, n_fft=8192, hop_length=512, n_mels=8, n_mfcc=2)
    # 20 minutes, without memory of their own.
    content = np.broadcast_to(np.float32(0.1), (2, 1200 * 96_000))
    style = Style(np.zeros(8, np.float32), np.ones(8, np.float32), np.zeros((1, 2)))
    with pytest.raises(
        InputError, match=r"length of `content` in seconds must be at most 349\.\d at sample_rate"
    ):
        transfer_wav(content, style, feature)
    # What the defaults and the larger presets allow stays allowed.
    for rate, n_fft, hop in ((22_050, 1024, 256), (44_100, 2048, 512), (44_100, 4096, 512)):
        large = FeatureConfig(sample_rate=rate, n_fft=n_fft, hop_length=hop)
        check_spectrum_bytes(1200 * rate // hop + 1, large, "a sound")
    import torch

    vocoder = GriffinLim(feature, GriffinLimConfig(iterations=1))
    endless = torch.zeros(1, 8, 1).expand(1, 8, 10_000_000)
    with pytest.raises(InputError, match="length of the sound in seconds must be at most"):
        vocoder(endless)
