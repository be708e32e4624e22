"""Published checkpoints: weights and config come back, and damaged or hostile files are refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from melodygan_core import codec, prior, vocoder
from melodygan_core.codec.dense import DenseCodec
from melodygan_core.config import (
    DenseCodecConfig,
    DenseGanConfig,
    FeatureConfig,
    VocoderConfig,
    config_id,
    to_dict,
)
from melodygan_core.errors import InputError
from melodygan_core.prior.gan.dense import Generator
from melodygan_core.training.checkpoint import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    WEIGHTS_FILE,
    config_errors,
    load_config,
    load_weights,
    save_weights,
)


def model(seed: int, width: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(tmp_path, {"a": model(0), "b": model(1)}, {"codec": "dense", "step": 7})
    return tmp_path


def test_weights_and_config_come_back(folder: Path) -> None:
    fresh = {"a": model(2), "b": model(3)}
    load_weights(folder, fresh)
    for name, seed in (("a", 0), ("b", 1)):
        for key, value in model(seed).state_dict().items():
            assert torch.equal(fresh[name].state_dict()[key], value)
    assert load_config(folder, "codec", "step") == {"codec": "dense", "step": 7}


def test_the_same_weights_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    save_weights(again, {"a": model(0), "b": model(1)}, {"codec": "dense", "step": 7})
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_the_file_says_what_it_holds(tmp_path: Path) -> None:
    config = {"codec": "dense", "step": 7}
    contents = set()
    for _ in range(8):
        save_weights(tmp_path, {"a": model(0)}, config, "codec/dense")
        contents.add((tmp_path / WEIGHTS_FILE).read_bytes())
    assert len(contents) == 1, "safetensors writes its metadata in any order"
    with safe_open(tmp_path / WEIGHTS_FILE, "pt") as file:
        assert file.metadata() == {"format": "pt", "kind": "codec/dense", "config_id": config_id(config)}
        assert set(file.keys()) == {f"a.{name}" for name in model(0).state_dict()}


def test_a_module_without_a_name_is_saved_whole(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.body = model(seed)
            self.scale = nn.Parameter(torch.full((2,), float(seed)))
            self.register_buffer("count", torch.tensor(seed))
            self.register_buffer("scratch", torch.zeros(1), persistent=False)

    save_weights(tmp_path, {"": Scaled(7)}, {})
    fresh = Scaled(2)
    load_weights(tmp_path, {"": fresh})
    assert fresh.state_dict().keys() == Scaled(7).state_dict().keys()
    assert all(torch.equal(value, Scaled(7).state_dict()[key]) for key, value in fresh.state_dict().items())
    # Nothing of the file is left over, as in a checkpoint of another model.
    with pytest.raises(InputError, match="does not fit its config"):
        load_weights(tmp_path, {"": fresh.body})


def test_weights_that_share_memory_are_saved_twice(tmp_path: Path) -> None:
    one, two, fresh = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    two.weight = one.weight
    save_weights(tmp_path, {"one": one, "two": two}, {})
    load_weights(tmp_path, {"two": fresh})
    assert torch.equal(fresh.weight, one.weight)


class _Boom:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('ran code')",))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 100, pickle.dumps(_Boom()), b"\xff" * 8 + b"{}"],
    ids=["empty", "zeros", "pickle", "huge"],
)
def test_damaged_weights_name_the_file_and_run_nothing(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(InputError, match=WEIGHTS_FILE):
        load_weights(folder, {"a": model(0)})


def test_a_truncated_file_is_damaged(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=WEIGHTS_FILE):
        load_weights(folder, {"a": model(0)})


def test_other_shapes_and_missing_modules_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="does not fit its config"):
        load_weights(folder, {"a": model(0, width=5)})
    with pytest.raises(InputError, match="does not fit its config"):
        load_weights(folder, {"c": model(0)})


def test_values_that_are_not_finite_or_of_another_type_are_refused(folder: Path) -> None:
    infinite = model(0)
    next(infinite.parameters()).data[0, 0] = torch.nan
    for broken, message in (
        (infinite, "0.weight must be finite, got NaN"),
        (model(0).double(), "must be torch.float32, got torch.float64"),
    ):
        save_weights(folder, {"a": broken}, {})
        with pytest.raises(InputError, match=message):
            load_weights(folder, {"a": model(1)})


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "secret.txt", "nowhere"])
def test_a_link_out_of_the_folder_reveals_nothing_of_its_target(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, target: str
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_text("password: hunter2\n")
    for name, load in (
        (CONFIG_FILE, lambda: load_config(folder)),
        (WEIGHTS_FILE, lambda: load_weights(folder, {"a": model(0)})),
    ):
        (folder / name).unlink()
        (folder / name).symlink_to(outside / target)
        with pytest.raises(InputError, match=name) as caught:
            load()
        assert "hunter2" not in str(caught.value)


def test_names_in_a_file_of_weights_are_no_paths(folder: Path) -> None:
    save_file({"../../etc/x": torch.zeros(2), "a./etc/passwd": torch.zeros(2)}, folder / WEIGHTS_FILE)
    before = sorted(p.name for p in folder.parent.iterdir())
    with pytest.raises(InputError, match="does not fit its config"):
        load_weights(folder, {"a": model(0)})
    assert sorted(p.name for p in folder.parent.iterdir()) == before


WIDEST = [32_768] * 31 + [4]  # The largest that a config allows: 130 GB of weights.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"config": {"hidden_sizes": WIDEST}}, "does not fit its config"),
        ({"config": {"hidden_sizes": [10**18, 4]}}, r"hidden_sizes\[0\] must be .*got 1000000000000000000"),
        ({"config": {"hidden_sizes": [10**30, 4]}}, r"hidden_sizes\[0\] must be"),
        ({"config": {"time_bins": 4096}}, "does not fit its config"),
        ({"config": {"time_bins": 10**12}}, "time_bins must be .*got 1000000000000"),
        ({"feature": {"sample_rate": 10**12}}, "sample_rate must be .*96000, got 1000000000000"),
        ({"feature": {"segment_frames": 10**12}}, "segment_frames must be .*got 1000000000000"),
        ({"config": []}, CONFIG_FILE),
        ({"feature": 3}, CONFIG_FILE),
        ({"codec": "other"}, "codec must be dense, temporal.*got 'other'"),
        ({"codec": "temporal"}, CONFIG_FILE),
    ],
)
def test_a_codec_config_of_huge_layers_allocates_nothing(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    config, feature = (
        DenseCodecConfig(hidden_sizes=(8, 4), time_bins=2),
        FeatureConfig(bands="mel", n_mels=8, n_mfcc=4),
    )
    right: dict[str, Any] = {"codec": "dense", "config": to_dict(config), "feature": to_dict(feature)}
    save_weights(tmp_path, {"model": DenseCodec(config, feature)}, right)
    codec.load(tmp_path)
    changed = {k: {**right[k], **v} if isinstance(v, dict) else v for k, v in wrong.items()}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(right | changed), "utf-8")
    with pytest.raises(InputError, match=message):
        codec.load(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 8192, "blocks": 32}, "does not fit its config"),
        ({"width": 10**18}, "width must be .*8192, got 1000000000000000000"),
        ({"blocks": 10**9}, "blocks must be .*1 to 32, got 1000000000"),
    ],
)
def test_a_vocoder_config_of_huge_layers_allocates_nothing(
    tmp_path: Path, wrong: dict[str, int], message: str
) -> None:
    config, feature = (
        VocoderConfig(width=4, blocks=1),
        FeatureConfig(sample_rate=22_050, n_fft=64, hop_length=16, bands="mel", n_mels=4, n_mfcc=2),
    )
    right = {"config": to_dict(config), "feature": to_dict(feature)}
    save_weights(tmp_path, {"model": vocoder.NeuralVocoder(config, feature)}, right)
    vocoder.load(tmp_path)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(right | {"config": {**right["config"], **wrong}}), "utf-8")
    with pytest.raises(InputError, match=message):
        vocoder.load(tmp_path)


@pytest.fixture
def prior_folder(tmp_path: Path) -> Path:
    """A checkpoint of a small prior."""
    config = DenseGanConfig(noise_dim=4, hidden_size=4, layers=2)
    stored = {"codec": "dense", "prior": "gan", "config": to_dict(config), "conditions": []}
    stored |= {"mean": [0.0] * 4, "std": [1.0] * 4}
    save_weights(tmp_path, {"generator": Generator(config, 4, 0)}, stored)
    prior.load(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": [float("nan")] * 4},
        {"std": [1.0] * 3},
        {"std": [-1.0] * 4},
        {"std": [0.0] * 4},
        {"mean": 5},
        {"mean": "abc"},
    ],
)
def test_statistics_of_a_prior_are_finite_and_fit(prior_folder: Path, wrong: dict[str, Any]) -> None:
    path = prior_folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | wrong), "utf-8")
    with pytest.raises(InputError, match=CONFIG_FILE):
        prior.load(prior_folder)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_size": 32_768, "layers": 32}, "does not fit its config"),
        ({"hidden_size": 10**12}, "hidden_size must be .*32768, got 1000000000000"),
    ],
)
def test_a_prior_config_of_huge_layers_allocates_nothing(
    prior_folder: Path, wrong: dict[str, int], message: str
) -> None:
    path = prior_folder / CONFIG_FILE
    stored = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(stored | {"config": stored["config"] | wrong}), "utf-8")
    with pytest.raises(InputError, match=message):
        prior.load(prior_folder)


@pytest.mark.parametrize(
    "content", ["[" * 1_000_000, "", "[1]", "{", '{"codec": "dense"}', "{" + " " * MAX_CONFIG_BYTES + "}"]
)
def test_a_damaged_config_names_the_file(folder: Path, content: str) -> None:
    (folder / CONFIG_FILE).write_text(content, "utf-8")
    with pytest.raises(InputError, match=r"config\.json"):
        load_config(folder, "codec", "step")


def test_a_folder_without_files_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no checkpoint: it has no {CONFIG_FILE}"):
        load_config(tmp_path)
    with pytest.raises(InputError, match=f"no checkpoint: it has no {WEIGHTS_FILE}"):
        load_weights(tmp_path, {})


def test_errors_of_wrong_values_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: .*'x'"), config_errors(tmp_path):
        float(json.loads('"x"'))
