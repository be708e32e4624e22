"""The command `melodygan` itself: what it imports, where its commands come from, how it fails."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from melodygan_core import errors
from melodygan_core.cli import group, main
from melodygan_core.cli.group import DAGSTER_COMMANDS, ENTRY_POINTS, Commands
from melodygan_core.config.messages import ConfigError
from melodygan_core.settings import EnvironmentSettings, variable
from melodygan_dagster.cli import main as with_dagster

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "pandas", "pyarrow", "librosa", "dagster")
NAMES = sorted(with_dagster.commands)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def invoke(callback: Callable[[], None]) -> Result:
    """Calls a function as a command of a group."""
    group_of_one = Commands("one", commands={"fail": click.Command("fail", callback=callback)})
    return CliRunner().invoke(group_of_one, ["fail"])


def commands(command: click.Command, path: str = "melodygan") -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, by path."""
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom melodygan_dagster.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "assert 'pydantic' not in sys.modules, 'the config takes longer to import than help may'\n"
        f"for name in {NAMES!r}: main([name, '--help'], standalone_mode=False)\n"
        f"assert not set({HEAVY!r}) & set(sys.modules), sorted(set({HEAVY!r}) & set(sys.modules))"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in NAMES)
    assert done.stdout.count("Usage:") == len(NAMES) + 1


def test_the_core_knows_nothing_of_dagsters_package() -> None:
    code = (
        "import sys\nfrom melodygan_core.cli import main\n"
        "main(['generate', '--help'], standalone_mode=False)\nassert 'melodygan_dagster' not in sys.modules"
    )
    assert python(code).returncode == 0


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "melodygan_core.cli", "generate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: melodygan generate ")


def test_declared_entry_points_are_the_commands_of_their_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = project["entry-points"][ENTRY_POINTS]
    assert sorted(declared) == sorted(DAGSTER_COMMANDS)
    for name, value in declared.items():
        command = metadata.EntryPoint(name, value, ENTRY_POINTS).load()
        assert isinstance(command, click.Command) and command.name == name
    assert metadata.EntryPoint("melodygan", project["scripts"]["melodygan"], "").load() is main


def test_an_entry_point_is_listed_and_loaded_when_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "added_by_a_test.py").write_text(
        "import click\n\n@click.command()\ndef studio():\n    '''Opens the studio.'''\n    click.echo('open')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    added = metadata.EntryPoint("studio", "added_by_a_test:studio", ENTRY_POINTS)
    monkeypatch.setattr(group, "entry_points", lambda: {"studio": added})
    one = Commands("one", commands={"own": click.Command("own")})
    assert CliRunner().invoke(one, ["own"]).exit_code == 0
    assert "added_by_a_test" not in sys.modules
    assert CliRunner().invoke(one, ["studio"]).output == "open\n"
    assert "studio  Opens the studio." in CliRunner().invoke(one, ["--help"]).output
    assert CliRunner().invoke(one, ["other"]).exit_code == 2


@pytest.mark.parametrize("missing", ["melodygan_dagster", "dagster"])
def test_without_dagster_the_core_works_and_run_says_what_to_install(missing: str, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("https://music.example/a.mp3\n", "utf-8")
    # The entry points as this source tree declares them, whatever is installed.
    code = (
        f"import sys\nsys.modules[{missing!r}] = None\n"
        "from importlib.metadata import EntryPoint\nfrom melodygan_core.cli import group, main\n"
        "run = EntryPoint('run', 'melodygan_dagster.cli.graph:run', group.ENTRY_POINTS)\n"
        "group.entry_points = lambda: {'run': run}\nmain(prog_name='melodygan')"
    )
    assert "Generates new pieces" in python(code, "generate", "--help").stdout
    assert python(code, "--help").returncode == 0
    sources, store = str(tmp_path / "s.txt"), str(tmp_path / "store")
    failed = python(code, "run", "--sources", sources, "--store", store, "--preset", "demo")
    assert failed.returncode == 1
    assert failed.stderr == (
        "Error: `melodygan run` needs the extra dagster, which is not installed: "
        ".venv/bin/uv pip install -e '.[dagster]'\n"
    )


@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (errors.InputError("x must be 1, got 2"), 2, "input", False),
        (errors.TrackError("it is gone"), 1, "track", False),
        (errors.TransientError("it is busy"), 1, "transient", True),
        (errors.StorageError("the disk is full"), 1, "storage", True),
        (errors.MelodyGANError("training diverged"), 1, "failed", False),
    ],
)
def test_an_error_is_one_sentence_and_a_status(
    error: errors.MelodyGANError, status: int, code: str, retryable: bool
) -> None:
    def fail() -> None:
        raise error

    done = CliRunner().invoke(
        Commands("one", commands={"fail": click.Command("fail", callback=fail)}), ["fail"]
    )
    assert (done.exit_code, done.stdout, done.stderr) == (status, "", f"Error: {error}\n")
    assert (error.code, error.retryable) == (code, retryable)


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("duration_s must be 1, got 2", "--seconds must be 1, got 2"),
        (
            "out must be new (or set `overwrite`), got 'out'",
            "--out must be new (or set `--overwrite`), got 'out'",
        ),
        ("release must be a folder, got `out`s", "release must be a folder, got `--out`s"),
        ("data.out must be 1; out must be 2, got `x`", "data.out must be 1; out must be 2, got `x`"),
        ("seconds must be 1, got 2", "seconds must be 1, got 2"),
    ],
)
def test_an_error_about_a_field_names_its_option(message: str, printed: str) -> None:
    def fail(**values: object) -> None:
        raise errors.InputError(message)

    params = [
        click.Argument(["release"]),
        click.Option(["--seconds", "duration_s"]),
        click.Option(["--out"]),
        click.Option(["--overwrite"]),
    ]
    command = click.Command("fail", callback=fail, params=[*params])
    done = CliRunner().invoke(Commands("one", commands={"fail": command}), ["fail", "x"])
    assert done.stderr == f"Error: {printed}\n"


def test_all_problems_of_a_config_name_their_options() -> None:
    def fail(out: str) -> None:
        raise ConfigError("a must be 1, got 2", "out must be 2, got 3")

    command = click.Command("fail", callback=fail, params=[click.Option(["--out"])])
    done = CliRunner().invoke(Commands("one", commands={"fail": command}), ["fail"])
    assert done.stderr == "Error: a must be 1, got 2; --out must be 2, got 3\n"


def test_options_of_a_config_show_its_descriptions_defaults_and_bounds() -> None:
    text = " ".join(CliRunner().invoke(main, ["interpolate", "--help"], terminal_width=200).output.split())
    assert "--steps INTEGER Sounds to make, both ends included. [default: 5; 2 to 100]" in text
    text = " ".join(CliRunner().invoke(main, ["augment", "--help"], terminal_width=200).output.split())
    assert "--rights [own|licensed|open|unknown]" in text
    assert "[default: 0.5; 0 to 1]" in text


def test_a_full_disk_is_one_sentence() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device", "x.wav")

    done = CliRunner().invoke(
        Commands("one", commands={"fail": click.Command("fail", callback=fail)}), ["fail"]
    )
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: the disk is full (x.wav)") and "Traceback" not in done.stderr


def test_an_unexpected_error_keeps_its_traceback() -> None:
    def fail() -> None:
        import melodygan_core.not_there  # noqa: F401  # pyrefly: ignore[missing-import]

    done = CliRunner().invoke(
        Commands("one", commands={"fail": click.Command("fail", callback=fail)}), ["fail"]
    )
    assert isinstance(done.exception, ModuleNotFoundError)


def test_options_read_the_variables_that_settings_declare() -> None:
    declared = {variable(field) for field in EnvironmentSettings.model_fields}
    read = {p.envvar for _, c in commands(with_dagster) for p in c.params if p.envvar}
    assert read and read <= declared


@pytest.mark.parametrize(("path", "command"), [*commands(with_dagster)])
def test_help_is_plain_english(path: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=path)).lower()
    assert not {"mend", "mended", "torn", "family"} & set(text.replace(".", " ").split())
    described = [p for p in command.params if isinstance(p, click.Option)]
    assert command.help and all(p.help for p in described)
