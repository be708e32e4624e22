"""Environment variables: how they are read, and that only one module reads them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from melodygan_core.config.presets import load, preset
from melodygan_core.errors import InputError
from melodygan_core.settings import EnvironmentSettings, dagster_home, environment, variable

ROOT = Path(__file__).parents[2]
# (file, function) of those that make a child process's environment from this process's own.
CHILD_ENVIRONMENTS = {
    ("melodygan_core/sandbox/net.py", "_environment"),
    ("melodygan_core/sandbox/ffmpeg.py", "on_path"),
}
READERS = {"environ", "environb", "getenv", "getenvb", "EnvVar"}


def environment_reads(place: str, code: str) -> list[str]:
    """`file:line: code` of every read of the environment in a Python file; writes are not reads."""
    tree = ast.parse(code)
    written: set[int] = set()
    functions: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.BitOr):
            written.add(id(node.target))
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            written.add(id(node.value))
        if isinstance(node, ast.FunctionDef):
            functions |= {id(inner): node.name for inner in ast.walk(node)}
    lines = code.splitlines()
    reads = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            named = node.attr in READERS
        elif isinstance(node, ast.ImportFrom):
            named = any(name.name in READERS for name in node.names)
        else:
            continue
        for_child = (place, functions.get(id(node))) in CHILD_ENVIRONMENTS
        if named and not for_child and id(node) not in written:
            reads.append(f"{place}:{node.lineno}: {lines[node.lineno - 1].strip()}")
    return reads


def python_files() -> dict[str, str]:
    """Path below the root to code, of both packages."""
    packages = [ROOT / "melodygan_core", ROOT / "melodygan_dagster"]
    files = sorted(f for package in packages for f in package.rglob("*.py"))
    return {f.relative_to(ROOT).as_posix(): f.read_text("utf-8") for f in files}


def test_only_the_settings_module_reads_the_environment() -> None:
    reads = {place: environment_reads(place, code) for place, code in python_files().items()}
    assert reads.pop("melodygan_core/settings.py") != []
    assert [read for found in reads.values() for read in found] == []


@pytest.mark.parametrize(
    ("code", "reads"),
    [
        ("import os\nos.environ['A']", 1),
        ("import os\nos.environ.get('A')", 1),
        ("import os\nx = dict(os.environ)", 1),
        ("import os\nos.getenv('A')", 1),
        ("import dagster as dg\ndg.EnvVar('A')", 1),
        ("from os import environ", 1),
        ("import os\nos.environ['A'] = '1'\nos.environ |= {}\ndel os.environ['A']", 0),
    ],
)
def test_reads_of_the_environment_are_found(code: str, reads: int) -> None:
    assert len(environment_reads("a.py", code)) == reads


def test_every_variable_that_the_code_names_is_declared() -> None:
    declared = {variable(name) for name in EnvironmentSettings.model_fields}
    named = {n for code in python_files().values() for n in re.findall(r"MELODYGAN_[A-Z_]*[A-Z]", code)}
    assert named - declared == set()
    assert {"MELODYGAN_STORE", "MELODYGAN_PIPELINES", "MELODYGAN_TICK_S"} <= declared


def test_an_empty_environment_is_the_defaults() -> None:
    assert environment({}) == EnvironmentSettings()
    assert (
        environment({variable(name): "" for name in EnvironmentSettings.model_fields}) == EnvironmentSettings()
    )


def test_variables_are_read_by_their_type() -> None:
    made = environment(
        {
            "MELODYGAN_STORE": "s3://bucket/prefix",
            "MELODYGAN_PIPELINES": "dense_gan, temporal_gan,",
            "MELODYGAN_ALLOW_PRIVATE": "1",
            "MELODYGAN_TRAIN_ON_UNKNOWN": "False",
            "MELODYGAN_RETRAIN_AFTER": "0",
            "MELODYGAN_TICK_S": "5",
        }
    )
    assert made == EnvironmentSettings(
        store="s3://bucket/prefix",
        pipelines=("dense_gan", "temporal_gan"),
        allow_private=True,
        retrain_after=0,
        tick_s=5,
    )


def test_the_process_s_environment_is_read_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELODYGAN_SOURCES", "a.yaml")
    assert environment().sources == "a.yaml"
    monkeypatch.setenv("MELODYGAN_SOURCES", "b.yaml")
    assert environment().sources == "b.yaml"
    monkeypatch.setenv("DAGSTER_HOME", "/home/x")
    assert dagster_home() == "/home/x"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MELODYGAN_RETRAIN_AFTER", "ten", "an integer, 0 to 1000000000, got 'ten'"),
        ("MELODYGAN_RETRAIN_AFTER", "-1", "0 to 1000000000, got -1"),
        ("MELODYGAN_RETRAIN_AFTER", "1e3", "an integer, 0 to 1000000000, got '1e3'"),
        ("MELODYGAN_RETRAIN_AFTER", "9" * 5000, "an integer, 0 to 1000000000, got '999"),
        ("MELODYGAN_TICK_S", "0", "1 to 86400, got 0"),
        ("MELODYGAN_ALLOW_PRIVATE", "2", "1, true, yes or on, or 0, false, no or off, got '2'"),
        ("MELODYGAN_TRAIN_ON_UNKNOWN", "maybe", "1, true, yes or on, or 0, false, no or off, got 'maybe'"),
    ],
)
def test_a_bad_variable_is_named_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    with pytest.raises(InputError) as raised:
        environment({name: value})
    assert str(raised.value).startswith(f"{name} must be {allowed}")


def test_the_config_is_the_preset_s_with_the_file_and_pipelines_over_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("pipelines: {plain: {codec: dense, prior: gan, vocoder: griffin_lim}}", "utf-8")
    assert environment({}).load_config() == preset("small")
    variables = {"MELODYGAN_PRESET": "demo", "MELODYGAN_CONFIG": str(file)}
    assert environment(variables).load_config() == load("demo", file)
    made = environment({**variables, "MELODYGAN_PIPELINES": "plain"}).load_config()
    assert list(made.trained_pipelines()) == ["plain"]
    assert made.codecs == preset("demo").codecs


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MELODYGAN_PRESET", "huge", r"MELODYGAN_PRESET must be demo, small, base, large.*, got 'huge'"),
        ("MELODYGAN_CONFIG", "none.yaml", r"MELODYGAN_CONFIG must be an existing YAML file, got 'none\.yaml'"),
        (
            "MELODYGAN_PIPELINES",
            "temporal_gan,x",
            r"MELODYGAN_PIPELINES must be names of pipelines: dense_gan, .*, temporal_plan, got 'x'",
        ),
        ("MELODYGAN_PIPELINES", "dense_gan,dense_gan", r"MELODYGAN_PIPELINES: train must be all different"),
    ],
)
def test_a_variable_that_makes_no_config_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        environment({name: value}).load_config()
