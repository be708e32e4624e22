"""Configs: round trips, immutability and ids."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.config import (
    Config,
    ConfigModel,
    DenseCodecConfig,
    FeatureConfig,
    GenerationConfig,
    PipelineConfig,
    SeparationConfig,
    TemporalCodecConfig,
    TemporalGanConfig,
    config_id,
    feature_id,
    from_dict,
    replace,
    to_dict,
    training_id,
)
from melodygan_core.config.presets import PRESETS, preset
from melodygan_core.dataset.index import dataset_id

ROOT = Path(__file__).parents[2]
# separation.model_id, features.spectral_id, feature_id and dataset_id of existing stores.
DATA_IDS = {
    "demo": ("centre-fe61a3", "631c9e714236", "df38ca42f751", "3445b0055ad0"),
    "small": ("UVR-MDX-NET-Inst-HQ-3-92d303", "631c9e714236", "9de2b7012cd5", "a9b0b0a35644"),
    "base": ("UVR-MDX-NET-Inst-HQ-3-92d303", "c03f76b54fd3", "880afc4ff4f3", "70c60ab24dcc"),
    "large": ("UVR-MDX-NET-Inst-HQ-3-92d303", "c03f76b54fd3", "880afc4ff4f3", "70c60ab24dcc"),
}
_SMALL = {"sample_rate": 22_050, "n_fft": 1024, "hop_length": 256, "bands": "mel", "channels": 1}
_LARGE = {
    "sample_rate": 44_100,
    "n_fft": 2048,
    "hop_length": 512,
    "bands": "mel",
    "channels": 1,
    "n_mels": 128,
}
# The features of the presets in version 0.1.
OLD_FEATURES = {"demo": _SMALL, "small": _SMALL, "base": _LARGE, "large": _LARGE}
STAGES = [name for name, value in Config() if isinstance(value, ConfigModel)]
OTHER_VALUES = {
    "stems": ("vocals",),
    "loss": "non_saturating",
    "condition": "tag",
    "hidden_sizes": (16, 4),
    "n_fft": 8192,
    "bands": "mel",
    "channels": 1,
    "parameters": (("overlap", 0.5),),
    "allowed_roots": ("/music",),
    "kernel": 9,
    "windows_s": (2.0,),
    "patch_tokens": 128,
    "window_tokens": 64,
    "inner_width": 768,
    "heads": 8,
    "select": "kad",
    "device": "cpu",
    "train": ("dense_gan",),
    "start_parts": ("vocoder",),
}


def one_field_changed(config: ConfigModel) -> Iterator[tuple[str, Any]]:
    """(path, config) of every config that differs from `config` in one field, at any depth."""
    for name, old in config:
        if isinstance(old, ConfigModel):
            for path, new in one_field_changed(old):
                yield f"{name}.{path}", replace(config, **{name: new})
        elif isinstance(old, dict):
            for path, new in one_row_changed(old):
                yield f"{name}.{path}", replace(config, **{name: new})
        else:
            yield name, replace(config, **{name: other_value(name, old)})


def one_row_changed(table: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, row in table.items():
        if isinstance(row, PipelineConfig):
            yield f"{key}.vocoder", {**table, key: replace(row, vocoder="griffin_lim")}
            continue
        rows = one_field_changed(row) if isinstance(row, ConfigModel) else one_row_changed(row)
        for path, new in rows:
            yield f"{key}.{path}", {**table, key: new}


def other_value(name: str, old: Any) -> Any:
    if name in OTHER_VALUES and OTHER_VALUES[name] != old:
        return OTHER_VALUES[name]
    if isinstance(old, bool):
        return not old
    if isinstance(old, str):
        return old + "x"
    return old / 2 + 0.01 if isinstance(old, float) and 0 <= old < 1 else old + 1


@pytest.mark.parametrize("name", DATA_IDS)
def test_every_config_comes_back_from_its_dict(name: str) -> None:
    made = preset(name)
    plain = json.loads(json.dumps(to_dict(made)))
    assert from_dict(Config, plain) == made
    for stage in STAGES:
        part = getattr(made, stage)
        again = from_dict(type(part), to_dict(part))
        assert again == part
        assert config_id(again) == config_id(part)


@pytest.mark.parametrize("name", DATA_IDS)
def test_configs_are_hashable_and_come_back_from_a_pickle(name: str) -> None:
    made = preset(name)
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert hash(again) == hash(made) == hash(from_dict(Config, to_dict(made)))
    assert len({made, again, replace(made, train=("dense_gan",))}) == 2


def test_configs_do_not_change() -> None:
    made = Config()
    with pytest.raises(ValueError, match="frozen"):
        made.features.n_fft = 64  # type: ignore[misc]
    for change in (lambda: made.codecs.update({}), lambda: made.pipelines.pop("dense_gan")):  # type: ignore
        with pytest.raises(TypeError, match="does not change"):
            change()
    assert made == Config()


def test_an_id_changes_with_every_field() -> None:
    ids = {path: config_id(new) for path, new in one_field_changed(Config())}
    assert len(ids) > 120
    assert {"codecs.temporal.optimizer.seed", "priors.dense.gan.loss", "pipelines.dense_gan.vocoder"} <= set(
        ids
    )
    assert len({config_id(Config()), *ids.values()}) == len(ids) + 1


def test_an_id_is_the_same_in_another_process() -> None:
    code = (
        "from melodygan_core.config import config_id; from melodygan_core.config.presets import PRESETS; "
        "print(config_id(PRESETS['large'], 'v', 1))"
    )
    for seed in ("1", "2"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert done.stdout.strip() == config_id(PRESETS["large"], "v", 1)


@pytest.mark.parametrize("name", DATA_IDS)
def test_ids_of_data_in_existing_stores_stay(name: str) -> None:
    separation, features = preset(name).separation, from_dict(FeatureConfig, OLD_FEATURES[name])
    ids = (
        separation.model_id,
        features.spectral_id,
        feature_id(features, separation),
        dataset_id(features, separation),
    )
    assert ids == DATA_IDS[name]


def test_ids_of_results_ignore_where_they_are_made() -> None:
    feature, separation, codec = FeatureConfig(), SeparationConfig(), DenseCodecConfig()
    for path, new in one_field_changed(feature):
        assert (new.spectral_id == feature.spectral_id) == (path == "workers"), path
    for path, new in one_field_changed(separation):
        assert (new.model_id == separation.model_id) == (path in ("model_dir", "device")), path
    for path, new in one_field_changed(codec):
        same = path in ("optimizer.device", "optimizer.checkpoint_every_s")
        assert (training_id(new) == training_id(codec)) == same, path
    assert SeparationConfig(model="../../x/y.onnx").model_id.replace("-", "").isalnum()


def test_json_may_spell_a_float_as_an_integer() -> None:
    made = from_dict(GenerationConfig, {"duration_s": 10, "loudness_lufs": -18})
    assert config_id(made) == config_id(GenerationConfig(duration_s=10)) == config_id(GenerationConfig())


def test_derived_units() -> None:
    feature = FeatureConfig(sample_rate=8000, n_fft=512, hop_length=80, bands="mel", segment_frames=50)
    assert feature.frame_rate == 100.0
    assert feature.segment_s == 0.5
    assert DenseCodecConfig(hidden_sizes=(9, 5)).latent_dim == 5
    assert TemporalCodecConfig(blocks=3, kernel=5).reach == 6
    assert TemporalGanConfig(patch_tokens=32).margin == 8


def test_importing_config_and_settings_loads_no_heavy_module() -> None:
    code = (
        "import sys; import melodygan_core.settings, melodygan_core.cli.config; "
        "print(sorted({'torch', 'numpy', 'pandas', 'pyarrow', 'dagster'} & set(sys.modules)))"
    )
    env = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"
