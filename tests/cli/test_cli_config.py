"""`melodygan config`: what it prints is read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from melodygan_core.cli import main
from melodygan_core.cli.config import as_yaml
from melodygan_core.config import Config, from_dict, replace
from melodygan_core.config.config import json_schema
from melodygan_core.config.presets import load, preset


def run(*arguments: str, **variables: str) -> Result:
    blank = dict.fromkeys(("MELODYGAN_PRESET", "MELODYGAN_CONFIG", "MELODYGAN_PIPELINES"), "")
    return CliRunner().invoke(main, ("config", *arguments), env={**blank, **variables})


@pytest.mark.parametrize("name", ["demo", "small", "base", "large"])
def test_yaml_is_the_config_and_is_read_back(name: str, tmp_path: Path) -> None:
    result = run("show", "--preset", name)
    assert result.exit_code == 0, result.output
    file = tmp_path / "shown.yaml"
    file.write_text(result.output, "utf-8")
    assert load("small", file) == preset(name)


def test_yaml_has_the_description_and_bounds_of_every_field() -> None:
    lines = as_yaml(Config()).splitlines()
    place = lines.index("  n_fft: 4096")
    assert lines[place - 1] == (
        "  # STFT size, in samples; the Hann window has the same length. Allowed: even, 64 to 8192."
    )
    keys = [k for k, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    priors, pipelines = {"gan", "flow", "plan"}, {"dense_gan", "temporal_gan", "temporal_flow", "temporal_plan"}
    rows = {"dense", "temporal", *priors, *pipelines}
    bare = [lines[k] for k in keys if not lines[k - 1].lstrip().startswith("# ")]
    assert {line.strip().rstrip(":") for line in bare} == rows


def test_a_text_with_quotes_and_newlines_is_read_back(tmp_path: Path) -> None:
    odd = replace(
        Config(), generation=replace(Config().generation, condition='a: "b"\n# ü\t\u2028 é\x85 1e-4 \U0001f3b5')
    )
    file = tmp_path / "odd.yaml"
    file.write_text(as_yaml(odd), "utf-8")
    assert load("small", file) == odd


def test_json_is_the_config_with_the_file_over_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("vocoder: {width: 64}", "utf-8")
    result = run("show", "--preset", "demo", "--config", str(file), "--format", "json")
    assert from_dict(Config, json.loads(result.output)) == load("demo", file)
    again = run("show", "--format", "json", MELODYGAN_PRESET="demo", MELODYGAN_CONFIG=str(file))
    assert again.output == result.output


def test_pipelines_of_the_environment_are_shown() -> None:
    result = run("show", "--format", "json", MELODYGAN_PIPELINES="dense_gan")
    assert json.loads(result.output)["train"] == ["dense_gan"]


def test_a_wrong_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("vocoder: {kernel: 4}", "utf-8")
    result = run("show", "--config", str(file))
    assert result.exit_code == 2
    assert result.output == "Error: config.yaml: vocoder.kernel must be odd, 1 to 255, got 4\n"


def test_the_schema_is_json() -> None:
    assert json.loads(run("schema").output) == json_schema()
    assert yaml.safe_load(as_yaml(Config())).keys() == json_schema()["properties"].keys()
