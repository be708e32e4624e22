"""The built wheel, without what its extras bring: `generate` works, and what is missing is named."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from melodygan_core.errors import EXTRAS, MelodyGANError, extra_of, missing, require_extra
from tests.core.conftest import temporal_folder, temporal_store

__all__ = ["temporal_folder", "temporal_store"]
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Run at the start of a process: imports of the extras fail as where they are not installed.
HIDE = "import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was unpacked to; building it needs no network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def without_extras(wheel: Path) -> dict[str, str]:
    """The environment of a process that has the wheel and none of the extras, nor the dependencies of tests."""
    names = {name for modules in EXTRAS.values() for name in modules} - {"melodygan_dagster"}
    (wheel / "sitecustomize.py").write_text(HIDE.format(names=names), "utf-8")
    # The preset of the tests is in their processes alone.
    own = {name: value for name, value in os.environ.items() if not name.startswith("MELODYGAN_")}
    return {**own, "PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}


def melodygan(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "melodygan_core.cli", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_the_wheel_generates_without_any_extra(
    without_extras: dict[str, str], wheel: Path, temporal_folder: Path, tmp_path: Path
) -> None:
    code = [sys.executable, "-c", "import melodygan_core; print(melodygan_core.__file__)"]
    found = subprocess.run(code, env=without_extras, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(wheel)
    done = melodygan(
        without_extras, tmp_path, "generate", str(temporal_folder), "--count", "1", "--seconds", "1"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "samples" / "sample-000.wav").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run",), "`melodygan run` needs the extra dagster, which is not installed"),
        (("demo",), "`melodygan demo` needs the extra dagster, which is not installed"),
        (("push", ".", "a/b"), "push needs the extra hub, which is not installed"),
        (
            ("train", "vocoder_checkpoint", "--tensorboard", "runs"),
            "tensorboard=runs needs the extra tensorboard, which is not installed",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(
    without_extras: dict[str, str], temporal_folder: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = melodygan(without_extras, temporal_folder, *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {sentence}: "), done.stderr


def test_every_extra_is_declared_and_none_is_in_the_core(wheel: Path) -> None:
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    facts = Parser().parsestr(metadata.read_text("utf-8"))
    assert set(facts.get_all("Provides-Extra") or ()) == set(EXTRAS)
    core = [line for line in facts.get_all("Requires-Dist") or () if "extra ==" not in line]
    names = {line.partition("[")[0].split("<")[0].split(">")[0].strip().replace("-", "_") for line in core}
    assert {"torch", "librosa"} < names
    assert not names & {name for modules in EXTRAS.values() for name in modules}


def test_a_module_is_known_by_its_extra() -> None:
    assert extra_of("dagster._core.x") == "dagster" and extra_of("yt_dlp") == "ingest"
    assert extra_of("numpy") == extra_of(None) == ""
    require_extra("this", "dagster")
    assert missing("`melodygan ui`", "web").endswith("'.[web]'")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        MelodyGANError, match=r"^this needs the extra hub, which is not installed: .*'\.\[hub\]'$"
    ):
        require_extra("this", "hub")
