"""A release that is pushed to a hub: what arrives, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from melodygan_core import release
from melodygan_core.errors import InputError, MelodyGANError
from melodygan_core.release import manifest
from melodygan_core.services import push as service
from tests.core.hub import TOKEN, Hub, serving_hub

pytestmark = pytest.mark.slow


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving_hub() as made:
        yield made


def push(
    folder: Path, hub: Hub, home: Path, *options: str, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    """`melodygan push` in a process of its own: the library reads its settings when it is imported."""
    own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", "melodygan_core.cli", "push", str(folder), "somebody/music"]
    environment = {**os.environ, **own}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_every_file_arrives_with_a_card(temporal_folder: Path, hub: Hub, tmp_path: Path) -> None:
    done = push(temporal_folder, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{hub.url}/somebody/music/commit/")
    (created,) = hub.created
    assert (created["organization"], created["name"], created["visibility"]) == ("somebody", "music", "private")
    files = {p.relative_to(temporal_folder).as_posix(): p for p in temporal_folder.rglob("*") if p.is_file()}
    assert set(hub.files) == {*files, "README.md"}
    assert all(hub.files[name] == path.read_bytes() for name, path in files.items())
    described = manifest.read(temporal_folder)
    assert hub.messages == [f"temporal_gan {described.version}"]

    _, front, card = hub.files["README.md"].decode().split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "cc0-1.0" and facts["library_name"] == "melodygan"
    assert {"audio", "melodygan", "temporal_gan", "melodygan-prior-temporal-gan"} <= set(facts["tags"])
    assert facts["sources"] == [t["url"] for t in described.sources["tracks"]]
    assert card.strip() == (temporal_folder / "MODEL_CARD.md").read_text("utf-8").strip()

    # What was pushed is a release again.
    for name, content in hub.files.items():
        (tmp_path / "again" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "again" / name).write_bytes(content)
    assert release.load(tmp_path / "again").version == described.version

    refused = push(temporal_folder, hub, tmp_path / "home", token="hf_other")
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        "Error: repo must be one that your token may write to, got 'somebody/music'"
    )


def test_licences_that_differ_are_other_and_text_of_strangers_is_quoted(temporal_folder: Path) -> None:
    described = manifest.read(temporal_folder)
    tracks = described.sources["tracks"]
    tracks[0] |= {"url": "https://x.example/a\n---\nlicense: mit"}
    described.sources["licences"] = ["CC-BY-4.0", "unknown"]
    text = service.readme(described, "# Card\n")
    _, front, card = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert (facts["license"], facts["license_name"]) == ("other", "those-of-the-sources")
    assert facts["sources"][0] == "https://x.example/a --- license: mit"
    assert card == "\n# Card\n"


@pytest.mark.parametrize("repo", ["music", "a/b/c", "a b/c", "../x", "https://hub.example/a/b", ""])
def test_what_is_no_repository_is_refused(temporal_folder: Path, repo: str) -> None:
    with pytest.raises(InputError, match="repo must be OWNER/NAME"):
        service.push(temporal_folder, repo)


def test_what_is_no_release_or_was_changed_is_refused(temporal_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="release must be a release folder on this machine"):
        service.push(Path("s3://bucket/releases/x"), "a/b")
    with pytest.raises(InputError, match="release must be a release folder"):
        service.push(tmp_path, "a/b")
    path = temporal_folder / "prior" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "x": 1}), "utf-8")
    with pytest.raises(InputError, match="SHA-256 of"):
        service.push(temporal_folder, "a/b")


def test_a_missing_library_names_the_extra(temporal_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MelodyGANError, match=r"push needs the extra hub, .*'\.\[hub\]'"):
        service.push(temporal_folder, "a/b")
