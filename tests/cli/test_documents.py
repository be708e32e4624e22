"""The documents are true: commands, options, settings, modules and files that they name exist.

Commands are meant to be pasted into bash and zsh from the root of a clone. Interactive zsh expands unquoted
brackets and does not take `#` as the start of a comment.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest

from melodygan_core.catalogue.sources import read_sources
from melodygan_core.cli.train import asset_names
from melodygan_core.config.config import Config
from melodygan_core.config.presets import load
from melodygan_core.settings import EnvironmentSettings, variable
from melodygan_dagster.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MELODYGAN = ".venv/bin/melodygan"
# What the environment of the clone has; a bare name may be another one, or none.
OURS = ("melodygan", "python", "torchrun", "pytest", "dagster", "dg", "pip", "uv")
DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def command_lines(text: str) -> list[str]:
    """Lines of the bash blocks, continued ones joined; what is fed to a command by `<<` is left out."""
    joined = "\n".join(blocks(text, "bash")).replace("\\\n", " ")
    return re.sub(r"(<<'(\w+)'\n).*?^\2\n", r"\1", joined, flags=re.DOTALL | re.MULTILINE).splitlines()


def inline_code(text: str) -> list[str]:
    """What is between backticks outside the blocks, on one line."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def commands_of(text: str) -> list[str]:
    """Every command of melodygan, in blocks and between backticks."""
    return [line for line in [*command_lines(text), *inline_code(text)] if f"{MELODYGAN} " in line]


def unknown_parts(line: str) -> list[str]:
    """Commands and options of a documented line that do not exist."""
    words = shlex.split(line.partition(f"{MELODYGAN} ")[2])
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in command.commands:
            return [name]
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    return [word for word in words if word.startswith("-") and word not in known]


def unsafe_parts(line: str) -> list[str]:
    """What bash or interactive zsh would read in another way than it looks."""
    quoted = re.sub(r"'[^']*'|\"[^\"]*\"", "''", line)
    return re.findall(r"[*?\[\]]|(?:^|\s)#", quoted)


@DOCUMENT
def test_documented_commands_and_their_options_exist(document: Path) -> None:
    wrong = {line: unknown_parts(line) for line in commands_of(document.read_text("utf-8"))}
    assert not {line: parts for line, parts in wrong.items() if parts}


@DOCUMENT
def test_commands_in_blocks_have_their_required_arguments(document: Path) -> None:
    for line in command_lines(document.read_text("utf-8")):
        if f"{MELODYGAN} " not in line:
            continue
        words = shlex.split(line.partition(f"{MELODYGAN} ")[2])
        command: click.Command = main
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        values, _, _ = command.make_parser(click.Context(command)).parse_args(words)
        arguments = [p.name for p in command.params if isinstance(p, click.Argument) and p.required]
        assert all(values.get(name) and isinstance(values[name], str | tuple) for name in arguments), line


@DOCUMENT
def test_commands_work_in_bash_and_zsh_from_a_clone(document: Path) -> None:
    text = document.read_text("utf-8")
    for line in command_lines(text):
        assert not unsafe_parts(line), line
        assert shlex.split(line)[:1] == [] or shlex.split(line)[0] not in OURS, line
    bare = [code for code in inline_code(text) if code.split()[0] in OURS and len(code.split()) > 1]
    assert not bare, f"begin with .venv/bin/: {bare}"


def test_the_command_of_the_model_card_exists() -> None:
    (line,) = command_lines((ROOT / "melodygan_core" / "release" / "model_card.py").read_text("utf-8"))
    assert line.startswith(f"{MELODYGAN} ")
    assert not unknown_parts(line) and not unsafe_parts(line)


def test_the_documents_have_what_is_checked() -> None:
    texts = [document.read_text("utf-8") for document in DOCUMENTS]
    assert sum(len(commands_of(text)) for text in texts) > 40
    assert sum(len(blocks(text, "yaml")) for text in texts) >= 3


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("pip install melodygan[ray]", ["[", "]"]),
        ("pip install 'melodygan[ray]'", []),
        ("rm data/*.wav", ["*"]),
        ("make demo   # everything", [" #"]),
        ("printf 'a # b' > x", []),
    ],
)
def test_what_a_shell_reads_in_another_way_is_found(line: str, parts: list[str]) -> None:
    assert unsafe_parts(line) == parts


def test_unknown_commands_and_options_are_found() -> None:
    assert unknown_parts(f"{MELODYGAN} compose x") == ["compose"]
    assert unknown_parts(f"{MELODYGAN} generate x --count 1 --family y") == ["--family"]
    assert not unknown_parts(f"{MELODYGAN} config show --preset small")


@DOCUMENT
def test_yaml_blocks_are_read_by_the_loaders(document: Path, tmp_path: Path) -> None:
    readers = {"config.yaml": lambda path: load("small", path), "sources.yaml": read_sources}
    for block in blocks(document.read_text("utf-8"), "yaml"):
        name = block.partition("\n")[0].removeprefix("# ")
        assert name in readers, f"the first line names the file, as in `# config.yaml`: {block}"
        file = tmp_path / name
        file.write_text(block, "utf-8")
        assert readers[name](file)


@DOCUMENT
def test_settings_between_backticks_are_read_by_the_loader(document: Path, tmp_path: Path) -> None:
    stages = "|".join(Config.model_fields)
    for code in inline_code(document.read_text("utf-8")):
        if re.match(rf"({stages}): \{{", code):
            file = tmp_path / "config.yaml"
            file.write_text(code, "utf-8")
            load("small", file)


@DOCUMENT
def test_documented_files_and_modules_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    packages = ("melodygan_core", "melodygan_dagster", "melodygan_web")
    folders = (*packages, "tests", "benchmarks", "scripts")
    names = {path.name for top in folders for path in (ROOT / top).rglob("*.py")}
    words = [word for code in [*inline_code(text), *command_lines(text)] for word in code.split()]
    files = [word for word in words if re.fullmatch(r"[\w./-]+\.py", word)]
    missing = [word for word in files if not ((ROOT / word).is_file() if "/" in word else word in names)]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing += [link for link in links if not (document.parent / link).exists()]
    modules = re.findall(rf"\b(?:{'|'.join(packages)}|scripts)(?:\.\w+)+", " ".join(words))
    missing += [name for name in modules if not name.endswith((".py", ".yaml")) and not _is_module(name)]
    assert not missing


@DOCUMENT
def test_documented_variables_and_make_targets_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    declared = {variable(field) for field in EnvironmentSettings.model_fields}
    assert set(re.findall(r"MELODYGAN_[A-Z_]+", text)) <= declared
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    made = [code.split()[1] for code in [*command_lines(text), *inline_code(text)] if code.startswith("make ")]
    assert set(made) <= set(targets)


@DOCUMENT
def test_documented_checkpoints_are_assets(document: Path) -> None:
    text = document.read_text("utf-8")
    named = set(re.findall(r"\b(?:\w+/)?[a-z]+_checkpoint\b", re.sub(r"<\w+>[/_]|test_\w+", "", text)))
    bare = {name.partition("/")[2] or name for name in asset_names()}
    assert named <= {*asset_names(), *bare}


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
