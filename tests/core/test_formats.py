"""What docs/formats.md says of tables and checkpoints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from melodygan_core.config.presets import preset
from melodygan_core.config.registry import codec_component
from melodygan_core.features import feature_id
from tests.core.made import FEATURE, SEPARATION, Trained

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"


def test_the_reader_reads_features_and_latents(dense: Trained, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len([line for line in code.splitlines() if line]) <= 10
    (tmp_path / "reader.py").write_text(code.replace("80", str(FEATURE.n_mels)), "utf-8")
    store = dense.store
    table = store.features(feature_id(FEATURE, SEPARATION), "made-00")
    arguments = [str(tmp_path / "reader.py"), str(table), str(store.at(dense.latents.uri))]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    numbers = list(map(int, re.findall(r"\d+", done.stdout)))
    assert numbers[1:3] == [FEATURE.segment_frames, FEATURE.n_mels]
    assert numbers[3:] == [dense.latents.metrics["rows"], 1, dense.latents.metrics["latent_dim"], 9]


@pytest.mark.parametrize("name", ["small"])
def test_the_codec_looks_as_far_ahead_as_the_page_says(name: str) -> None:
    config = preset(name)
    own = config.codecs["temporal"]
    torch.manual_seed(0)
    model = codec_component("temporal").load().model(own, config.features).eval()
    size, middle = own.token_frames, 20
    features = {n: torch.randn(1, 40 * size, config.features.columns[n]) for n in model.columns}
    changed = {n: v.clone() for n, v in features.items()}
    changed[config.features.spectrum][:, middle * size : (middle + 1) * size] += 1

    def reach(first: torch.Tensor, second: torch.Tensor) -> tuple[int, int]:
        moved = (first - second).abs().amax(dim=(0, 2)).nonzero().flatten() - middle
        return int(moved.min()), int(moved.max())

    with torch.no_grad():
        latents, moved = model.encode(features), model.encode(changed)
        assert reach(latents, moved) == (-6, 6) == (-own.reach, own.reach)
        assert reach(model.decode_targets(latents), model.decode_targets(moved)) == (-12, 12)
    assert 1 / model.latent_rate == pytest.approx(0.093, abs=0.001)
