from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from melodygan_core.checkpoint import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    WEIGHTS_FILE,
    blaming,
    load_config,
    load_weights,
    save_weights,
)
from melodygan_core.errors import InputError


def model(seed: int, width: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(tmp_path, {"a": model(0), "b": model(1)}, {"family": "dense", "step": 7})
    return tmp_path


def test_weights_and_config_come_back(folder: Path) -> None:
    fresh = {"a": model(2), "b": model(3)}
    load_weights(folder, fresh)
    for name, seed in (("a", 0), ("b", 1)):
        for key, value in model(seed).state_dict().items():
            assert torch.equal(fresh[name].state_dict()[key], value)
    assert load_config(folder, "family", "step") == {"family": "dense", "step": 7}


def test_the_same_weights_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    save_weights(again, {"a": model(0), "b": model(1)}, {"family": "dense", "step": 7})
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


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


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"family": "dense"}', "{" + " " * MAX_CONFIG_BYTES + "}"])
def test_a_damaged_config_names_the_file(folder: Path, content: str) -> None:
    (folder / CONFIG_FILE).write_text(content, "utf-8")
    with pytest.raises(InputError, match=r"config\.json"):
        load_config(folder, "family", "step")


def test_a_folder_without_files_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no checkpoint: it has no {CONFIG_FILE}"):
        load_config(tmp_path)
    with pytest.raises(InputError, match=f"no checkpoint: it has no {WEIGHTS_FILE}"):
        load_weights(tmp_path, {})


def test_wrong_values_are_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: .*'x'"), blaming(tmp_path):
        float(json.loads('"x"'))
