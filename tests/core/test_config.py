from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from melodygan_core.codec import DenseAutoencoder, TemporalAutoencoder
from melodygan_core.config import (
    DenseAutoencoderConfig,
    DenseGanConfig,
    EvaluationConfig,
    FeatureConfig,
    GenerationConfig,
    OptimizerConfig,
    SeparationConfig,
    config_id,
    from_dict,
    to_dict,
)
from melodygan_core.config.presets import PRESETS, Preset, configured, preset
from melodygan_core.errors import InputError
from melodygan_core.prior.gan import temporal
from melodygan_core.prior.gan.dense import Discriminator, Generator
from melodygan_core.vocoder import NeuralVocoder

STAGES = [f.name for f in dataclasses.fields(Preset)]


def changed(value: Any) -> Iterator[tuple[str, Any]]:
    """Every config that differs from `value` in one field, at any depth."""
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        if dataclasses.is_dataclass(old):
            for path, new in changed(old):
                yield f"{field.name}.{path}", dataclasses.replace(value, **{field.name: new})
            continue
        other = {
            "stems": ("vocals",),
            "loss": "non_saturating",
            "condition": "tag",
            "hidden_sizes": (16, 4),
            "n_fft": 4096,
            "parameters": (("overlap", 0.5),),
            "allowed_roots": ("/music",),
            "loudness_lufs": -20.0,
            "momentum": 0.5,
            "vocoder": "griffin_lim",
            "kernel": 9,
            "windows_s": (2.0,),
            "patch_tokens": 128,
        }
        if field.name in other:
            new = other[field.name]
        elif isinstance(old, bool):
            new = not old
        elif isinstance(old, str):
            new = old + "x"
        elif isinstance(old, float) and 0 <= old < 1:
            new = old / 2 + 0.01
        else:
            new = old + 1
        yield field.name, dataclasses.replace(value, **{field.name: new})


@pytest.mark.parametrize("name", PRESETS)
def test_every_config_comes_back_from_its_dict(name: str) -> None:
    made = preset(name)
    assert from_dict(Preset, to_dict(made)) == made
    for stage in STAGES:
        part = getattr(made, stage)
        again = from_dict(type(part), to_dict(part))
        assert again == part
        assert config_id(again) == config_id(part)


def test_an_id_changes_with_every_field() -> None:
    ids = {path: config_id(new) for path, new in changed(Preset())}
    assert len(ids) > 50
    assert len({config_id(Preset()), *ids.values()}) == len(ids) + 1


def test_an_id_is_the_same_in_another_process() -> None:
    code = (
        "from melodygan_core.config import config_id; from melodygan_core.config.presets import PRESETS; "
        "print(config_id(PRESETS['large'], 'v', 1))"
    )
    for seed in ("1", "2"):
        env = {"PYTHONHASHSEED": seed}
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert told.stdout.strip() == config_id(PRESETS["large"], "v", 1)


def test_ids_of_results_ignore_where_they_are_made() -> None:
    feature, separation = FeatureConfig(), SeparationConfig()
    assert dataclasses.replace(feature, workers=7).spectral_id == feature.spectral_id
    for path, new in changed(feature):
        assert (new.spectral_id == feature.spectral_id) == (path == "workers"), path
    for path, new in changed(separation):
        assert (new.model_id == separation.model_id) == (path in ("model_dir", "device")), path
    assert SeparationConfig(model="../../x/y.onnx").model_id.replace("-", "").isalnum()


@pytest.mark.parametrize(
    ("cls", "values", "named", "allowed"),
    [
        (FeatureConfig, {"n_fft": 1023}, "n_fft is 1023", "even"),
        (FeatureConfig, {"hop": 1}, "FeatureConfig is ['hop']", "hop_length"),
        (FeatureConfig, {"log_floor": 0.0}, "log_floor is 0.0", "above 0"),
        (FeatureConfig, {"n_mels": "80"}, "n_mels is '80'", "int"),
        (FeatureConfig, {"n_mels": 80.0}, "n_mels is 80.0", "int"),
        (FeatureConfig, {"n_mels": True}, "n_mels is True", "int"),
        (OptimizerConfig, {"learning_rate": float("nan")}, "learning_rate is nan", "above 0"),
        (OptimizerConfig, {"clip_norm": 0.0}, "clip_norm is 0.0", "above 0"),
        (DenseAutoencoderConfig, {"stems": ["drums"]}, "('drums',)", "vocals"),
        (DenseAutoencoderConfig, {"stems": "mix"}, "stems is 'mix'", "a list"),
        (DenseAutoencoderConfig, {"hidden_sizes": 5}, "hidden_sizes is 5", "a list"),
        (DenseAutoencoderConfig, {"hidden_sizes": []}, "hidden_sizes is ()", "positive"),
        (DenseAutoencoderConfig, {"dropout": 1.0}, "dropout is 1.0", "below 1"),
        (DenseAutoencoderConfig, {"optimizer": 3}, "optimizer is 3", "OptimizerConfig"),
        (DenseAutoencoderConfig, {"optimizer": {"max_steps": 0}}, "max_steps is 0", "at least 1"),
        (DenseGanConfig, {"loss": "wasserstein"}, "'wasserstein'", "hinge, non_saturating"),
        (DenseGanConfig, {"r1_every": 0}, "r1_every is 0", "at least 1"),
        (GenerationConfig, {"truncation": 0.1}, "truncation is 0.1", "0.5 and more"),
        (GenerationConfig, {"duration_s": 1e9}, "duration_s", "at most 3600"),
        (EvaluationConfig, {"max_windows": 0}, "max_windows is 0", "at least 3"),
        (SeparationConfig, {"parameters": [["overlap", 0.5, 1]]}, "parameters", "2 values"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(cls: type, values: Any, named: str, allowed: str) -> None:
    with pytest.raises(InputError) as raised:
        from_dict(cls, values)
    assert named in str(raised.value)
    assert allowed in str(raised.value)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="'huge'; allowed: demo, small, base, large"):
        preset("huge")


def test_json_may_spell_a_float_as_an_integer() -> None:
    made = from_dict(GenerationConfig, {"duration_s": 10, "loudness_lufs": -18})
    assert config_id(made) == config_id(GenerationConfig())


def test_derived_units() -> None:
    feature = FeatureConfig(sample_rate=1000, n_fft=64, hop_length=10, segment_frames=50)
    assert feature.frame_rate == 100.0
    assert feature.segment_s == 0.5
    assert DenseAutoencoderConfig(hidden_sizes=(9, 5)).latent_dim == 5


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_takes_one_batch(name: str) -> None:
    made = preset(name)
    ae, gan = made.dense.autoencoder, made.dense.gan
    torch.manual_seed(0)
    model = DenseAutoencoder(ae, made.features)
    assert made.features.segment_frames % ae.time_bins == 0
    vector = torch.randn(2, model.vector_dim)
    latents = model.encode(vector)
    loss = F.mse_loss(model.decode(latents), vector)
    loss.backward()
    norms = [float(p.grad.norm()) for p in model.parameters() if p.grad is not None]
    assert len(norms) == len(list(model.parameters()))
    assert latents.shape == (2, ae.latent_dim)
    assert all(torch.isfinite(torch.tensor(norms)))
    generator, discriminator = (kind(gan, ae.latent_dim, 2) for kind in (Generator, Discriminator))
    condition = torch.tensor([0, 1])
    logits = discriminator(generator(torch.randn(2, gan.noise_dim), condition), condition)
    logits.sum().backward()
    assert logits.shape == (2,)
    assert generator.head.weight.grad is not None
    assert float(generator.head.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_s_sequence_models_and_vocoder_take_one_batch(name: str) -> None:
    made = preset(name)
    ae, gan, feature = made.temporal.autoencoder, made.temporal.gan, made.features
    # Segments are whole tokens, and pieces whole patches.
    assert feature.segment_frames % ae.token_frames == 0
    torch.manual_seed(0)
    model, vocoder = TemporalAutoencoder(ae, feature), NeuralVocoder(made.vocoder, feature)
    generator, discriminator = (
        temporal.Generator(gan, ae.latent_dim, 2),
        temporal.Discriminator(gan, ae.latent_dim, 2),
    )
    condition = torch.tensor([0, 1])
    latents = generator(torch.randn(2, gan.patch_tokens + 2 * gan.margin, gan.noise_dim), condition)
    logits = discriminator(torch.cat([latents, latents], dim=1), condition)
    log_mel = torch.randn(2, 16, feature.n_mels)
    wav = vocoder((log_mel + model(log_mel[:, : 2 * ae.token_frames])).transpose(1, 2))
    (logits.sum() + wav.square().sum()).backward()
    assert wav.shape == (2, 15 * feature.hop_length)
    for part in (model, vocoder, generator, discriminator):
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        assert grads and all(bool(g.isfinite().all()) for g in grads)


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("dense: {gan: {condition: tag}}\nseparation: {parameters: [[overlap, 0.5]]}\n", "utf-8")
    base, made = preset("small"), configured("small", file)
    assert made.dense.gan == replace(base.dense.gan, condition="tag")
    assert made.separation.parameters == (("overlap", 0.5),)
    assert (made.dense.autoencoder, made.features) == (base.dense.autoencoder, base.features)
    assert configured("small", None) == base


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dense: {gann: {}}", r"gann.*allowed: autoencoder, gan"),
        ("download: {attempts: 0}", r"attempts is 0; allowed: 1 to 20"),
        ("[1, 2]", r"allowed: a mapping"),
        ("a: &x [1]\nb: *x", r"line 2: an alias; allowed"),
        ("download: {attempts: 1}\ndownload: {workers: 1}", r"line 2: 'download' for the second time"),
        ("download: !!python/name:os.system x", r"line 1: a tag"),
        ("[" * 3000, r"line 1: nested 9 deep; allowed: 8"),
        ("download: {timeout_s: .nan}", r"config\.yaml: timeout_s is nan; allowed: 1 to 86400"),
        ("download: {max_duration_s: .inf}", r"max_duration_s is inf; allowed"),
        ("download: {attempts: 0x_}", r"not valid YAML: a number or date"),
        ("download: {attempts: 2001-13-45}", r"not valid YAML: a number or date"),
        ("1: 2\nx: 3", r"\[1, 'x'\]; allowed: catalogue"),
        ("#" * 1_000_001, r"1000001 bytes; allowed: 1000000"),
        ("a: [", r"line 1: not valid YAML"),
    ],
)
def test_a_wrong_file_says_what_is_allowed(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=says):
        configured("small", file)
